"""Models and adapters of strangers: each file may hold anything, and is loaded or refused at once.

A refusal is nbllm's own error and takes no second of the processor's time; what is no nonsense
loads as ever.
"""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from nbllm.errors import NbllmError, UnsupportedModelError
from nbllm.models.adapter import apply, check
from nbllm.models.architecture import refuse_hollow, skeleton
from nbllm.models.configuration import (
    context_length_of,
    kind_of,
    read_configuration,
    refuse_unsized,
)
from nbllm.models.fetch.checkpoint import _BITS, INDEX, refuse_damaged
from nbllm.models.fetch.sources import fetch, fetch_adapter, fetch_configuration
from nbllm.models.gguf.check import check_header
from nbllm.models.kind import Kind
from nbllm.models.loader import load
from nbllm.models.memory.budget import kv_bytes
from nbllm.models.memory.plan import Plan
from nbllm.models.quantization.published import stored_bytes
from nbllm.models.weights import _tokenizer
from tests.conftest import CHAT_TEMPLATE, tiny_network
from tests.models import gguf_files

IDS = torch.arange(3, 40)[None]
# What no field is, or what too much of it is.
ODD: tuple[Any, ...] = (
    "x", -1, 0, 10**6, 10**30, 1.5, math.nan, True, None, [], [1, 2, 3], {"a": 1},
)  # fmt: skip


@contextmanager
def at_once(what: object) -> Iterator[None]:
    """Fail where what is done inside takes the processor a second, or raises another's error."""
    began = time.thread_time()
    try:
        yield
    except NbllmError as error:
        assert len(str(error)) < 2000 and "\n" not in str(error), what
    except Exception as error:
        raise AssertionError(f"{what} ends in {type(error).__name__}: {error}") from error
    assert time.thread_time() - began < 1, f"{what} took too long"


def known_of(folder: Path) -> None:
    """All that is found out of a configuration, before weights are read."""
    fetched = fetch_configuration(folder)
    config = read_configuration(fetched)
    kind = kind_of(config, fetched.source)
    refuse_unsized(config, fetched.source)
    length = context_length_of(config, fetched)
    network = skeleton(config, kind)
    assert length >= 1 and network.num_parameters() > 0
    if kind in ("causal", "seq2seq"):
        assert kv_bytes(config, torch.float32, length) >= 0


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classifier"])
def test_every_field_of_a_configuration(kind: Kind, tmp_path: Path) -> None:
    network, _ = tiny_network(kind)
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    plain = json.loads(file.read_text())
    known_of(tmp_path)
    for field in plain:
        for value in ODD:
            file.write_text(json.dumps(plain | {field: value}))
            with at_once(f"{field}={value!r}"):
                known_of(tmp_path)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"]
)
def test_every_field_of_a_tokenizer(name: str, tmp_path: Path) -> None:
    network, tokenizer = tiny_network("causal")
    tokenizer.save_pretrained(tmp_path)
    network.config.save_pretrained(tmp_path)
    file = tmp_path / name
    plain = json.loads(file.read_text()) if file.is_file() else dict(tokenizer.special_tokens_map)
    assert read_tokenizer(tmp_path).is_fast
    for field in plain:
        for value in ODD:
            file.write_text(json.dumps(plain | {field: value}))
            with at_once(f"{field}={value!r}"):
                read_tokenizer(tmp_path)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, as it is read before its weights."""
    fetched = fetch_configuration(folder)
    plan = Plan(
        folder=fetched.folder,
        revision="",
        kind="causal",
        context_length=128,
        quantize="none",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return _tokenizer(plan, {"local_files_only": True, "trust_remote_code": False})


# -- files, and what they name ---------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model in shards, with its tokenizer; copied before it is changed."""
    network, tokenizer = tiny_network("causal")
    folder = tmp_path_factory.mktemp("plain")
    network.save_pretrained(folder, max_shard_size="100kB")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(plain_folder: Path, tmp_path: Path) -> Path:
    """A causal model in shards, to be changed."""
    return Path(shutil.copytree(plain_folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def plain_adapter(network: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for it; copied before it is changed."""
    made = tmp_path_factory.mktemp("adapter")
    settings = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(copy.deepcopy(network), settings).save_pretrained(made)
    return made


@pytest.fixture
def adapter(plain_adapter: Path, tmp_path: Path) -> Path:
    """A LoRA adapter, to be changed."""
    return Path(shutil.copytree(plain_adapter, tmp_path / "adapter"))


def refused_at_once(call: Callable[[], object]) -> str:
    """What nbllm says where it refuses, within a second of the processor's time."""
    began, began_waiting = time.thread_time(), time.monotonic()
    with pytest.raises(NbllmError) as refused:
        call()
    assert time.thread_time() - began < 1 and time.monotonic() - began_waiting < 20
    return str(refused.value)


def change(file: Path, **fields: Any) -> None:
    """Write other fields into a JSON file."""
    stated = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(stated | fields))


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors", "/etc/x.safetensors", "..", ".", "", "a/../../x.safetensors",
        "sub/x.safetensors", "..\\x.safetensors", "C:\\x.safetensors", "C:x.safetensors",
        "file:///x.safetensors", ".x.safetensors", "x.safetensors\0", "x.bin", "x" * 300,
        "~/x.safetensors", None, 1, ["x.safetensors"], {"a": "x.safetensors"},
    ],
)  # fmt: skip
def test_an_index_names_only_files_beside_it(name: Any, folder: Path) -> None:
    (folder.parent / "x.safetensors").write_bytes(b"")
    change(folder / INDEX, weight_map={"lm_head.weight": name})
    said = refused_at_once(lambda: fetch(folder))
    assert INDEX in said


@pytest.mark.parametrize("listed", [None, [], ["x"], "x", 1, {}, {"a": 1}])
def test_an_index_that_lists_nothing(listed: Any, folder: Path) -> None:
    change(folder / INDEX, weight_map=listed)
    assert "does not list which file" in refused_at_once(lambda: fetch(folder))


def test_files_may_be_links_as_in_the_cache_of_the_hub(folder: Path) -> None:
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(Path("..") / "blobs" / str(number))
    with load(folder, quantize="none") as model:
        assert model.kind == "causal"


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00006.safetensors",
    "tokenizer.json", "tokenizer_config.json", "generation_config.json", "training.json",
    "README.md", "chat_template.jinja", "anything"])  # fmt: skip
@pytest.mark.parametrize("what", ["FIFO", "device", "folder"])
def test_what_is_no_regular_file_is_not_opened(name: str, what: str, folder: Path) -> None:
    file = folder / name
    file.unlink(missing_ok=True)
    if what == "FIFO":
        os.mkfifo(file)
    elif what == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    if what == "folder" and name in ("README.md", "anything"):
        fetch(folder)  # it is never opened
        return
    assert str(file) in refused_at_once(lambda: fetch(folder))
    assert str(file) in refused_at_once(lambda: fetch_configuration(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[" * 100_000),
        ("config.json", "[]"),
        ("config.json", b"\xff\xfe"),
        ("config.json", json.dumps({"text_config": {"num_hidden_layers": 10**6}})),
        ("config.json", json.dumps({"a": [{"num_local_experts": 10**9}]})),
        ("config.json", json.dumps({"num_labels": 10**9})),
        ("config.json", json.dumps({"attn_implementation": "attacker/kernel"})),
        ("config.json", json.dumps({"transformers_weights": "adapter_model.bin"})),
        ("config.json", json.dumps({"rms_norm_eps": math.nan})),
        ("tokenizer_config.json", "null"),
        ("tokenizer_config.json", json.dumps({"chat_template": [1]})),
        ("generation_config.json", "[1]"),
        ("special_tokens_map.json", "[1]"),
        ("added_tokens.json", "{" * 100_000),
        ("chat_template.jinja", "x" * 2_000_000),
        ("modules.json", json.dumps([{"type": "a.Pooling", "path": "../elsewhere"}])),
        ("modules.json", json.dumps([{"type": "a.Pooling", "path": "/etc"}])),
        ("modules.json", json.dumps([{"type": "a.Pooling"}])),
        ("modules.json", json.dumps({"a": 1})),
        ("adapter_config.json", json.dumps({"base_model_name_or_path": "attacker/model"})),
    ],
)
def test_what_no_model_holds(name: str, content: str | bytes, folder: Path) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert name in refused_at_once(lambda: fetch(folder))
    assert name in refused_at_once(lambda: fetch_configuration(folder))


def test_a_vocabulary_of_8_gb(folder: Path) -> None:
    os.truncate(folder / "tokenizer.json", 8_000_000_000)
    assert "tokenizer.json has 8,000,000,000 bytes" in refused_at_once(lambda: fetch(folder))


@pytest.mark.parametrize(
    "sizes",
    [
        {"vocab_size": 3_000_000},
        {"hidden_size": 40_000, "head_dim": 10_000},
        {"intermediate_size": 1_000_000},
    ],
)
def test_a_network_that_its_files_cannot_hold(sizes: dict[str, int], folder: Path) -> None:
    change(folder / "config.json", **sizes)
    fetched = fetch(folder)
    network = skeleton(read_configuration(fetched), "causal")
    held = stored_bytes(folder)
    assert "states a network of" in refused_at_once(lambda: refuse_hollow(network, held, "it"))


def header(**tensors: Any) -> bytes:
    """A safetensors file with 8 bytes of weights, of which `a` is said to be two of F32."""
    plain = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"a": plain} | tensors).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def one(**fields: Any) -> bytes:
    return header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 8_000_000_000),
        struct.pack("<Q", 2**64 - 1),
        header(a=None), header(a=[]), header(a="x"), header(a={}),
        *(one(data_offsets=v) for v in (None, "ab", [0], [0, 8, 9], ["0", "8"], [8, 0], [0, 2**70],
            [0, -8], [0.0, 8.0], [0, math.nan], [True, 8], [4, 12], [0, 4], {"0": 8})),
        *(one(shape=v) for v in (None, [], [3], [-2], [2.0], ["2"], [2**63], [1] * 10_000, "2")),
        *(one(dtype=v) for v in (None, 1, "", "X9", "F16", ["F32"], {})),
        header(b={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),
        header(b={"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}),
        header(b={"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}),
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 4) + b"[]  ",
        struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
    ],
)  # fmt: skip
def test_headers_of_weights(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    if len(content) == 8:  # as long as it says
        os.truncate(file, min(8 + struct.unpack("<Q", content)[0], 8_000_000_100))
    assert "are damaged: a.safetensors" in refused_at_once(lambda: refuse_damaged(tmp_path, [file]))


@pytest.mark.parametrize("dtype", sorted(str(name) for name in _BITS))
def test_what_safetensors_reads_is_whole(dtype: str, tmp_path: Path) -> None:
    bits = _BITS[dtype]
    file = tmp_path / "a.safetensors"
    file.write_bytes(one(dtype=dtype, shape=[64 // bits] if bits != 6 else [2, 4]))
    if bits == 6:
        file.write_bytes(one(dtype=dtype, shape=[4], data_offsets=[0, 3])[:-5])
    refuse_damaged(tmp_path, [file])
    with safe_open(file, framework="np") as opened:
        assert list(opened.keys()) == ["a"]


# -- adapters --------------------------------------------------------------------------------

SLOW = "(a+)+$", "(.*a){25}", "(.*)*x", "(a|aa)+$", ".*.*.*.*.*.*.*.*.*=", "(?:a{0,1000}){0,1000}b"
NO_RE2 = r"(?!x).*q_proj", r"(a)\1", "(", "a)|(b", "[", "*", "(?P<n", "a{1001}", "x" * 20_000


@pytest.fixture(scope="module")
def network(plain_folder: Path) -> PreTrainedModel:
    """That of the folder; an adapter is put into a copy."""
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(plain_folder)
    return found


def put_into(network: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """A copy with the adapter in it, looked at as `load` does."""
    fetch_adapter(adapter)
    check(adapter, merge=False)
    return apply(copy.deepcopy(network), adapter, merge=False)


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules"])
@pytest.mark.parametrize("expression", [*SLOW, *NO_RE2])
def test_an_expression_takes_no_time(
    field: str, expression: str, adapter: Path, network: PreTrainedModel
) -> None:
    change(adapter / "adapter_config.json", **{field: expression})
    with at_once(expression):
        put_into(network, adapter)


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("expression", [*SLOW, *NO_RE2])
def test_an_expression_of_ranks_takes_no_time(
    field: str, expression: str, adapter: Path, network: PreTrainedModel
) -> None:
    change(adapter / "adapter_config.json", **{field: {expression: 4}})
    with at_once(expression):
        put_into(network, adapter)


@pytest.mark.parametrize(
    "field",
    ["target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "target_parameters"],
)
@pytest.mark.parametrize("name", [*SLOW, *NO_RE2])
def test_a_name_is_no_expression(field: str, name: str, adapter: Path) -> None:
    change(adapter / "adapter_config.json", **{field: [name]})
    said = refused_at_once(lambda: check(adapter, merge=False))
    assert field in said and "no name of a module" in said


@pytest.mark.parametrize("field", ["n_frequency_pattern", "layers_pattern", "rank_pattern"])
def test_keys_of_other_patterns_are_names(field: str, adapter: Path) -> None:
    change(adapter / "adapter_config.json", peft_type="OSF", **{field: {"(a+)+$": 1}})
    assert field in refused_at_once(lambda: check(adapter, merge=False))


EXPRESSIONS = (
    r".*\.(q_proj|v_proj)",
    r"model\.layers\.1\..*(q|k)_proj$",
    r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|up_proj))|(?:\bmodel\.layers\.[\d]{1,}\.mlp\.gate_proj)",
    r"^model.layers.[01].self_attn.o_proj$",
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_selects_what_peft_selects(
    expression: str, network: PreTrainedModel, tmp_path: Path
) -> None:
    settings = LoraConfig(
        r=2,
        target_modules=expression,
        exclude_modules=r".*layers\.0.*q_proj",
        init_lora_weights=False,
    )
    of_peft = get_peft_model(copy.deepcopy(network), settings)
    of_peft.save_pretrained(tmp_path)
    adapted = put_into(network, tmp_path)
    torch.testing.assert_close(adapted(IDS).logits, of_peft(IDS).logits)
    chosen = {name for name, module in adapted.named_modules() if hasattr(module, "lora_A")}
    assert chosen == set(of_peft.targeted_module_names) != set()


# peft saves them in this order, and the first that matches counts.
@pytest.mark.parametrize(
    "ranks",
    [
        {r".*v_proj": 6, r"layers\.0\..*_proj": 3, "q_proj": 5},
        {r"^model.layers.1.self_attn.q_proj": 7},
        {r".*1.*": 3, "layers.0.self_attn.v_proj": 8, "q_proj": 5},
        {"model.layers.0.self_attn.q_proj": 3},
    ],
)
def test_ranks_are_those_of_peft(
    ranks: dict[str, int], network: PreTrainedModel, tmp_path: Path
) -> None:
    settings = LoraConfig(
        r=2,
        target_modules=["q_proj", "v_proj"],
        rank_pattern=ranks,
        alpha_pattern=ranks,
        init_lora_weights=False,
    )
    of_peft = get_peft_model(copy.deepcopy(network), settings)
    of_peft.save_pretrained(tmp_path)
    adapted = put_into(network, tmp_path)
    torch.testing.assert_close(adapted(IDS).logits, of_peft(IDS).logits)


def test_every_field_of_an_adapter(adapter: Path, network: PreTrainedModel) -> None:
    file = adapter / "adapter_config.json"
    plain = json.loads(file.read_text())
    for field in plain:
        for value in ODD[::2]:
            file.write_text(json.dumps(plain | {field: value}))
            with at_once(f"{field}={value!r}"):
                put_into(network, adapter)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"r": 10**9}, "states a rank of 1,000,000,000"),
        ({"r": 300}, "not made for"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "imports whatever"),
        ({"layer_replication": [[0, 10**9]]}, "repeats layers"),
        ({"layer_replication": [["a", "b"]]}, "repeats layers"),
        ({"peft_type": "NOTHING"}, "is of type NOTHING"),
        ({"peft_type": ["LORA"]}, "is of type"),
        ({"lora_alpha": math.nan}, "no number"),
    ],
)
def test_what_no_adapter_states(
    fields: dict[str, Any], says: str, adapter: Path, network: PreTrainedModel
) -> None:
    change(adapter / "adapter_config.json", **fields)
    assert says in refused_at_once(lambda: put_into(network, adapter))


@pytest.mark.parametrize("base", ["attacker/model", "https://attacker/model"])
@pytest.mark.parametrize("merge", [False, True])
def test_nobody_asks_for_the_base_that_an_adapter_names(
    base: str, merge: bool, adapter: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*where: Any, **_: Any) -> Any:
        asked.append(where)
        raise OSError("there is no network")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    change(adapter / "adapter_config.json", base_model_name_or_path=base)
    with load(folder, quantize="none", adapter=adapter, merge_adapter=merge) as model:
        assert model.adapter == str(adapter)
    assert asked == []


# -- chat templates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% generation %}{{ 'a' * 10 ** 10 }}{% endgeneration %}",
        "{{ '%10000000000d' % 1 }}",
        "{{ 'a' * 2000000 }}",
        "{% set n = namespace(x='a') %}{% for i in range(50) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}",
    ],
)
def test_a_template_that_does_not_end(template: str, folder: Path) -> None:
    change(folder / "tokenizer_config.json", chat_template=template)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(UnsupportedModelError, match="does not come to an end"):
        read_tokenizer(folder)


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ strftime_now('%d %B %Y') }}{{ bos_token }}",
        "{% broken",
    ],
)
def test_a_template_that_ends_or_fails_is_read(template: str, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(template)
    assert read_tokenizer(folder).chat_template == template


# -- GGUF files ------------------------------------------------------------------------------

TEXT, ARRAY = 8, 9  # types of values


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def entry(kind: int, value: bytes, key: bytes = b"a") -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def packed(*entries: bytes, tensors: int = 0, fields: int | None = None) -> bytes:
    """A GGUF file of some entries, and of as many as it says."""
    counts = struct.pack("<QQ", tensors, len(entries) if fields is None else fields)
    return b"GGUF" + struct.pack("<I", 3) + counts + b"".join(entries)


ARCHITECTURE = entry(TEXT, text(b"llama"), b"general.architecture")
MANY = 2**40
HEADERS = {
    "nothing": b"",
    "magic alone": b"GGUF",
    "no architecture": packed(),
    "an architecture that is a number": packed(entry(4, bytes(4), b"general.architecture")),
    "many fields": packed(fields=MANY),
    "many fields that are there": packed(*[entry(0, b"a")] * 20_000),
    "many tensors": packed(ARCHITECTURE, tensors=MANY),
    "tensors that are not there": packed(ARCHITECTURE, tensors=1000),
    "a long key": packed(struct.pack("<Q", MANY)),
    "a key of 2^64 - 1": packed(struct.pack("<Q", 2**64 - 1)),
    "a long text": packed(entry(TEXT, struct.pack("<Q", MANY))),
    "a long array": packed(entry(ARRAY, struct.pack("<IQ", 0, MANY))),
    "many texts": packed(entry(ARRAY, struct.pack("<IQ", TEXT, MANY))),
    "many texts that are empty": packed(
        entry(ARRAY, struct.pack("<IQ", TEXT, 3_000_000) + bytes(24_000_000))
    ),
    "many arrays": packed(entry(ARRAY, struct.pack("<IQ", ARRAY, MANY))),
    "arrays in arrays": packed(entry(ARRAY, struct.pack("<IQ", ARRAY, 1) * 100_000)),
    "an unknown type": packed(entry(77, b"")),
    "an array of an unknown type": packed(entry(ARRAY, struct.pack("<IQ", 77, 1))),
    "a key that is no UTF-8": packed(ARCHITECTURE, entry(0, b"a", b"\xff\xfe")),
    "many dimensions": packed(
        ARCHITECTURE, text(b"a") + struct.pack("<I", 2**31), tensors=1, fields=1
    ),
    "a wide dimension": packed(
        ARCHITECTURE, text(b"a") + struct.pack("<IQIQ", 1, 2**62, 0, 0), tensors=1, fields=1
    ),
    "weights of an unknown type": packed(
        ARCHITECTURE, text(b"a") + struct.pack("<IQIQ", 1, 8, 99, 0), tensors=1, fields=1
    ),
    "weights beyond the end": packed(
        ARCHITECTURE, text(b"a") + struct.pack("<IQIQ", 1, 8, 0, MANY), tensors=1, fields=1
    ),
    "an alignment of nothing": packed(ARCHITECTURE, entry(4, bytes(4), b"general.alignment")),
    "an alignment that is a text": packed(
        ARCHITECTURE, entry(TEXT, text(b"a"), b"general.alignment")
    ),
    "parts that are a text": packed(ARCHITECTURE, entry(TEXT, text(b"a"), b"split.count")),
}


@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.parametrize("sparse", [False, True])
def test_headers_of_gguf(what: str, sparse: bool, tmp_path: Path) -> None:
    import nbllm.models.fetch.gguf_conversion  # noqa: F401  # its imports take seconds

    file = tmp_path / "a.gguf"
    file.write_bytes(HEADERS[what])
    if sparse:  # a hole of 8 GB follows
        os.truncate(file, 8_000_000_000)
        said = refused_at_once(lambda: check_header(file)) if what in ENDLESS else ""
        assert "a.gguf" in said or what not in ENDLESS
        return
    assert "a.gguf" in refused_at_once(lambda: fetch_configuration(file))
    assert "a.gguf" in refused_at_once(lambda: fetch(file))


# Those that are refused by what they say, whatever follows.
ENDLESS = (
    "nothing", "many fields", "many tensors", "a long key", "a key of 2^64 - 1", "a long text",
    "a long array", "many texts", "many texts that are empty", "many arrays", "arrays in arrays",
    "an unknown type", "an array of an unknown type", "many dimensions", "a wide dimension",
)  # fmt: skip


@pytest.mark.parametrize(
    "field",
    ["block_count", "embedding_length", "attention.head_count_kv", "context_length"],
)
def test_every_field_of_gguf(field: str, tmp_path: Path) -> None:
    made = gguf_files.network(gguf_files.configuration("llama"))
    for number, value in enumerate((0, 10**6, 2**31, math.nan, 1.5, "x")):
        file = tmp_path / f"{number}.gguf"
        gguf_files.write_gguf(made, file, "llama", {field: value})
        for fetching in (fetch_configuration, fetch):
            with at_once(f"{field}={value!r}"):
                fetching(file)
