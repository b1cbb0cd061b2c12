"""Quantized weights that are kept: read instead of made again, and the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nbllm.errors import DownloadError
from nbllm.models import quantized_copies
from nbllm.models.fetch.cache import cache_folder
from nbllm.models.loader import load
from nbllm.models.memory.plan import Plan
from nbllm.models.shelf import shelf

Folder = Callable[[str], Path]
IDS = torch.arange(3, 40)[None]


def logits(folder: Path, bits: str, dtype: str = "bf16") -> torch.Tensor:
    """What a model computes that is loaded for this alone."""
    with load(folder, quantize=bits, dtype=dtype) as model, torch.inference_mode():
        assert model.quantization == bits
        out: torch.Tensor = model.network(IDS).logits
        return out


@pytest.mark.parametrize("bits", ["int8", "nf4", "fp4"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_the_second_load_reads_what_the_first_made(
    tiny_folder: Folder,
    bits: str,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tiny_folder("causal")
    first = logits(folder, bits, dtype)
    assert f"{bits} weights kept for the next load" in capsys.readouterr().out
    monkeypatch.setattr("nbllm.models.quantization.schemes.config", None)
    second = logits(folder, bits, dtype)
    assert torch.equal(first, second)
    assert [kept.quantization for kept in shelf().items if kept.place == "on this disk"] == [bits]
    assert capsys.readouterr().out == ""


def test_each_quantization_dtype_and_revision_has_its_own(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    logits(folder, "nf4")
    before = logits(folder, "nf4", "fp32")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert not torch.equal(before, logits(folder, "nf4", "fp32"))
    assert len(list(cache_folder().glob("nf4-*-v[0-9]"))) == 3


def test_each_kind_of_device_has_its_own(tmp_path: Path) -> None:
    def folder(device: str, dtype: torch.dtype = torch.float16) -> str:
        where = torch.device(device)
        kept = quantized_copies._folder(Plan(tmp_path, "0", "causal", 512, "nf4", where, dtype))
        assert kept is not None
        return kept.name

    assert folder("cpu").startswith("nf4-float16-") and "cpu" not in folder("cpu")
    assert folder("cuda:0") == folder("cuda:1")  # packed alike
    names = {folder(device) for device in ("cpu", "cuda", "mps")}
    assert len(names) == 3 and len(names | {folder("cpu", torch.bfloat16)}) == 4


@pytest.mark.parametrize("bits", ["none", "int8wo"])
def test_what_costs_nothing_is_not_kept(tiny_folder: Folder, bits: str) -> None:
    logits(tiny_folder("causal"), bits)
    assert not list(cache_folder().glob("*-v[0-9]"))


def test_a_full_disk_is_said_and_stops_nothing(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise DownloadError("There is no room.")

    monkeypatch.setattr(quantized_copies, "require_space", full)
    assert logits(tiny_folder("causal"), "nf4").isfinite().all()
    said = capsys.readouterr().out
    assert said == "nbllm: the nf4 weights are not kept for the next load: There is no room.\n"
    assert not list(cache_folder().glob("nf4-*"))


def test_the_shelf_removes_them(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    logits(folder, "nf4")
    kept = next(cache_folder().glob("nf4-*-v[0-9]"))
    assert str(kept) in str(shelf())
    assert shelf().remove(str(kept)) > 0
    assert not kept.exists()
