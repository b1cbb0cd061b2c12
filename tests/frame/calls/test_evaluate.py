"""What cannot be evaluated is refused in words."""

import pytest

from nbllm.errors import ColumnError, FrameError, LabelError, ProvenanceError
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
