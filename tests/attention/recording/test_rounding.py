"""What is rounding and what is a fault, with what the user lets torch multiply in."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from nbllm.attention.recording.accumulator import LayerAccumulator
from nbllm.attention.recording.capture import record
from nbllm.attention.recording.rounding import rounding_tolerance
from nbllm.errors import UnsupportedModelError
from nbllm.models.model import Model
from tests.pretended.device import move, pretended

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """torch's settings, put back."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cuda.matmul.allow_tf32 = False


def allow_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


@pytest.mark.parametrize(
    ("setting", "device", "allowed"),
    [
        (lambda: None, CPU, 1e-3),
        (lambda: None, CUDA, 1e-3),
        (allow_tf32, CUDA, 5e-3),
        (lambda: torch.set_float32_matmul_precision("high"), CUDA, 5e-3),
        (lambda: torch.set_float32_matmul_precision("medium"), CUDA, 5e-3),
        (lambda: torch.set_float32_matmul_precision("medium"), CPU, 5e-2),
    ],
)
def test_float32_is_held_to_what_it_is_multiplied_in(
    setting: Any, device: torch.device, allowed: float
) -> None:
    setting()
    assert rounding_tolerance(torch.float32, device) == allowed
    assert rounding_tolerance(torch.float64, device) == 1e-3
    assert (
        rounding_tolerance(torch.bfloat16, device)
        == rounding_tolerance(torch.float16, device)
        == 5e-2
    )


def test_a_recording_in_tf32_is_not_refused(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LayerAccumulator, "reconstruction_error", lambda _layer: torch.tensor(2e-3)
    )  # as TF32 rounds
    with pretended():
        move(tiny_llama.network, "cuda:0")
        with pytest.raises(UnsupportedModelError, match=r"miss what it returned by 0\.2%"):
            record(tiny_llama, "A warm soup.")
        allow_tf32()
        assert record(tiny_llama, "A warm soup.").closure() == pytest.approx(2e-3)
