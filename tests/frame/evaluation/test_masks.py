"""Masked spans against those that should be, by hand."""

import json

import pandas as pd
import polars as pl
import pytest

from nbllm.errors import ColumnError, FrameError
from nbllm.frame.evaluation.masks import baseline_spans
from tests.frame.evaluation.answered import value_and_baseline

TEXTS = [
    "Write to ann@example.org or bob@example.org.",
    "Order 12345678 by 2024-05-01, from 192.168.10.4.",
    "Nothing to see.",
    None,
]


def spans_of(text: str, **entities: str) -> list[dict]:
    places = {entity: text.index(value) for entity, value in entities.items()}
    return [
        {"entity": entity, "start": places[entity], "end": places[entity] + len(value)}
        for entity, value in entities.items()
    ]


@pytest.mark.parametrize("module", [pd, pl])
def test_masks_are_judged_by_what_can_still_be_seen(module) -> None:
    pytest.importorskip("presidio_analyzer")
    truth = [
        spans_of(TEXTS[0], EMAIL_ADDRESS="ann@example.org", PERSON="bob"),
        spans_of(TEXTS[1], IP_ADDRESS="192.168.10.4", ORDER="12345678"),
        [],
        None,
    ]
    cells = [value if value is None else json.dumps(value) for value in truth]
    answered = module.DataFrame({"text": TEXTS, "truth": cells, "n": range(4)}).llm.mask(
        "text", ["EMAIL_ADDRESS", "IP_ADDRESS"], into="safe"
    )
    found = answered.llm.evaluate("truth")
    assert (found.count, found.unit) == (3, "texts")
    # Of four spans the order's number can be read; bob lies within an address, which is masked.
    measured = value_and_baseline(found)
    assert measured["recall"][0] == 3 / 4 and measured["precision"][0] == 1
    assert measured["F1"][0] == pytest.approx(2 * 0.75 / 1.75)
    assert value_and_baseline(found, "ORDER") == {"recall": (0, 1)} and value_and_baseline(
        found, "PERSON"
    ) == {"recall": (1, 1)}
    # The baseline masks the date too.
    assert [len(baseline_spans(text)) for text in TEXTS[:3]] == [2, 3, 0]
    assert measured["recall"][1] == 1 and measured["precision"][1] == 4 / 5
    assert found.rows()["n"].to_list() == [1] and found.rows("PERSON")["n"].to_list() == []
    assert len(found.plot().data) == 2
    assert "Nothing was masked as ORDER, PERSON: mask looks for" in str(found)


def test_a_truth_of_masks_that_is_refused() -> None:
    pytest.importorskip("presidio_analyzer")
    frame = pd.DataFrame({"text": TEXTS[:2], "truth": ["[]", '[{"entity": "X"}]'], "none": None})
    answered = frame.llm.mask("text")
    with pytest.raises(FrameError, match="a list of spans a row"):
        answered.llm.evaluate("truth")
    with pytest.raises(FrameError, match="no row has both"):
        answered.llm.evaluate("none")
    with pytest.raises(ColumnError, match="no column 'other'"):
        answered.llm.evaluate("other")
    # Triples do as well as objects, and without the text there is no baseline.
    triples = answered.assign(truth=[[("EMAIL_ADDRESS", 9, 24)], []]).drop(columns="text")
    assert value_and_baseline(triples.llm.evaluate("truth"))["recall"] == (1, None)
