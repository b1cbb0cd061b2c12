import json
from pathlib import Path

import pytest
import torch

from nbllm.models.memory import throughput_table
from nbllm.models.memory.throughput_table import MEASURED, Speed, hint, machine_class

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "quantization_speed.json"

CPU = torch.device("cpu")


def test_the_table_is_what_the_benchmark_wrote() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    (machine,) = {row["machine"] for row in rows}
    assert MEASURED[machine] == {
        row["quantization"]: Speed(
            prefill=round(row["prefill, against none"], 2),
            decoding=round(row["decoding, against none"], 2),
        )
        for row in rows
        if row["dtype"] == "bf16"
    }


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which eight bits read faster, and four write faster."""
    table = {
        "none": Speed(1.0, 1.0),
        "int8": Speed(1.3, 0.9),
        "nf4": Speed(0.8, 2.0),
        "fp4": Speed(0.9, 2.0),  # less exact than nf4, and never named
        "int4": Speed(0.4, 2.1),
    }
    monkeypatch.setattr(throughput_table, "MEASURED", {machine_class(CPU): table})


@pytest.mark.usefixtures("known")
def test_a_faster_choice_is_named_with_both_speeds() -> None:
    assert hint("none", CPU, torch.bfloat16, 2048) == (
        'quantize="nf4" writes 2.0 times as fast here, and reads prompts 0.8 times as fast.'
    )


@pytest.mark.usefixtures("known")
def test_it_is_relative_to_the_choice_that_was_taken() -> None:
    assert hint("int8", CPU, torch.bfloat16, 2048) == (
        'quantize="nf4" writes 2.2 times as fast here, and reads prompts 0.6 times as fast.'
    )


@pytest.mark.usefixtures("known")
def test_what_takes_more_memory_is_never_named() -> None:
    # int8 reads 1.6 times as fast as nf4, and may not fit.
    assert hint("nf4", CPU, torch.bfloat16, 2048) is None
    assert str(hint("int4", CPU, torch.bfloat16, 2048)).startswith(
        'quantize="nf4" writes 1.0 times'
    )


@pytest.mark.usefixtures("known")
def test_nothing_is_said_of_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hint("none", CPU, torch.float32, 2048) is None
    assert hint("awq", CPU, torch.bfloat16, 2048) is None
    assert hint("none", CPU, torch.bfloat16, 576) is None
    monkeypatch.setattr(throughput_table, "machine_class", lambda _: "another machine")
    assert hint("none", CPU, torch.bfloat16, 2048) is None


@pytest.mark.parametrize(
    ("capabilities", "named"),
    [
        ({"avx2": True, "avx512_bf16": False}, "cpu without bf16"),
        ({"avx512_bf16": True}, "cpu avx512_bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, "cpu amx_bf16"),
        ({"bf16": True}, "cpu bf16"),
    ],
)
def test_machines_are_told_apart_by_what_they_compute_in(
    capabilities: dict[str, bool], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert machine_class(CPU) == named
