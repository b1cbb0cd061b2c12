"""The benchmark of many rows, run with few."""

import importlib
import math
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_it_measures_each_number_of_rows_and_how_costs_grow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    scale = importlib.import_module("bench_scale")

    def here(folder: str, size: int) -> dict[str, float]:
        """Without a process for each number of rows, which would import all of it again."""
        monkeypatch.setenv("NBLLM_LEDGER", str(tmp_path / f"{size}.sqlite3"))
        costs: dict[str, float] = scale.measure(folder, size)
        return costs

    monkeypatch.setattr(scale, "_in_a_process", here)
    monkeypatch.setattr(scale, "RUNS", 1)
    few, more, growth = scale.run([100, 400])
    assert (few["rows"], more["rows"]) == ("100", "400")
    assert set(few) == set(more) == set(growth) == {"rows", *scale.MEASURES}
    fresh = "fresh CPU µs/row"
    expected = math.log(more[fresh] * 400 / (few[fresh] * 100)) / math.log(4)
    assert growth[fresh] == pytest.approx(expected)
    of_memory = "peak memory B/row"  # which may be none, where this process once had more
    assert all(row[name] > 0 for row in (few, more) for name in set(scale.MEASURES) - {of_memory})


def test_an_exponent_is_one_where_a_cost_is_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    scale = importlib.import_module("bench_scale")
    assert scale.exponent(2.0, 20.0, 10) == pytest.approx(1)
    assert scale.exponent(2.0, 200.0, 10) == pytest.approx(2)
