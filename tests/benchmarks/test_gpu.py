"""The GPU benchmark, run with a tiny model on whatever this machine has."""

import gc
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import computes_in_bf16

pytestmark = pytest.mark.long

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

PUBLISHED_8B = 8_030_261_248  # parameters of Meta-Llama-3-8B, as its model card counts them


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import gpu

        gc.collect()
        gc.freeze()  # what it imports is much, and it collects garbage a hundred times
        yield gpu


@pytest.fixture(autouse=True)
def data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `gpu.main` takes out of the environment is there again for the tests after it."""
    if "NBLLM_DATA" in os.environ:
        monkeypatch.setenv("NBLLM_DATA", os.environ["NBLLM_DATA"])


@pytest.fixture(scope="module")
def record(gpu: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result file of `gpu.py --tiny`."""
    from transformers.utils import logging

    folder = tmp_path_factory.mktemp("gpu")
    verbosity = logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch:
        # It sets these for itself, which is for its own process only.
        patch.setenv("NBLLM_HOME", str(folder))
        patch.setenv("NBLLM_DATA", str(folder))
        patch.setenv("TQDM_DISABLE", "1")
        status = gpu.main(["--tiny", "--out", str(folder / "gpu.json"), "--folder", str(folder)])
    logging.set_verbosity(verbosity)
    assert [file.name for file in folder.iterdir()] == ["gpu.json"]  # no weights left behind
    written: dict[str, Any] = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    assert status == len(written["failures"]) == 0, written["failures"]
    return written


def test_every_section_ran_for_every_quantization(gpu: ModuleType, record: dict[str, Any]) -> None:
    done = {(row["section"], row["quantization"]) for row in record["rows"]}
    sections = {"load", *(section.__name__ for section in gpu.EVERY_QUANTIZATION)}
    assert done >= {
        ("limits", "none"),
        ("checkpoint", "none"),
        *((name, bits) for name in sections for bits in ("none", "nf4", "int8")),
    }


def test_all_is_checked_before_anything_is_timed(record: dict[str, Any]) -> None:
    sections = list(dict.fromkeys(row["section"] for row in record["rows"]))
    checks = ["small models", "answers", "other kinds", "quantized", "attention", "compiled"]
    assert sections[: len(checks)] == checks
    checked = [row for row in record["rows"] if row["allowed"] is not None]
    assert len(checked) > 40 and all(row["right"] for row in checked)
    absent = {part["measure"] for part in record["absent"]}
    held = {row["measure"].partition(",")[0] for row in record["rows"]} | absent
    assert held >= {"nf4", "fp4", "int8", "int4", "int8wo", "gradients", "perplexity"}


def test_rows_are_whole_and_ratios_sane(record: dict[str, Any]) -> None:
    assert record["machine"]["cores"] >= 1 and "torch" in record["versions"]
    fields = {"section", "quantization", "measure", "value", "unit"}
    for row in record["rows"]:
        further = {"against", "reference", "bound", "allowed", "ratio", "share", "right"}
        assert row.keys() == fields | further
        assert math.isfinite(row["value"]), row
        assert row["value"] > 0 or row["allowed"] is not None or row["unit"].endswith("differ"), row
        if row["against"]:
            assert row["ratio"] == pytest.approx(row["value"] / row["reference"])
            assert 0.001 < row["ratio"] < 100, row
        else:
            assert row["ratio"] is None


def test_speeds_have_a_bound_and_nothing_is_faster(record: dict[str, Any]) -> None:
    bounded = [row for row in record["rows"] if row["bound"] is not None]
    noise = [part for part in record["absent"] if "lost in" in part["reason"]]
    assert {row["section"] for row in bounded} == {"prefill", "decode", "sentiment", "attention"}
    assert len(bounded) + len(noise) == 3 * (2 + 3 + 1 + 1)
    # Where bf16 products are emulated, they are no limit.
    if computes_in_bf16():
        assert all(row["share"] < 1 for row in bounded)


def test_loaded_bytes_are_the_forecast(record: dict[str, Any]) -> None:
    bytes_held = [row["ratio"] for row in record["rows"] if row["measure"] == "weights in memory"]
    assert bytes_held == pytest.approx([1, 1, 1], rel=0.02)


def test_the_large_model_has_the_published_size(gpu: ModuleType) -> None:
    shape = gpu.FULL.shape
    norms = shape.hidden * (2 * shape.layers + 1)
    embeddings = 2 * shape.vocabulary * shape.hidden
    assert shape.flops // 2 + embeddings + norms == PUBLISHED_8B


@pytest.fixture
def log(gpu: ModuleType, tmp_path: Path) -> Any:
    return gpu.Log(tmp_path / "gpu.json", {"benchmark": "gpu"}, deadline=math.inf)


@pytest.fixture
def bench(gpu: ModuleType, tmp_path: Path) -> Any:
    import torch

    return gpu.Bench(gpu.TINY, gpu.Meter(torch.device("cpu")), tmp_path / "none")


def test_a_failure_is_recorded_and_keeps_what_came_before(
    log: Any, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> Iterator[Any]:
        yield bench.row("some", "thing", 1.0, "s")
        raise ValueError("no such kernel")

    assert not log.take("some", "none", fails())
    assert log.take("other", "none", iter([bench.row("other", "thing", 2.0, "s")]))
    written = json.loads(log.file.read_text(encoding="utf-8"))
    assert [row["value"] for row in written["rows"]] == [1.0, 2.0]
    assert written["failures"] == [
        {"section": "some", "quantization": "none", "problem": "ValueError: no such kernel"}
    ]
    assert "ValueError: no such kernel" in capsys.readouterr().out


def test_a_line_that_is_not_right_is_a_failure_and_stops_nothing(log: Any, bench: Any) -> None:
    def wrong() -> Iterator[Any]:
        yield bench.row("some", "scores", 0.5, "nats", allowed=0.2)
        written = json.loads(log.file.read_text(encoding="utf-8"))
        assert [row["right"] for row in written["rows"]] == [False]  # on disk as the line ends
        yield bench.row("some", "texts", 0, "differ", allowed=0)

    assert log.take("some", "none", wrong())
    assert [row.right for row in log.rows] == [False, True]
    assert [failure["section"] for failure in log.failures] == ["some"]
    assert "at most 0.2 is right" in log.failures[0]["problem"]


def test_a_device_that_computes_wrongly_is_found(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_checks
    import torch

    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    log = gpu.Log(tmp_path / "gpu.json", {"benchmark": "gpu"}, deadline=math.inf)
    bench = gpu.Bench(gpu.TINY, gpu.Meter(torch.device("cpu")), tmp_path / "none")
    assert log.take("small models", "none", gpu_checks.small_models(bench))
    right, calls = gpu_checks.scores, []

    def every_second_off(*arguments: Any) -> Any:
        calls.append(1)
        return right(*arguments) + 0.3 * (len(calls) % 2)

    monkeypatch.setattr(gpu_checks, "scores", every_second_off)
    assert log.take("answers", "none", gpu_checks.answers(bench))
    assert len(log.failures) == 6 and all("scores" in f["problem"] for f in log.failures)


def test_the_share_of_a_bound_is_of_speed(bench: Any) -> None:
    assert bench.row("some", "speed", 50.0, "tokens/s", bound=100.0).share == 0.5
    assert bench.row("some", "time", 2.0, "s", bound=1.0).share == 0.5


def test_no_section_is_started_after_the_deadline(gpu: ModuleType, log: Any, bench: Any) -> None:
    log.deadline = -math.inf
    assert not log.take("checkpoint", "none", gpu.checkpoint(bench))
    assert not bench.folder.exists()
    assert log.failures[0]["problem"] == "not measured: the time was up"


def test_a_missing_library_is_said(
    gpu: ModuleType, log: Any, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_speed.kernel_problem", lambda *_: "bitsandbytes is not installed")
    bench.quantization = "nf4"
    assert not log.take("load", "nf4", gpu.load(bench))
    assert log.failures[0]["problem"] == "not measured: bitsandbytes is not installed"


def test_what_cannot_be_written_is_said_before_anything_is_measured(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (["--out", str(tmp_path)], "is a folder"),
        (["--out", "/proc/gpu.json"], "cannot be written"),
        (["--folder", str(tmp_path / "absent")], "is no folder"),
    ):
        with pytest.raises(SystemExit):
            gpu.main(["--tiny", *arguments])
        assert said in capsys.readouterr().err


def test_an_interrupt_keeps_what_was_measured_and_removes_the_weights(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(bench: Any) -> Iterator[Any]:
        yield bench.row("some", "thing", 1.0, "s")
        (bench.folder.parent / "weights").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "CHECKS", (stopped,))
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    out = tmp_path / "gpu.json"
    assert gpu.main(["--tiny", "--out", str(out), "--folder", str(tmp_path / "weights")]) == 1
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["model"] == "tiny" and [row["value"] for row in written["rows"]] == [1.0]
    assert "interrupted" in written["failures"][0]["problem"]
    assert not list((tmp_path / "weights").iterdir())


def test_without_a_gpu_it_says_so(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch sees no GPU here"):
        gpu.main([])


def test_a_random_model_writes_as_long_as_asked(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from gpu_bench import generate
    from random_llama import write

    import nbllm

    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    size = write(tmp_path / "llama", gpu.TINY.shape, torch.device("cpu"))
    with nbllm.load(tmp_path / "llama", quantize="none", device="cpu", dtype="bf16") as model:
        assert size == pytest.approx(2 * model.network.num_parameters(), rel=1e-3)
        written = generate(model.network, torch.arange(3, 35).reshape(4, 8), 100)
        assert written.shape == (4, 108)
        assert written[:, 8:].min() > 2 and written.max() < len(model.tokenizer)
