"""What `nbllm.estimate` says, from a configuration alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers import BertConfig, LlamaConfig, T5Config

from nbllm.errors import ModelError, QuantizationError, TextTooLongError, UnsupportedModelError
from nbllm.models.estimate import dry_run
from nbllm.models.estimate import estimate as module
from nbllm.models.estimate.estimate import estimate
from nbllm.models.quantization.schemes import Quantization

GB = 10**9
LLAMA_3_8B = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 8192, "tie_word_embeddings": False,
    "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
TINY = {
    **LLAMA_3_8B, "vocab_size": 300, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., Path]:
    """A folder with nothing but a config.json."""

    def write(cls: type = LlamaConfig, **settings: Any) -> Path:
        folder = tmp_path / "described"
        folder.mkdir()
        config = cls(**settings).to_dict()
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def with_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Gives the machine so much memory, and leaves so much of it free."""

    def has(total: int, free: int) -> None:
        monkeypatch.setattr(module, "device_memory", lambda device: total)
        monkeypatch.setattr(module, "free_memory", lambda device: free)

    return has


def test_an_8b_model_without_its_weights(
    described: Callable[..., Path], with_memory: Callable[[int, int], None]
) -> None:
    with_memory(24 * GB, 12 * GB)
    found = estimate(
        described(**LLAMA_3_8B), quantize=["none", "int8", "nf4"], context=8192, dtype="bf16",
        device="cpu",
    )  # fmt: skip
    whole, int8, nf4 = found.rows
    assert found.parameters == 8_030_261_248
    assert whole.weights == 2 * 8_030_261_248
    assert whole.cache == int8.cache == nf4.cache == 2**30
    assert int8.weights == pytest.approx(9.08e9, rel=0.01)
    assert nf4.weights == pytest.approx(5.7e9, rel=0.01)
    # In the MLP, three tensors of 14336 bf16 for each of 8192 tokens, beside four of 4096: the
    # input of the layer, what attention added to it, the sum, and the same normalized.
    assert whole.activations == pytest.approx(8192 * 2 * (3 * 14_336 + 4 * 4096), rel=0.02)
    assert int8.activations > 2 * whole.activations  # by its sums in 32 bits
    assert [row.fits for row in found.rows] == ["not now", "not now", "yes"]


@pytest.mark.parametrize("cards", [2, 3])
def test_a_batch_lies_on_one_card_at_a_time(
    described: Callable[..., Path], with_memory: Callable[[int, int], None], cards: int
) -> None:
    asked: Any = {"quantize": "none", "context": 1024, "device": f"{cards}x4090"}
    folder = described(**TINY | {"num_hidden_layers": 6})
    with_memory(GB, GB)
    (row,) = estimate(folder, batch=7, **asked).rows
    # Parts of what stays, and the whole of what is alive for a moment.
    needed = (row.weights + row.cache) / cards + row.activations
    assert row.activations > row.cache > 0
    for free, fits in ((int(needed) - 1, "no"), (int(needed) + 2, "spread")):
        # What CUDA takes of each is not to be had.
        with_memory(GB, free)
        found = estimate(folder, batch=7, **asked)
        assert (found.rows[0].fits, found.devices) == (fits, cards)
    with_memory(GB, row.peak)
    assert estimate(folder, batch=7, **asked).rows[0].fits == "yes"


@pytest.mark.parametrize("cards", [1, 3])
@pytest.mark.parametrize("context", [16, 1024])
def test_the_most_texts_are_the_same_in_each_row_and_find_room(
    described: Callable[..., Path],
    with_memory: Callable[[int, int], None],
    cards: int,
    context: int,
) -> None:
    folder = described(**TINY)
    asked: Any = {"quantize": "nf4", "context": context, "device": f"{cards}x4090"}
    with_memory(GB, GB)
    (row,) = estimate(folder, **asked).rows
    # On each of several there is no room for the whole of one text.
    for free in (1.05 * row.peak, 40e6) if cards == 1 else (0.99 * row.peak,):
        with_memory(GB, int(free))
        rows = estimate(folder, batch=[1, 2, 64], **asked).rows
        assert rows[0].fits == ("yes" if cards == 1 else "spread")
        (n,) = {row.most_texts for row in rows}
        # Each of several keeps a share of what is alive for a moment.
        far = int((1.6 if cards == 1 else 2.5) * n) + 2
        enough, too_many = estimate(folder, batch=[n, far], **asked).rows
        assert enough.fits == rows[0].fits and enough.most_texts == n > 0
        assert too_many.fits == "no"


def test_not_now_is_said_of_what_others_use_here_and_never_of_a_card(
    described: Callable[..., Path], with_memory: Callable[[int, int], None]
) -> None:
    folder = described(**TINY)
    with_memory(GB, 1_000_000)
    for device, fits in (("cpu", "not now"), ("4090", "no"), ("2x4090", "no")):
        (row,) = estimate(folder, quantize="none", context=64, device=device).rows
        assert (row.fits, row.most_texts) == (fits, 0)


def test_a_row_for_each_combination(described: Callable[..., Path]) -> None:
    found = estimate(
        described(**TINY), quantize=["none", "int8"], context=[16, 64], batch=[1, 8], device="cpu"
    )
    frame = found.to_frame()
    assert len(frame) == 8
    assert not frame.duplicated(["quantization", "context", "batch"]).any()
    one = frame.set_index(["quantization", "context", "batch"])
    assert one.cache["none", 64, 8] == 32 * one.cache["none", 16, 1]
    assert one.activations["none", 64, 8] > 8 * one.activations["none", 16, 1]
    assert (frame.peak >= frame[["weights", "cache", "activations"]].sum(axis=1)).all()
    assert (frame.peak >= frame.loading).all()


def test_every_quantization_is_there_by_default(described: Callable[..., Path]) -> None:
    found = estimate(described(**TINY), device="cpu", dtype="bf16")
    weights = {row.quantization: row.weights for row in found.rows}
    assert tuple(weights) == get_args(Quantization)
    assert weights["nf4"] == weights["fp4"] < weights["int8"] < weights["none"]
    assert {row.context for row in found.rows} == {2048}


@pytest.mark.parametrize(
    ("settings", "kind", "remembers"),
    [
        ((T5Config, {"vocab_size": 300, "d_model": 64, "d_ff": 128, "num_layers": 2,
                     "architectures": ["T5ForConditionalGeneration"]}), "seq2seq", True),
        ((BertConfig, {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2,
                       "num_attention_heads": 4, "intermediate_size": 128,
                       "architectures": ["BertForSequenceClassification"]}), "classifier", False),
        ((BertConfig, {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2,
                       "num_attention_heads": 4, "intermediate_size": 128,
                       "architectures": ["BertModel"]}), "encoder", False),
    ],
)  # fmt: skip
def test_other_kinds(
    described: Callable[..., Path],
    settings: tuple[type, dict[str, Any]],
    kind: str,
    remembers: bool,
) -> None:
    cls, fields = settings
    found = estimate(described(cls, **fields), quantize="none", context=128, device="cpu")
    assert found.kind == kind
    assert bool(found.rows[0].cache) is remembers
    assert found.rows[0].activations > 0
    assert found.notes == ()


def test_a_checkpoint_that_was_published_quantized(described: Callable[..., Path]) -> None:
    stated = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    folder = described(**TINY, quantization_config=stated)
    (row,) = estimate(folder, device="cpu", dtype="bf16").rows
    (whole,) = estimate(folder, quantize="none", device="cpu", dtype="bf16").rows
    assert row.quantization == "gptq"
    layers = 2 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    # 4 bits each, with a scale of 16 and a zero point of 4 bits for 128 of them.
    assert whole.weights - row.weights == pytest.approx(layers * (2 - 0.5 - 20 / 8 / 128), rel=0.01)
    with pytest.raises(QuantizationError, match="was published in gptq"):
        estimate(folder, quantize="nf4", device="cpu")


def test_one_that_does_not_say_how_many_bits(described: Callable[..., Path]) -> None:
    folder = described(**TINY, quantization_config={"quant_method": "someday"})
    with pytest.raises(UnsupportedModelError, match="how many bits"):
        estimate(folder, device="cpu")


def test_what_cannot_be_run_without_numbers_is_said(
    described: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no numbers here\nand more")

    monkeypatch.setattr(dry_run, "dry_run", fail)
    found = estimate(described(**TINY), quantize="none", context=[16, 32], device="cpu")
    (note,) = found.notes
    assert "Activations are not in these figures" in note and "no numbers here" in note
    assert [row.activations for row in found.rows] == [0, 0]
    assert found.rows[1].cache == 2 * found.rows[0].cache > 0
    assert note in str(found)


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"quantize": "int3"}, QuantizationError, "int3"),
        ({"quantize": []}, QuantizationError, "one or several"),
        ({"context": 8193}, TextTooLongError, "8,192"),
        ({"context": 0}, ModelError, "context=0"),
        ({"batch": []}, ModelError, "batch="),
    ],
)
def test_bad_questions(
    described: Callable[..., Path], asked: dict[str, Any], error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        estimate(described(**TINY), device="cpu", **asked)


def test_it_shows_itself(
    described: Callable[..., Path], with_memory: Callable[[int, int], None], tmp_path: Path
) -> None:
    with_memory(8 * GB, 2 * GB)
    folder = described(**TINY).rename(tmp_path / "<b>bold</b> & co".replace("/", "_"))
    found = estimate(folder, quantize=["none", "nf4"], context=64, device="cpu")
    text, html = str(found), found._repr_html_()
    assert text.count("\n") == 7
    for said in ("is within what is free. quantize=", "within 70% of the memory.", "in the 80% of"):
        assert said in text and said in unescape(html)
    assert "Loaded with quantize='auto': not quantized" in text
    assert "8.0 GB, 2.0 GB of it free" in text
    assert "<b>" not in html and "&lt;b&gt;" in html and "<script" not in html
    figure = found.plot()
    bars = {bar.name: sum(bar.y) for bar in figure.data}
    assert sum(bars.values()) == pytest.approx(sum(row.peak for row in found.rows) / GB)
    assert not figure.layout.shapes, "a line far above the bars would flatten them"
    assert "8.0 GB" in figure.layout.title.subtitle.text
    assert "<b>" not in figure.layout.title.text


def test_memory_is_a_line_where_the_bars_come_near_it(
    described: Callable[..., Path], with_memory: Callable[[int, int], None]
) -> None:
    folder = described(**TINY)
    with_memory(8 * GB, 2 * GB)
    peak = estimate(folder, quantize="none", context=64, device="cpu").rows[0].peak
    with_memory(3 * peak, peak)
    figure = estimate(folder, quantize="none", context=64, device="cpu").plot()
    assert [line.y0 for line in figure.layout.shapes] == [peak / 1e9, 3 * peak / 1e9]


def test_a_quantization_without_a_kernel_here(
    described: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.quantization, "kernel_problem", lambda q, *_: "no" if q == "nf4" else None
    )
    found = estimate(described(**TINY), quantize=["none", "nf4"], device="cpu")
    assert [row.fits for row in found.rows] == ["yes", "no kernel"]


def test_in_the_dtype_that_is_asked_for(described: Callable[..., Path]) -> None:
    folder = described(**TINY)
    (half,) = estimate(folder, quantize="none", dtype="bf16", device="cpu").rows
    (full,) = estimate(folder, quantize="none", dtype=torch.float32, device="cpu").rows
    assert full.weights == 2 * half.weights
    assert full.cache == 2 * half.cache


def test_int4_is_loaded_in_bf16_everywhere(
    described: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = described(**TINY)
    as_asked = estimate(folder, quantize="int4", dtype="bf16", device="cpu").rows[0].weights
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # no bf16
    by_default = {row.quantization: row for row in estimate(folder, device="cpu").rows}
    assert by_default["int4"].weights == as_asked
    assert by_default["none"].weights > 2 * by_default["int4"].weights
