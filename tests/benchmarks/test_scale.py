"""The benchmark of many rows, run with few."""

import importlib
import math
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_it_measures_each_number_of_rows_and_how_costs_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("NBLLM_HOME", "/nowhere")  # each process has one of its own
    scale = importlib.import_module("bench_scale")
    few, more, growth = scale.run([100, 400])
    assert (few["rows"], more["rows"]) == ("100", "400")
    assert set(few) == set(more) == set(growth) == {"rows", *scale.MEASURES}
    fresh = "fresh CPU µs/row"
    expected = math.log(more[fresh] * 400 / (few[fresh] * 100)) / math.log(4)
    assert growth[fresh] == pytest.approx(expected)
    assert all(row[name] > 0 for row in (few, more) for name in scale.MEASURES)


def test_an_exponent_is_one_where_a_cost_is_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    scale = importlib.import_module("bench_scale")
    assert scale.exponent(2.0, 20.0, 10) == pytest.approx(1)
    assert scale.exponent(2.0, 200.0, 10) == pytest.approx(2)
