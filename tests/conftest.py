"""What all tests share: no network, a ledger of their own, and small models.

The real default model comes from the cache that a user has, so that it is fetched once.
"""

import os

# Before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

import gc
import ipaddress
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.warm_kernels import warm_kernels

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CORPUS = [
    "The soup was warm and the staff were kind, so we stayed until they closed.",
    "Terrible service: we waited an hour, and the meal arrived cold.",
    "Is this review positive or negative? Answer with one word.",
    "Summarize the following text in one sentence.",
    "A quiet film about two brothers, and a good deal better than its trailer.",
    "user assistant system positive negative neutral",
    "Er kam spät an, aber das Zimmer war schön. 房间很干净。 👍",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: (not _starts_many(item.nodeid), not _is_long(item)))


class _ByModule(LoadScopeScheduling):
    """Gives a worker whole modules, whose fixtures another would make again.

    What starts many processes is on one worker: several browsers at a time would wait for each
    other, and Ray beside one takes longer to start than it waits.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "many" if _starts_many(nodeid) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByModule | None:
    return _ByModule(config, log) if config.getoption("dist") == "loadscope" else None


def _starts_many(nodeid: str) -> bool:
    return nodeid.startswith(("tests/browser/", "tests/frame/running/test_ray.py"))


def _is_long(item: pytest.Item) -> bool:
    asks_the_real_model = "smollm2" in getattr(item, "fixturenames", ())
    return asks_the_real_model or item.get_closest_marker("long") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """xdist ends all tests where one prints half a surrogate pair, which it cannot send."""
    report = yield
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    said = str(report.longrepr)
    if _sendable(said) != said:
        report.longrepr = _sendable(said)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class NetworkBlocked(OSError):
    """A test tried to leave this machine."""


class NetworkGuard:
    """Refuses connections to anything but the loopback interface."""

    def __init__(self) -> None:
        self.closed = True
        self._connect = socket.socket.connect
        self._connect_ex = socket.socket.connect_ex

    def install(self, patch: pytest.MonkeyPatch) -> None:
        guard = self

        def connect(self: socket.socket, address: Any) -> None:
            guard.check(self, address)
            return guard._connect(self, address)

        def connect_ex(self: socket.socket, address: Any) -> int:
            guard.check(self, address)
            return guard._connect_ex(self, address)

        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)

    def check(self, made: socket.socket, address: Any) -> None:
        if not self.closed or made.family not in (socket.AF_INET, socket.AF_INET6):
            return
        host = address[0]
        if host == "localhost":
            return
        try:
            inside = ipaddress.ip_address(host).is_loopback
        except ValueError:
            inside = False
        if not inside:
            raise NetworkBlocked(f"a test tried to connect to {host}:{address[1]}")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let through what is set-up and not test: the first fetch of a model."""
        self.closed = False
        try:
            yield
        finally:
            self.closed = True


@pytest.fixture(scope="session", autouse=True)
def network_guard() -> Iterator[NetworkGuard]:
    """No test leaves this machine."""
    with pytest.MonkeyPatch.context() as patch:
        guard = NetworkGuard()
        guard.install(patch)
        yield guard


@pytest.fixture(scope="session", autouse=True)
def activity_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests' processes tell what they hold and do; never where the user's tell it."""
    folder = tmp_path_factory.mktemp("activity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBLLM_ACTIVITY", str(folder))
        yield folder


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Leaves what was there before a module's tests out of the collections of garbage in them.

    There is one at each unloading of a model. To go through all of Python's libraries takes longer
    than most of these tests.
    """
    gc.collect()  # what the modules before left, which is little where they began with this
    gc.freeze()


@pytest.fixture(autouse=True)
def ledger_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger of one test, which starts empty and is never the user's."""
    path = tmp_path / "ledger.sqlite3"
    monkeypatch.setenv("NBLLM_LEDGER", str(path))
    return path


@pytest.fixture(scope="session")
def jupyter_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for JUPYTER_PATH, with a kernel whose imports are done; one for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        warm_kernels(folder, needed_by=os.getpid())
        return folder
    warm_kernels(folder.parent, needed_by=os.getppid())
    return folder.parent


def computes_in_bf16() -> bool:
    """Whether this processor has bf16, or would emulate it at a twentieth of the speed."""
    import torch

    from nbllm.models.devices.device import choose_dtype

    return choose_dtype("auto", torch.device("cpu")) == torch.bfloat16


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets that NBLLM_DATA names."""
    named = os.environ.get("NBLLM_DATA")
    if not named:
        pytest.skip("set NBLLM_DATA to the folder of data sets, to test on them")
    return Path(named)


@pytest.fixture(scope="session")
def smollm2(network_guard: NetworkGuard) -> "Model":
    """The default model, as `nbllm.load()` gives it."""
    import nbllm

    with network_guard.open():
        return nbllm.load()


@pytest.fixture(scope="session")
def gemma(network_guard: NetworkGuard) -> "Model":
    """A small multilingual base model, whose licence the tests accept."""
    import nbllm

    with network_guard.open():
        return nbllm.load("gemma3-270m", accept_license=True)


def byte_tokenizer() -> "PreTrainedTokenizerFast":
    """A small byte-level BPE tokenizer with a chat template; any text goes through it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )


def word_tokenizer() -> "PreTrainedTokenizerFast":
    """A small WordPiece tokenizer that writes [CLS] text [SEP], as BERT's does."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )


def seeded(network: "type[PreTrainedModel]", config: "PretrainedConfig") -> "PreTrainedModel":
    """The same random weights each time, in float32, without touching the caller's generator."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(config).eval()


def tiny_network(
    kind: "Kind",
) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """Two layers of random weights of one kind, and a tokenizer that goes with them."""
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    if kind == "causal":
        tokenizer = byte_tokenizer()
        return (
            seeded(
                LlamaForCausalLM,
                LlamaConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=64,
                    intermediate_size=128,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=2048,
                    # Wide enough that attention and labels are not all alike.
                    initializer_range=0.2,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                ),
            ),
            tokenizer,
        )
    if kind == "seq2seq":
        tokenizer = byte_tokenizer()
        return (
            seeded(
                BartForConditionalGeneration,
                BartConfig(
                    vocab_size=len(tokenizer),
                    d_model=64,
                    encoder_layers=2,
                    decoder_layers=2,
                    encoder_attention_heads=4,
                    decoder_attention_heads=4,
                    encoder_ffn_dim=128,
                    decoder_ffn_dim=128,
                    max_position_embeddings=256,
                    init_std=0.2,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                    decoder_start_token_id=tokenizer.eos_token_id,
                    forced_eos_token_id=None,
                ),
            ),
            tokenizer,
        )
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
    network = BertForSequenceClassification if kind == "classifier" else BertModel
    return seeded(network, config), tokenizer


def tiny_model(kind: "Kind") -> "Model":
    """A random model of one kind, as `nbllm.load` would return it."""
    from nbllm.models.model import Model

    network, tokenizer = tiny_network(kind)
    return Model(
        network=network,
        tokenizer=tokenizer,
        kind=kind,
        name=f"tiny-{kind}",
        source="made in the test",
        revision="0" * 64,
        quantization="none",
        context_length=network.config.max_position_embeddings,
        licence=None,
    )


@pytest.fixture
def tiny_llama() -> "Model":
    """A causal model: 2 layers, 4 heads over 2 of keys and values, 2048 tokens of context."""
    return tiny_model("causal")


@pytest.fixture
def tiny_classifier() -> "Model":
    """A BERT with a head of two labels, negative and positive."""
    return tiny_model("classifier")


@pytest.fixture
def tiny_encoder() -> "Model":
    """A BERT without a head."""
    return tiny_model("encoder")


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[["Kind"], Path]:
    """Writes a tiny model of one kind as a folder that `nbllm.load` takes.

    `tiny_folder("causal")` holds safetensors, a config and the tokenizer.
    """

    def write(kind: "Kind") -> Path:
        network, tokenizer = tiny_network(kind)
        folder = tmp_path / f"tiny-{kind}"
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write
