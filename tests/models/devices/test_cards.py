"""What is chosen for the models that are used most on the cards that people have.

`configs` holds the published sizes of each model, and no weights are needed: the networks are on
the meta device.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, LlamaConfig, PreTrainedConfig, PreTrainedModel

from nbllm.engine import batching
from nbllm.engine.batching import TokenBudget
from nbllm.errors import ArgumentError, ModelError, QuantizationError, TooLargeError
from nbllm.models.architecture import skeleton
from nbllm.models.configuration import kind_of
from nbllm.models.devices.cards import CARDS, Card, card_named, is_of_torch
from nbllm.models.devices.device import choose_dtype, float16_problem, reason_of_dtype
from nbllm.models.estimate import estimate as module
from nbllm.models.estimate.estimate import estimate
from nbllm.models.loader import load
from nbllm.models.memory import budget as memory
from nbllm.models.memory import planner
from nbllm.models.memory.budget import active_bytes, forecast, kv_bytes, weight_bytes
from nbllm.models.memory.plan import Plan
from nbllm.models.memory.planner import settle

GB = 10**9
CONFIGS = Path(__file__).with_name("configs")
MODELS = sorted(file.stem for file in CONFIGS.glob("*.json"))
NAMES = [card.name for card in CARDS]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

# Billions of parameters as their publishers state them, but for those of flan-t5-xl, whose output
# matrix transformers ties to its embeddings.
PARAMETERS = {
    "deepseek-r1-distill-qwen-14b": 14.770, "flan-t5-xl": 2.784, "gemma-2-9b": 9.242,
    "gemma-3-27b": 27.009, "gpt-oss-20b": 20.915, "llama-3.1-70b": 70.554, "llama-3.1-8b": 8.030,
    "llama-3.2-1b": 1.236, "llama-3.2-3b": 3.213, "mistral-7b-v0.3": 7.248,
    "mistral-nemo-12b": 12.248, "mistral-small-24b": 23.572, "mixtral-8x7b": 46.703,
    "phi-4": 14.660, "qwen2.5-0.5b": 0.494, "qwen2.5-32b": 32.764, "qwen2.5-7b": 7.616,
    "qwen3-30b-a3b": 30.532, "qwen3-8b": 8.191, "smollm2-1.7b": 1.711,
}  # fmt: skip

# Worked out by hand: weights and keys and values of as many tokens as are named, or of all that
# the model takes, are within 70 % of the card; and for 8,192 tokens they would not be with what
# comes before (unquantized, nf4, int8 on CUDA; unquantized, int8, nf4 on a Mac). A token of
# llama-3.1-8b takes 2 * 32 layers * 8 heads * 128 * 2 bytes = 131 kB: on a 4090, 0.7 * 25.2 GB
# leave 1.61 GB beside its 16.06 GB, which is 12,287 tokens, and 12,032 in steps of 256.
WORKED_OUT = """
                  T4             V100 16        L4             4090           5090           A100 40         H100           H200        M1             M4 Max
llama-3.2-1b      none fp16      none fp16      none bf16      none bf16      none bf16      none bf16       none bf16      none bf16   none bf16      none bf16
llama-3.1-8b      nf4 fp16 39936 nf4 fp16 46848 nf4 bf16 82688 none bf16 12032 none bf16 57088 none bf16 103168 none bf16   none bf16   nf4 bf16 17408 none bf16
llama-3.1-70b     refused        refused        refused        refused        refused        refused         nf4 bf16 60672 nf4 bf16    refused        refused
qwen2.5-7b        nf4 fp32 27904 nf4 fp32       none bf16 23040 none bf16     none bf16      none bf16       none bf16      none bf16   nf4 bf16       none bf16
qwen2.5-32b       refused        refused        refused        refused        nf4 bf16 16384 nf4 bf16        nf4 bf16       none bf16   refused        nf4 bf16
qwen3-8b          nf4 fp16 33024 nf4 fp16 39168 nf4 bf16       none bf16 8704 none bf16      none bf16       none bf16      none bf16   nf4 bf16 13056 none bf16
mistral-small-24b refused        refused        nf4 bf16 14592 nf4 bf16 21248 nf4 bf16       nf4 bf16        none bf16      none bf16   refused        int8 bf16
gemma-2-9b        nf4 fp32 4352  nf4 fp32 7168  nf4 bf16       nf4 bf16       none bf16      none bf16       none bf16      none bf16   nf4 bf16 6656  none bf16
phi-4             nf4 fp16 8960  nf4 fp16 13312 nf4 bf16       nf4 bf16       nf4 bf16       nf4 bf16        none bf16      none bf16   refused        none bf16
gpt-oss-20b       refused        no-kernel      mxfp4 bf16 113664 mxfp4 bf16  mxfp4 bf16     mxfp4 bf16      mxfp4 bf16     mxfp4 bf16  no-kernel      no-kernel
mixtral-8x7b      refused        refused        refused        refused        refused        refused         refused        none bf16   refused        refused
flan-t5-xl        nf4 fp32       none fp32      none bf16      none bf16      none bf16      none bf16       none bf16      none bf16   none bf16      none bf16
"""  # noqa: E501


@cache
def described(model: str) -> tuple[PreTrainedConfig, PreTrainedModel]:
    """A model's configuration and its network without weights."""
    config = AutoConfig.for_model(**json.loads((CONFIGS / f"{model}.json").read_text()))
    return config, skeleton(config, kind_of(config, model))


@pytest.fixture(scope="module", autouse=True)
def sizes_once() -> Any:
    """Weights are counted once for each network, quantization, dtype and kind of device."""
    with pytest.MonkeyPatch.context() as patch:
        known: dict[tuple[Any, ...], int] = {}

        def counted(network: Any, quantization: str, dtype: torch.dtype, where: Any) -> int:
            key = id(network), quantization, dtype, where.type
            if key not in known:
                known[key] = weight_bytes(network, quantization, dtype, where)
            return known[key]

        patch.setattr(memory, "weight_bytes", counted)
        patch.setattr(planner, "weight_bytes", counted)
        yield


def asked(model: str, card: Card, device_map: str | None = None) -> Plan:
    """A load of the model on that card with everything on "auto"."""
    config, _ = described(model)
    kind = kind_of(config, model)
    takes = config.max_position_embeddings if kind == "causal" else config.n_positions
    dtype = choose_dtype("auto", card, "auto", config)
    device = torch.device(card.type)
    return Plan(Path("nowhere"), "0", kind, takes, "auto", device, dtype, device_map)


@cache
def planned(model: str, card: Card) -> tuple[Plan, str]:
    """What "auto" makes of a load, and why; raises what `load` raises."""
    config, network = described(model)
    why = reason_of_dtype(card, config)
    settled, reason = settle(asked(model, card), config, network, model, why, card)
    assert reason is not None
    return settled, reason


def in_short(model: str, card: Card) -> str:
    try:
        settled, _ = planned(model, card)
    except TooLargeError:
        return "refused"
    except QuantizationError:
        return "no-kernel"
    dtype = next(name for name, dtype in DTYPES.items() if dtype == settled.dtype)
    lowered = settled.context_length < asked(model, card).context_length
    return f"{settled.quantize} {dtype}" + (f" {settled.context_length}" if lowered else "")


def worked_out() -> list[tuple[str, str, str]]:
    heads, *lines = WORKED_OUT.strip("\n").splitlines()
    cards = ["T4", "V100 16", "L4", "4090", "5090", "A100 40", "H100", "H200", "M1", "M4 Max"]
    assert heads.split() == " ".join(cards).split()
    cells = []
    for line in lines:
        model, *words = line.split()
        found: list[str] = []
        for word in words:
            starts = not word.isdigit() and word not in DTYPES
            found += [word] if starts else [f"{found.pop()} {word}"]
        cells += [(model, card, text) for card, text in zip(cards, found, strict=True)]
    return cells


def test_the_configurations_are_those_of_the_published_models() -> None:
    assert set(MODELS) == set(PARAMETERS) and len(MODELS) == 20
    for model, billions in PARAMETERS.items():
        assert described(model)[1].num_parameters() == pytest.approx(billions * 1e9, rel=1e-3)


def test_what_is_chosen_is_what_was_worked_out() -> None:
    cells = worked_out()
    assert len(cells) == 120
    wrong = [
        (model, card, text, in_short(model, card_named(card)))
        for model, card, text in cells
        if in_short(model, card_named(card)) != text
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_within_the_card_and_its_context_as_long_as_has_room(name: str) -> None:
    card = card_named(name)
    room = 0.7 * card.memory
    for model in MODELS:
        try:
            settled, reason = planned(model, card)
        except (TooLargeError, QuantizationError):
            continue
        _, network = described(model)
        published = settled.published is not None
        takes = asked(model, card).context_length
        tokens = settled.context_length if settled.kind == "causal" else 0
        kept = "published" if published else settled.quantize
        weights = memory.weight_bytes(network, kept, settled.dtype, card)
        need = weights + kv_bytes(network.config, settled.dtype, tokens)
        assert need <= (card.memory if published else room), model
        lowered = settled.context_length < takes
        assert (f"context lowered to {tokens:,} tokens of {takes:,}" in reason) == lowered
        if lowered:
            assert 1024 <= tokens < takes and tokens % 256 == 0
            more = weights + kv_bytes(network.config, settled.dtype, tokens + 256)
            assert more > room, model


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_refused_that_fits_with_a_short_context(name: str) -> None:
    card = card_named(name)
    for model in MODELS:
        _, network = described(model)
        before = asked(model, card)
        try:
            planned(model, card)
        except TooLargeError as error:
            if "published" in str(error).partition("experts")[0]:
                weights = memory.weight_bytes(network, "published", before.dtype, card)
                assert weights > card.memory - kv_bytes(network.config, before.dtype, 1024)
                continue
            for choice in ("none", "int8", "nf4"):
                need = forecast(network, choice, before.dtype, 1024, card)
                fits = need.total <= 0.7 * card.memory
                assert not fits or card.kernel_problem(choice, before.dtype), (model, choice)
        except QuantizationError as error:
            assert ("mxfp4" in str(error) and not card.capability) or card.capability < (7, 5)


def test_a_larger_card_never_has_fewer_bits_or_a_shorter_context() -> None:
    bits = {"none": 16, "int8": 8, "nf4": 4, "mxfp4": 4}
    alike = [card for card in CARDS if card.capability and card.computes_in_bf16]
    for model in MODELS:
        before = (0, 0)
        for card in sorted(alike, key=lambda card: card.memory):
            try:
                settled, _ = planned(model, card)
                now = (bits[settled.quantize], settled.context_length)
            except TooLargeError:
                now = (0, 0)
            assert now >= before, (model, card.name)
            before = now


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_are_what_the_card_computes_in_and_the_model_keeps_within(name: str) -> None:
    card = card_named(name)
    for model in MODELS:
        config, _ = described(model)
        dtype, why = choose_dtype("auto", card, "auto", config), reason_of_dtype(card, config)
        if card.capability is None or card.capability >= (8, 0):
            assert dtype == torch.bfloat16 and why is None
        elif config.model_type in ("llama", "mistral", "mixtral", "phi3", "qwen3"):
            assert dtype == torch.float16 and why is not None
            assert why.endswith(f"float16, since the {card.name} has no bfloat16.")
        else:
            assert config.model_type in ("t5", "gemma2", "gemma3_text", "qwen2", "qwen3_moe",
                                         "gpt_oss")  # fmt: skip
            assert dtype == torch.float32
            assert why is not None and f"the {card.name} has no bfloat16 and " in why
        # What is known of no model, such as where one is trained, is never half precision.
        assert choose_dtype("auto", card) in (torch.bfloat16, torch.float32)


def test_float16_where_its_authors_published_in_it() -> None:
    config = LlamaConfig(dtype=torch.float16)
    config.model_type = "someday"
    assert float16_problem(config) is None
    config.dtype = torch.bfloat16
    assert float16_problem(config) == "nobody is known to run someday in float16"
    config.dtype, config.model_type = torch.float16, "gemma2"
    assert "unstable" in (float16_problem(config) or "")


def test_the_line_says_why() -> None:
    _, reason = planned("llama-3.1-8b", card_named("T4"))
    assert reason == (
        "nf4, context lowered to 39,936 tokens of 131,072: none (16.1 GB of weights and 1.1 GB of "
        "keys and values) is too large; nf4 comes before int8, which is more exact and slower on "
        "CUDA; 5.7 GB of weights and 5.2 GB of keys and values fit in 70% of the 15.6 GB of T4 16 "
        "GB. It computes in float16, since the T4 16 GB has no bfloat16."
    )
    _, reason = planned("llama-3.1-8b", card_named("4090"))
    assert "12,032 tokens of 131,072 (nf4 has room for 91,136): 16.1 GB" in reason
    _, reason = planned("gpt-oss-20b", card_named("L4"))
    assert reason == "mxfp4, as it was published, context lowered to 113,664 tokens of 131,072"
    with pytest.raises(TooLargeError, match=r"are experts, which no quantization here changes"):
        planned("mixtral-8x7b", card_named("H100"))
    with pytest.raises(TooLargeError, match=r"with more memory\. It computes in float32"):
        planned("qwen2.5-32b", card_named("T4"))


def test_two_cards_hold_what_one_does_not() -> None:
    two, model = card_named("2x4090"), "qwen2.5-32b"
    with pytest.raises(TooLargeError) as caught:
        planned(model, two)
    assert (
        "With device_map='auto' it fits in 70% of the 50.5 GB of 2 x RTX 4090 24 GB: nf4, 19.2 GB "
        "of weights and 8.6 GB of keys and values. "
    ) in str(caught.value)
    config, network = described(model)
    settled, reason = settle(asked(model, two, "auto"), config, network, model, None, two)
    assert settled.quantize == "nf4" and settled.device_map == "auto"
    assert "70% of the 50.5 GB of 2 x RTX 4090 24 GB" in (reason or "")
    # What fits on one card is put there, and what is too large for both is said to be.
    assert planned("llama-3.1-8b", two)[0] == planned("llama-3.1-8b", card_named("4090"))[0]
    with pytest.raises(TooLargeError, match=r"does not fit in .* 2 x RTX 4090 24 GB either"):
        planned("llama-3.1-70b", two)


def test_several_devices_of_this_machine_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    total = {0: 25 * GB, 1: 17 * GB}
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(total_memory=total[torch.device(device).index]),
    )
    monkeypatch.setattr(planner, "free_memory", planner.device_memory)
    monkeypatch.setattr(planner.quantization, "kernel_problem", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    first, model = torch.device("cuda", 0), "qwen2.5-32b"
    config, network = described(model)
    load = Plan(Path("x"), "0", "causal", 32_768, "auto", first, torch.bfloat16)
    with pytest.raises(TooLargeError, match=r"70% of the 42.0 GB of 2 x cuda: nf4, 19.2 GB"):
        settle(load, config, network, model)
    spread = replace(load, device_map="auto")
    assert settle(spread, config, network, model)[0].quantize == "nf4"
    # A map counts the devices that it names, each with its own memory.
    named = replace(load, device_map=(("model", 1), ("lm_head", "cuda:1")))
    with pytest.raises(TooLargeError, match=r"70% of the 17.0 GB of cuda: "):
        settle(named, config, network, model)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_what_is_advised_is_possible(count: int) -> None:
    seen = set()
    for card, model in product(
        map(card_named, ("T4", "4090", "A100 40", "H100", "M4 Max")), MODELS
    ):
        cards = replace(card, count=count)
        config, network = described(model)
        dtype = asked(model, cards).dtype
        try:
            alone = planned(model, cards)
            said = alone[1]
        except TooLargeError as error:
            alone, said = None, str(error)
        except QuantizationError:
            continue
        try:
            spread = settle(asked(model, cards, "auto"), config, network, model, None, cards)[0]
        except TooLargeError as error:
            spread = None
            assert "device_map" not in str(error)
        more = spread is not None and (alone is None or not same(alone[0], spread))
        advised = any(
            text in said
            for text in ("With device_map='auto' it fits", "spread it with", "'auto' has room")
        )
        assert advised == (more and count > 1), (model, cards, said)
        if alone is not None or "published" in said.partition("experts")[0]:
            continue
        # Nothing but what takes more than 70 % of one card, or of all, and no more than is free.
        least = {
            choice: forecast(network, choice, dtype, 1024, cards).total
            for choice in ("none", "nf4", "int8")
            if not card.kernel_problem(choice, dtype)
        }
        tight = {
            (choice, n)
            for n, choice in product((1, count), least)
            if 0.7 * n * card.memory < least[choice] <= n * card.free
        }
        found = re.search(r"pass quantize='(\w+)'( and device_map='auto')? to try", said)
        assert (found is not None) == bool(tight), (model, cards, said)
        if found:
            assert (found[1], count if found[2] else 1) in tight
        seen |= {bool(found), bool(advised)}
    assert seen == {True, False} if count > 1 else True in seen


def same(one: Plan, other: Plan) -> bool:
    return (one.quantize, one.context_length) == (other.quantize, other.context_length)


def test_many_cards_are_said_to_hold_more_than_one_of_them() -> None:
    _, reason = planned("llama-3.1-70b", card_named("8xH100"))
    assert "fit in 70% of the 84.9 GB of one of 8 x H100 80 GB. With device_map='auto' " in reason
    assert reason.endswith(
        "it fits in 70% of the 679.5 GB of 8 x H100 80 GB: not quantized, 141.1 GB of weights and "
        "42.9 GB of keys and values"
    )
    _, reason = planned("gpt-oss-20b", card_named("2xL4"))
    assert reason.endswith("113,664 tokens of 131,072 (device_map='auto' has room for 131,072)")
    assert "device_map" not in planned("llama-3.2-1b", card_named("8xH100"))[1]
    with pytest.raises(TooLargeError) as caught:
        planned("llama-3.1-70b", card_named("2x4090"))
    assert str(caught.value).endswith(
        "It does not fit in 70% of the 50.5 GB of 2 x RTX 4090 24 GB either. Take a smaller model "
        "or a device with more memory, or pass quantize='nf4' and device_map='auto' to try it in "
        "more than 70% of the memory."
    )


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_within_the_memory_that_the_weights_leave(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_named(name)
    for model in MODELS:
        try:
            settled, _ = planned(model, card)
        except (TooLargeError, QuantizationError):
            continue
        _, network = described(model)
        kept = settled.quantize if settled.published is None else "published"
        left = card.memory - memory.weight_bytes(network, kept, settled.dtype, card)
        monkeypatch.setattr(batching, "free_memory", lambda _, left=left: left)
        ready: Any = SimpleNamespace(
            network=network, dtype=settled.dtype, device=torch.device(card.type), revision="0",
            kind=settled.kind, quantization=settled.quantize, adapter_revision=None,
        )  # fmt: skip
        for decodes in (False, True):
            for labels in (0,) if decodes else (0, 216):
                budget = TokenBudget.of(ready, decodes=decodes, label_tokens=labels)
                for length in (64, 512):
                    rows = budget.rows(length, 150)
                    assert 1 <= rows <= 1024 or not decodes, model
                    assert budget.cost.of(rows, length, 150) <= 0.8 * left, (model, decodes, labels)
        if card.name == "H200 141 GB" and model == "llama-3.1-8b":
            # Before, 16,384 tokens made 40 rows of what memory has room for hundreds of.
            assert 500 <= TokenBudget.of(ready, decodes=True).rows(400, 150) <= 1024


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("T4", "T4 16 GB", 1), ("tesla t4", "T4 16 GB", 1), ("4090", "RTX 4090 24 GB", 1),
        ("NVIDIA GeForce RTX 4090", "RTX 4090 24 GB", 1), ("rtx-4090", "RTX 4090 24 GB", 1),
        ("2x4090", "RTX 4090 24 GB", 2), ("2 x RTX 4090 24 GB", "RTX 4090 24 GB", 2),
        ("4090 x2", "RTX 4090 24 GB", 2), ("2×L4", "L4 24 GB", 2), ("8*h100", "H100 80 GB", 8),
        ("a100-80gb", "A100 80 GB", 1), ("A100 40", "A100 40 GB", 1), ("a100 80g", "A100 80 GB", 1),
        ("A10", "A10 24 GB", 1), ("a6000", "RTX A6000 48 GB", 1),
        ("apple m4 max", "M4 Max 64 GB", 1),
        ("4070 ti super", "RTX 4070 Ti Super 16 GB", 1), ("4080", "RTX 4080 16 GB", 1),
        ("3080 10", "RTX 3080 10 GB", 1), ("3090ti", "RTX 3090 Ti 24 GB", 1),
        ("gh200", "GH200 96 GB", 1), ("80GB A100 x 2", "A100 80 GB", 2),
        ("M1 16GB", "M1 16 GB", 1), ("V100 32 GiB", "V100 32 GB", 1), (" h200 ", "H200 141 GB", 1),
    ],
)  # fmt: skip
def test_a_card_by_whatever_spelling(text: str, name: str, count: int) -> None:
    assert not is_of_torch(text)
    card = card_named(text)
    assert (card.name, card.count) == (name, count)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Tesla T4", "T4 16 GB"), ("NVIDIA L4", "L4 24 GB"), ("NVIDIA L40", "L40 48 GB"),
        ("NVIDIA L40S", "L40S 48 GB"), ("NVIDIA A10", "A10 24 GB"), ("NVIDIA A10G", "A10G 24 GB"),
        ("Tesla V100-SXM2-16GB", "V100 16 GB"), ("Tesla V100-PCIE-32GB", "V100 32 GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"), ("NVIDIA A100-PCIE-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB"), ("NVIDIA A100 80GB PCIe", "A100 PCIe 80 GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80 GB"), ("NVIDIA H100 PCIe", "H100 PCIe 80 GB"),
        ("NVIDIA H100 NVL", "H100 NVL 94 GB"), ("NVIDIA GH200 480GB", "GH200 96 GB"),
        ("NVIDIA H200", "H200 141 GB"), ("NVIDIA B200", "B200 180 GB"),
        ("NVIDIA GeForce RTX 3060", "RTX 3060 12 GB"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti 24 GB"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti Super 16 GB"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 Super 16 GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090 24 GB"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090 32 GB"),
        ("NVIDIA RTX A6000", "RTX A6000 48 GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada 48 GB"),
        ("Apple M4 Max 64 GB", "M4 Max 64 GB"),
    ],
)  # fmt: skip
def test_a_card_by_the_name_that_its_driver_prints(text: str, name: str) -> None:
    for spelled in (text, text.lower(), text.replace(" ", "-"), f"4x {text}", f"{text} x4"):
        assert card_named(spelled).name == name


def test_every_card_is_found_by_its_own_name_alone() -> None:
    assert [card_named(name) for name in NAMES] == list(CARDS)
    assert len(set(NAMES)) == len(NAMES)
    for card in CARDS:
        # Never more than is printed on it, and not so little that a digit must be missing.
        assert 0.6 * card.size * 2**30 < card.memory <= card.size * 2**30


@pytest.mark.parametrize("text", ["abacus", "", "100", "0x4090", "4090 48 GB", "a100 60gb", "gpu",
     "NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 6000", "16 GB", "SXM4"])  # fmt: skip
def test_a_card_that_is_not_on_record_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"neither a device that torch knows.*A100 40 GB"):
        card_named(text)


def test_a_name_of_several_sizes_is_not_guessed() -> None:
    with pytest.raises(ArgumentError, match="Pass 'A100 40 GB' or 'A100 80 GB'"):
        card_named("a100")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", torch.device("cpu")])
def test_devices_of_torch_are_no_cards(device: str | torch.device) -> None:
    assert is_of_torch(device)


# -- estimate --------------------------------------------------------------------------------------


@pytest.fixture
def tiny_description(tmp_path: Path) -> Path:
    """A folder with nothing but the configuration of a small model."""
    config = json.loads((CONFIGS / "llama-3.2-1b.json").read_text())
    config |= {"num_hidden_layers": 2, "vocab_size": 1000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_an_estimate_for_a_card_does_not_ask_this_machine(
    tiny_description: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: Any, **__: Any) -> None:
        raise AssertionError("CUDA was asked")

    for name in ("is_available", "current_device", "get_device_properties", "mem_get_info",
                 "get_device_capability", "device_count", "_lazy_init"):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, touched)
    found = estimate(tiny_description, context=[512, 1024], device="t4")
    card = card_named("T4")
    assert not found.here and found.device == "T4 16 GB"
    assert found.memory == card.memory == found.free + 0.5 * GB
    assert found.dtype == "float16"
    fits = {row.quantization: row.fits for row in found.rows}
    assert fits == {"none": "yes", "int8": "yes", "nf4": "yes", "fp4": "yes", "int8wo": "yes",
                    "int4": "no kernel"}  # fmt: skip
    assert found.auto.startswith("not quantized, in float16: ") and "no bfloat16" in found.auto
    short, long = (row for row in found.rows if row.quantization == "none")
    assert short.most_texts > 1.9 * long.most_texts > 100
    a_text = short.cache + short.activations
    assert short.weights + short.most_texts * a_text <= found.free
    assert short.weights + 1.3 * short.most_texts * a_text > card.memory


def test_an_estimate_says_what_auto_does_and_how_fast_it_can_be(tiny_description: Path) -> None:
    found = estimate(tiny_description, quantize="none", context=64, device="2x4090")
    text, html = str(found), found._repr_html_()
    for said in (
        "2 x RTX 4090 24 GB: 25.2 GB per card, 24.7 GB of it free for use.",
        "most texts",
    ):
        assert said in text and said in html
    assert "Loaded with quantize='auto': not quantized, in bfloat16: " in text
    assert "quantize=&#x27;auto&#x27;: not quantized" in html
    # It reads all weights but the table of embeddings, which is the output matrix as well.
    read = found.rows[0].weights
    assert f"at 1,008 GB a second: one text alone gets {1.008e12 / read:,.0f} tokens" in text
    assert "RTX 4090 24 GB" in found.plot().layout.title.subtitle.text
    assert "at most on one card, and no more over several" in text
    here = str(estimate(tiny_description, quantize="none", context=64, device="cpu"))
    assert "Loaded with quantize='auto': " in here and "tokens a second" not in here


# Billions of parameters that a token is computed with, as their publishers state them, less those
# of the table of embeddings where it is not the output matrix.
ACTIVE = {
    "mixtral-8x7b": 12.9 - 0.13, "qwen3-30b-a3b": 3.35 - 0.31, "gpt-oss-20b": 3.6,
    "llama-3.1-8b": 8.03 - 0.53, "llama-3.2-1b": 1.236,
}  # fmt: skip


@pytest.mark.parametrize("model", ACTIVE)
def test_a_token_reads_the_experts_that_it_is_sent_to(model: str) -> None:
    card = card_named("H200")
    read = active_bytes(described(model)[1], "none", torch.bfloat16, card)
    assert read == pytest.approx(2e9 * ACTIVE[model], rel=0.02)


def test_a_mixture_of_experts_says_how_fast_it_is_or_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((CONFIGS / "gpt-oss-20b.json").read_text())
    config |= {"num_hidden_layers": 2, "layer_types": config["layer_types"][:2]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (speed,) = estimate(tmp_path, context=16, device="H200").notes
    _, network = described("gpt-oss-20b")
    in_all = active_bytes(network, "published", torch.bfloat16, card_named("H200"))
    # 4 bits and an 8-bit scale for 32 of them, of 4 of 32 experts; 1.7 GB of attention and output.
    experts = 24 * 4 * 3 * 2880**2 * (0.5 + 1 / 32)
    assert in_all == pytest.approx(experts + 2 * (0.579 + 0.63) * 1e9, rel=0.1)
    assert "tokens a second at most." in speed
    monkeypatch.setattr(module, "active_bytes", lambda *_: None)
    assert "does not say how many of its experts" in str(estimate(tmp_path, device="H200"))
    monkeypatch.setattr(network.config, "num_experts_per_tok", 0)
    assert active_bytes(network, "none", torch.bfloat16, card_named("T4")) is None


def test_an_estimate_says_what_is_refused_and_what_has_to_be_spread(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((CONFIGS / "qwen2.5-32b.json").read_text())
    for device, fits, said in (
        ("4090", "no", "This model does not fit in 70% of the 25.2 GB of RTX 4090 24 GB"),
        ("2x4090", "spread", "With device_map='auto' it fits in 70% of the 50.5 GB"),
    ):
        found = estimate(tmp_path, quantize="int8", context=16, device=device)
        assert found.rows[0].fits == fits and said in found.auto
        assert (found.rows[0].most_texts > 0) == (fits == "spread")
        assert ("device_map" in str(found)) == (fits == "spread")


def test_a_checkpoint_that_was_published_quantized_on_a_card_without_a_kernel(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text((CONFIGS / "gpt-oss-20b.json").read_text())
    for device, fits in (("V100 16", "no kernel"), ("4090", "yes")):
        (row,) = estimate(tmp_path, context=16, device=device).rows
        assert row.quantization == "mxfp4" and row.fits == fits
        # 13.76 GB are what is published.
        assert row.weights == pytest.approx(13.76 * GB, rel=0.01 if fits == "yes" else 0.5)


def test_a_device_that_is_not_here_and_no_card_is_refused(tiny_description: Path) -> None:
    with pytest.raises(ArgumentError, match="neither a device"):
        estimate(tiny_description, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="not usable on this machine"):
            estimate(tiny_description, device="cuda")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"device": 4090}, "Pass 'cuda:4090' for the GPU of that number, or '4090' to nbllm.estim"),
        ({"device": 0}, "Pass 'cuda:0'"),
        ({"device": None}, "device=None is no device. Pass 'auto'"),
        ({"device": True}, "device=True is no device. Pass 'auto'"),
        ({"device": ["4090"]}, r"device=\['4090'\] is no device. Pass 'auto'"),
        ({"device": "meta"}, "of the meta device have shapes and no numbers"),
        ({"device": torch.device("meta")}, "of the meta device have shapes and no numbers"),
        ({"dtype": torch.int8}, "There is no dtype torch.int8 here"),
        ({"dtype": torch.float64}, "There is no dtype torch.float64 here"),
        ({"dtype": torch.float8_e4m3fn}, "pass quantize="),
        ({"dtype": "int8"}, "There is no dtype 'int8' here"),
        ({"dtype": None}, "There is no dtype None here"),
        ({"dtype": 16}, "There is no dtype 16 here"),
    ],
)
def test_no_device_and_no_dtype_is_refused_in_words(
    tiny_description: Path, wrong: dict[str, Any], says: str
) -> None:
    for ask in (estimate, load):
        with pytest.raises(ModelError, match=says):
            ask(tiny_description, **wrong)
