"""What cannot be evaluated is refused in words, and an old argument is still taken."""

import inspect

import pandas as pd
import pytest

from nbllm.accessor import FrameAccessor
from nbllm.errors import ArgumentError, ColumnError, FrameError, LabelError, ProvenanceError
from tests.frame.evaluation.answered import answered_by_labels


def test_what_cannot_be_evaluated_is_said() -> None:
    frame = answered_by_labels()
    with pytest.raises(ColumnError, match="no column 'label'"):
        frame.llm.evaluate("label")
    with pytest.raises(LabelError, match=r"holds 'Text 0\."):
        frame.llm.evaluate("text")
    with pytest.raises(FrameError, match="Leave it out"):
        frame.llm.evaluate("truth", metrics=["bleu"])
    with pytest.raises(FrameError, match="no row has both"):
        frame.assign(truth=None).llm.evaluate("truth")
    with pytest.raises(ProvenanceError, match="not on record"):
        frame.assign(c_run="classify-lost").llm.evaluate("truth")
    with pytest.raises(FrameError, match="nothing to evaluate"):
        frame.assign(c_run=None).llm.evaluate("truth")


def test_the_corpus_is_also_taken_by_its_former_name(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {}
    monkeypatch.setattr(
        "nbllm.frame.calls.evaluate.evaluate", lambda *given, **named: taken.update(named)
    )
    corpus = pd.DataFrame({"text": ["a"]})
    with pytest.warns(DeprecationWarning, match=r"^among= is now corpus=;") as warned:
        corpus.llm.evaluate("truth", among=corpus)
    assert taken["corpus"] is corpus and warned[0].filename == __file__
    with pytest.raises(ArgumentError, match="Give corpus= alone"):
        corpus.llm.evaluate("truth", among=corpus, corpus=corpus)
    assert "among" not in inspect.signature(FrameAccessor.evaluate).parameters
