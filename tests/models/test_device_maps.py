"""Models that are offloaded or spread answer as whole ones do, or are refused before a row."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import attach_align_device_hook_on_blocks
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    FalconConfig,
    FalconForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import nbllm
from nbllm.engine.logits import FineLogits
from nbllm.engine.perplexity import perplexity
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.engine.sharing import trial_text
from nbllm.engine.streaming import write
from nbllm.errors import (
    ArgumentError,
    ModelError,
    QuantizationError,
    TrainingError,
    UnsupportedModelError,
)
from nbllm.frame.running.run_record import run_record
from nbllm.models.flops import TokenCounts, operations
from nbllm.models.in_memory import loaded
from nbllm.models.loader import load, reload
from nbllm.models.memory import placement
from nbllm.models.memory.budget import held_by_device, held_bytes
from nbllm.models.model import Model
from tests.asking import task_of
from tests.conftest import byte_tokenizer, seeded, tiny_model, tiny_network, word_tokenizer

FRAME = pd.DataFrame({"text": [
    "The soup was warm and the staff were kind.",
    "Terrible service: we waited an hour.",
    "A quiet film about two brothers.",
]})  # fmt: skip
PREFIX = tuple(range(10, 30))
PROMPTS = [
    Prompt(ids=(*PREFIX, *range(40, 40 + n)), text="", spans=((0, 0),) * (20 + n), field_spans=())
    for n in (30, 12, 25)
]
LABELS = [[5], [6, 7], [6, 8, 9]]
WHOLE = {"": "disk"}


def causal(network: Any, config: Any, **more: Any) -> Any:
    tokenizer = byte_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 2048, "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    return seeded(network, config(**shape | more)), tokenizer


def reader() -> Any:
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    return seeded(BertForQuestionAnswering, config), tokenizer


NETWORKS: dict[str, Callable[[], Any]] = {
    "untied": lambda: causal(LlamaForCausalLM, LlamaConfig),
    "tied": lambda: causal(LlamaForCausalLM, LlamaConfig, tie_word_embeddings=True),
    "sliding": lambda: causal(
        Gemma3ForCausalLM, Gemma3TextConfig, head_dim=16, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    ),
    # Its layers take no prefix and no tree of labels.
    "bypassing": lambda: causal(FalconForCausalLM, FalconConfig, tie_word_embeddings=False),
    "experts": lambda: causal(MixtralForCausalLM, MixtralConfig, num_local_experts=2),
    "seq2seq": lambda: tiny_network("seq2seq"),
    "classifier": lambda: tiny_network("classifier"),
    "encoder": lambda: tiny_network("encoder"),
    "extractive_qa": reader,
}  # fmt: skip
LLAMA = ("model.embed_tokens", "model.layers.1", "model.norm", "lm_head")
# What of each is put on disk, in one map each; the rest stays where it computes.
PARTS: dict[str, list[tuple[str, ...]]] = {
    "untied": [(part,) for part in (*LLAMA, "lm_head.weight")],
    "tied": [("model.embed_tokens", "lm_head"), ("model.layers.1",)],
    "sliding": [("model.embed_tokens", "lm_head"), ("model.layers.0",)],
    "bypassing": [("lm_head",), ("transformer.h.0",)],
    "experts": [("lm_head",), ("model.embed_tokens",)],
    "seq2seq": [
        ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"),
        ("model.encoder.layers.0",),
        ("model.decoder.layers.1",),
    ],
    "classifier": [("bert.embeddings",), ("bert.encoder.layer.1",), ("classifier",)],
    "encoder": [("embeddings",), ("encoder.layer.0",)],
    "extractive_qa": [("bert.embeddings",), ("qa_outputs",)],
}
CASES = [
    (kind, disk) for kind, parts in PARTS.items()
    for disk in (*parts, *([("",)] if kind != "experts" else []))
]  # fmt: skip


def labels(model: Model) -> Any:
    scores = [LabelScorer(model, prefix, LABELS) for prefix in ((), PREFIX)]
    return np.stack([scorer.score(PROMPTS) for scorer in scores])


def verb(name: str, *arguments: Any, **options: Any) -> Callable[[Model], Any]:
    def ask(model: Model) -> Any:
        run = getattr(FRAME.llm, name)
        answered = run("text", *arguments, model=model, ledger=False, **options)
        return answered.drop(columns=f"text_{name}_run")

    return ask


CAUSAL: dict[str, Callable[[Model], Any]] = {
    "scores": labels,
    "sentiment": verb("sentiment", probabilities=True),  # which calibrates
    "classify": verb("classify", labels=["soup", "a film"], multi=True),
    "summarize": verb("summarize", max_words=4),
    "perplexity": lambda model: perplexity(model, FRAME["text"]).nll,
    "streamed": lambda model: write(model, PROMPTS[1], max_new_tokens=6).text,
}


def some(*names: str) -> dict[str, Callable[[Model], Any]]:
    return {name: CAUSAL[name] for name in names}


QUESTIONS: dict[str, dict[str, Callable[[Model], Any]]] = {
    "tied": some("scores", "sentiment", "streamed", "perplexity"),
    "sliding": some("scores", "summarize", "perplexity"),
    "bypassing": some("scores", "streamed", "perplexity"),
    "experts": some("scores", "streamed"),
    "untied": CAUSAL | {"extract": verb("extract", {"count": int, "good": bool})},
    "seq2seq": {"summarize": verb("summarize", max_words=4)},
    "classifier": {"sentiment": verb("sentiment", probabilities=True)},
    "encoder": {"embed": verb("embed")},
    "extractive_qa": {"answer": verb("answer", question="what was warm")},
}


def agree(one: Any, other: Any) -> None:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-4, atol=1e-4)
    elif isinstance(one, np.ndarray):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    else:
        assert one == other


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind, make in NETWORKS.items():
        network, tokenizer = make()
        found[kind] = tmp_path_factory.mktemp(kind)
        network.save_pretrained(found[kind])
        tokenizer.save_pretrained(found[kind])
    return found


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path]) -> Callable[[str], dict[str, Any]]:
    """What the whole model of each kind answers."""
    known: dict[str, dict[str, Any]] = {}

    def answers_of(kind: str) -> dict[str, Any]:
        if kind not in known:
            with load(folders[kind], quantize="none", device="cpu", dtype="fp32") as model:
                assert "device_map" not in model.provenance()
                known[kind] = {name: ask(model) for name, ask in questions(kind).items()}
        return known[kind]

    return answers_of


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """Each unload collects garbage, and what was there before these tests is none."""
    gc.freeze()
    yield
    gc.unfreeze()


def questions(kind: str) -> dict[str, Callable[[Model], Any]]:
    return QUESTIONS.get(kind, CAUSAL)


def on_disk(*parts: str) -> dict[str, str]:
    return {"": "cpu"} | dict.fromkeys(parts, "disk")


@pytest.mark.parametrize(
    ("kind", "disk"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else "+".join(value) or "all",
)
def test_a_model_partly_on_disk_answers_as_the_whole_one(
    folders: dict[str, Path],
    expected: Callable[[str], dict[str, Any]],
    kind: str,
    disk: tuple[str, ...],
) -> None:
    wanted = expected(kind)
    model = load(folders[kind], quantize="none", dtype="fp32", device_map=on_disk(*disk))
    assert placement.is_offloaded(model.network)
    for name, ask in questions(kind).items():
        agree(ask(model), wanted[name])
    assert placement.is_offloaded(model.network), "nothing stays in memory between passes"
    with load(folders[kind], quantize="none", dtype="fp32") as whole:
        assert operations(model.network, TokenCounts.text(20)) == operations(
            whole.network, TokenCounts.text(20)
        )
        assert held_bytes(model.network) < held_bytes(whole.network)


@pytest.mark.parametrize("kind", ["untied", "tied", "sliding"])
def test_labels_of_an_offloaded_head_are_as_fine_as_those_of_the_whole_model(
    folders: dict[str, Path], kind: str
) -> None:
    found = []
    for places in (None, on_disk("model.embed_tokens", "lm_head")):
        with load(folders[kind], quantize="none", dtype="bf16", device_map=places) as model:
            found.append(LabelScorer(model, (), LABELS).score(PROMPTS))
    assert np.array_equal(*found)


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classifier", "encoder"])
@pytest.mark.parametrize("spread", ["offloaded", "dispatched"])
def test_a_model_of_accelerates_hooks_answers_as_the_plain_one(kind: Any, spread: str) -> None:
    model = tiny_model(kind)
    plain = {name: ask(model) for name, ask in questions(kind).items()}
    held = held_by_device(model.network)
    if spread == "offloaded":  # as on a GPU with too little memory: the weights lie elsewhere
        attach_align_device_hook_on_blocks(
            model.network,
            execution_device={"": torch.device("cpu")},
            offload={"": True},
            weights_map=dict(model.network.state_dict()),
        )
    else:
        dispatch_model(model.network, {"": "cpu"}, force_hooks=True)
    assert placement.is_offloaded(model.network) == (spread == "offloaded")
    assert placement.is_spread(model.network)
    assert held_by_device(model.network) == held
    for name, ask in questions(kind).items():
        agree(ask(model), plain[name])


def test_a_head_that_no_hook_brings_back_is_not_multiplied_with() -> None:
    model = tiny_model("causal")
    model.network.lm_head.to("meta")
    fine = FineLogits(model.network, [1, 2])
    logits = torch.randn(1, 3, 400)
    whole, read = fine.split(fine._append(model.network.lm_head, (torch.randn(1, 3, 64),), logits))
    assert torch.equal(whole, logits) and torch.equal(read, logits[..., [1, 2]])


# -- what cannot be computed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "places", "options", "error", "says"),
    [
        ("untied", {"model": "cpu"}, {}, ModelError, r"gives no place to lm_head\.weight"),
        ("untied", {}, {}, ModelError, r"gives no place to .* and \d+ more"),
        (
            "seq2seq", {"": "cpu", "model.encoder.layernorm_embedding.weight": "disk"}, {},
            ModelError, "offloads model.encoder.layernorm_embedding.weight in a way",
        ),
        ("untied", {"": "cpu", "lm_head": "cuda:77"}, {}, ModelError, "'cuda:77' is not usable"),
        ("untied", {"": "cpu", "lm_head": 77}, {}, ModelError, "'cuda:77' is not usable"),
        ("untied", {"": "meta"}, {}, ArgumentError, "on 'meta', which is no place"),
        ("untied", {"": "auto"}, {}, ArgumentError, "on 'auto', which is no place"),
        ("untied", {"": 0.5}, {}, ArgumentError, r"on 0\.5, which is no place"),
        ("untied", {1: "cpu"}, {}, ArgumentError, "neither one of auto"),
        ("untied", "cpu", {}, ArgumentError, "For a single device pass device="),
        ("untied", 5, {}, ArgumentError, "neither one of auto"),
        ("tied", on_disk("lm_head"), {}, ModelError, "one weight under 2 names"),
        ("tied", on_disk("model.embed_tokens"), {}, ModelError, "one weight under 2 names"),
        ("experts", on_disk("model.layers.0"), {}, ModelError, "cannot be loaded with this"),
        ("untied", WHOLE, {"quantize": "int4"}, QuantizationError, "Leave 'disk' out"),
        ("untied", on_disk("model.norm"), {"quantize": "int8wo"}, QuantizationError, "'disk' out"),
    ],
)  # fmt: skip
def test_a_map_that_cannot_give_the_answers_is_refused(
    folders: dict[str, Path], kind: str, places: Any, options: Any, error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        load(folders[kind], device_map=places, **{"quantize": "none", "dtype": "fp32"} | options)
    assert all(model.folder != folders[kind] for model in loaded())


def test_no_adapter_goes_on_weights_that_are_offloaded(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folders["untied"])
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(network, settings).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"offloads some of them.*merge_adapter"):
        load(folders["untied"], quantize="none", device_map=WHOLE, adapter=tmp_path)


def test_a_spread_model_is_not_trained(folders: dict[str, Path]) -> None:
    model = load(folders["untied"], quantize="none", dtype="fp32", device_map=on_disk("lm_head"))
    with pytest.raises(TrainingError, match=r"is spread over cpu and disk.*pass its name"):
        nbllm.finetune(FRAME.assign(label=["a", "b", "a"]), text="text", label="label", model=model)


# -- which model answered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "written"),
    [
        ({"": "disk"}, {"": "disk"}),
        ({"model": "disk", "lm_head": "disk"}, {"": "disk"}),
        ({"": "cpu", "lm_head": "disk"}, {"lm_head": "disk", "model": "cpu"}),
        (
            {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "cpu",
             "model.norm": torch.device("cpu"), "model.rotary_emb": "cpu", "lm_head": "disk"},
            {"lm_head": "disk", "model": "cpu"},
        ),
        (
            {"": "cpu", "model.layers.1": "disk"},
            {"lm_head": "cpu", "model.embed_tokens": "cpu", "model.layers.0": "cpu",
             "model.layers.1": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu"},
        ),
    ],
)  # fmt: skip
def test_one_spread_has_one_name_and_comes_back(
    folders: dict[str, Path], places: Mapping[str, Any], written: dict[str, str]
) -> None:
    model = load(folders["untied"], quantize="none", dtype="fp32", device_map=places)
    known = model.provenance()
    assert json.loads(known["device_map"]) == written and known["device"] == "cpu"
    assert reload(known) is model
    whole = load(folders["untied"], quantize="none", dtype="fp32")
    assert reload(whole.provenance()) is whole and reload(known) is model
    model.unload()
    again = reload(known)
    assert again is not whole and again.provenance() == known
    assert placement.is_offloaded(again.network)


def test_the_card_and_the_report_say_where_the_parts_lie(folders: dict[str, Path]) -> None:
    model = load(folders["untied"], quantize="none", dtype="fp32", device_map=on_disk("lm_head"))
    assert re.search(r"memory +\d+ kB on cpu, the rest on disk", repr(model))
    answered = FRAME.llm.classify("text", labels=["soup", "a film"], model=model)
    assert "float32, cpu (spread over cpu, disk), revision" in str(answered.llm.report())
    whole = load(folders["untied"], quantize="none", dtype="fp32")
    assert re.search(r"memory +\d+ kB on cpu\n", repr(whole))


@pytest.mark.parametrize("places", ["auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_what_is_on_one_device_in_the_end_is_a_whole_model(
    folders: dict[str, Path], places: Any
) -> None:
    model = load(folders["untied"], quantize="none", dtype="fp32", device_map=places)
    whole = load(folders["untied"], quantize="none", dtype="fp32")
    assert model.provenance() == whole.provenance()
    assert (model.network is whole.network) == (places != "auto")


def test_parts_of_a_spread_network_are_named_by_module_and_device() -> None:
    network = tiny_model("causal").network
    dispatch_model(network, {"": "cpu"}, force_hooks=True)
    network.hf_device_map = {"model": 0, "model.layers.1": 1, "model.norm": "cuda:1", "lm_head": 1}
    assert placement.placement(network) == {
        "lm_head": "cuda:1", "model.embed_tokens": "cuda:0", "model.layers.0": "cuda:0",
        "model.layers.1": "cuda:1", "model.norm": "cuda:1", "model.rotary_emb": "cuda:0",
    }  # fmt: skip
    network.hf_device_map = {"": 1}
    assert placement.placement(network) == {}


def test_answers_of_another_device_or_spread_are_not_served(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def question(model: Model) -> str:
        task = task_of("sentiment", model)
        known = run_record(task, model, {"text": "text"}, "out", limit=500, truncate=False)
        return str(known["question"])

    options: dict[str, Any] = {"quantize": "none", "dtype": "fp32"}
    whole = load(folders["untied"], **options)
    asked = [question(whole)]
    asked += [
        question(load(folders["untied"], device_map=on_disk(part), **options))
        for part in ("lm_head", "model.norm")
    ]
    monkeypatch.setattr(Model, "device", torch.device("cuda"))
    asked.append(question(whole))
    assert len(set(asked)) == 4


@pytest.mark.parametrize(
    ("places", "device", "found"),
    [
        (None, "cpu", "cpu"),
        ((("a", "cpu"), ("b", "disk")), "auto", "cpu"),
        ((("", "disk"),), "cpu", "cpu"),
        ((("a", "cpu"), ("b", 3), ("c", 1)), "auto", "cuda:1"),
        ((("a", "cpu"), ("b", "mps")), "auto", "mps"),
    ],
)
def test_tokens_go_to_the_first_gpu_of_a_map(places: Any, device: str, found: str) -> None:
    assert placement.input_device(places, device) == torch.device(found)


def test_a_device_and_a_map_that_disagree_are_refused() -> None:
    with pytest.raises(ModelError, match=r"do not agree: with this map cuda:1 computes"):
        placement.input_device((("a", 1),), "cpu")


# -- one pass at a time ----------------------------------------------------------------------


def test_no_other_thread_computes_while_a_hook_is_on_the_network() -> None:
    model = tiny_model("causal")
    alone = perplexity(model, FRAME["text"]).nll
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(perplexity(model, FRAME["text"]).nll))
    with FineLogits(model.network, [5, 6]):
        other.start()
        other.join(0.5)
        assert other.is_alive(), "it computed on a network with another thread's hook"
        with torch.inference_mode():
            model.network(trial_text(model))
    other.join(20)
    np.testing.assert_array_equal(found[0], alone)


def test_auto_quantizes_nothing_that_lies_on_disk(
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nbllm.models.memory.planner.device_memory", lambda _: 100_000)
    with load(folders["untied"], dtype="fp32", device_map=on_disk("model.layers")) as model:
        assert model.quantization == "none"
    assert "where quantized weights cannot be computed with" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.layer.1", "model.layers.2", "lm_heat.weight"])
def test_a_module_that_there_is_not_is_named(folders: dict[str, Path], name: str) -> None:
    with pytest.raises(ModelError, match=f"names '{name}'.*Did you mean 'model|lm_head"):
        load(folders["untied"], quantize="none", device_map=on_disk(name))


def test_where_a_model_lies_is_shown_wherever_it_is_named(
    folders: dict[str, Path], ledger_path: Path
) -> None:
    with (
        load(folders["untied"], quantize="none", dtype="fp32") as whole,
        load(
            folders["untied"], quantize="none", dtype="fp32", device_map=on_disk("lm_head")
        ) as part,
    ):
        assert "lm_head on disk" in repr(part) and "on disk" not in repr(whole)
        assert "cpu and disk" in str(nbllm.shelf())
        compared = nbllm.compare(whole, part, FRAME, "sentiment", "text")
        assert compared.a.name.endswith("float32, cpu")
        assert compared.b.name.endswith("float32, cpu and disk")
