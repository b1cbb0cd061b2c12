"""What all evaluations have in common: a summary, and how it is shown."""

import pandas as pd
import polars as pl
import pytest

from tests.frame.evaluation.answered import answered_by_labels


@pytest.mark.parametrize("module", [pd, pl])
def test_the_summary_is_a_frame_of_the_callers_kind(module) -> None:
    frame = answered_by_labels(module)
    summary = frame.llm.evaluate("truth").summary
    assert type(summary) is type(frame)
    assert list(summary.columns) == ["measure", "label", "value", "low", "high", "baseline"]
    assert len(summary) == 3 + 3 * 3


def test_an_evaluation_is_shown_and_nothing_in_it_is_markup() -> None:
    found = answered_by_labels().llm.evaluate("truth")
    assert "298 rows" in repr(found) and "The baseline is always 'card'." in repr(found)
    assert "Left out: 1 with a truth and no answer." in repr(found)
    shown = found._repr_html_()
    assert "&lt;b&gt;other&lt;/b&gt;" in shown and "<b>other" not in shown
    figure = found.plot()
    assert [trace.type for trace in figure.data] == ["heatmap", "scatter", "scatter"]
    assert "<b>other" not in figure.to_json() and sum(figure.data[2].customdata) == 298
