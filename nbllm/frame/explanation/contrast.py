"""The label of a row and the likeliest other label, which an explanation contrasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.encoding import HeadScorer
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer, probabilities
from nbllm.errors import LabelError, ProvenanceError
from nbllm.frame.columns import row_values
from nbllm.frame.evaluation.calibration import Scaling
from nbllm.frame.tasks.label import label_ids
from nbllm.models.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Contrast", "contrast"]


@dataclass(frozen=True)
class Contrast:
    """The label of a row and the likeliest other label."""

    label: str
    other: str
    probability: float  # calibrated, like the row's score
    other_probability: float
    target: int  # id of the label's first token that differs from the other's, or of its class
    against: int  # the same of the other label
    shared: tuple[int, ...] = ()  # ids of the tokens that both labels begin with


def contrast(
    record: Mapping[str, Any], frame: Any, column: str, row: int, prompt: Prompt, model: Model
) -> Contrast | None:
    """Return the contrast of a row's label with the likeliest other one; None without labels.

    The prompt is scored again. Because of rounding, an almost equally likely other label may get
    the higher probability here.

    Args:
        record: The record of the run that answered the row.
        frame: The frame with the answers.
        column: The column of the answers.
        row: The position of the row in the frame.
        prompt: The row's prompt in the run.
        model: The model that answered.

    Raises:
        FrameError: The row has no answer.
        LabelError: The answer is not a label of the run.
        ProvenanceError: The model has fewer labels than the run read.
    """
    parameters = record["parameters"]
    by_likelihood = "answers" in parameters and model.kind == "causal"
    by_head = "heads" in parameters and "several" not in parameters and model.kind == "classifier"
    if not (by_likelihood or by_head) or len(parameters["labels"]) < 2:
        return None
    labels = list(parameters["labels"])
    [answer] = row_values(frame, [column], row)
    if answer not in labels:
        raise LabelError(
            f"the answer {answer!r} is none of the labels of run {record['id']!r}: "
            f"{', '.join(labels)}. It was changed since; ask the row again."
        )
    if by_likelihood:
        ids = label_ids(model, labels, parameters["answers"])
        prefix = prompt.ids[: prompt.prefix_length]
        scores = LabelScorer(model, prefix, ids).score([prompt])[0]
    else:
        heads = list(parameters["heads"])
        ids = [[head] for head in heads]
        [outputs] = HeadScorer(model)([prompt])
        if isinstance(outputs, Exception):
            raise outputs
        if max(heads) >= len(outputs):
            raise ProvenanceError(
                f"run {record['id']!r} reads label {max(heads)} of a classifier, and "
                f"{model.name} has {len(outputs)}. Pass the model that answered: model=."
            )
        scores = np.array(outputs)[heads]
    p = _label_probabilities(record, scores)
    best = labels.index(answer)
    second = max((n for n in range(len(labels)) if n != best), key=lambda n: float(p[n]))
    pairs = zip(ids[best], ids[second], strict=False)
    shared = tuple(token for token, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return Contrast(
        label=answer,
        other=labels[second],
        probability=float(p[best]),
        other_probability=float(p[second]),
        target=ids[best][len(shared)],
        against=ids[second][len(shared)],
        shared=shared,
    )


def _label_probabilities(
    record: Mapping[str, Any], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the probability of each label, calibrated as in the run, shape (labels,)."""
    rows = probabilities(scores[None], np.array(record.get("offset") or 0.0))
    if "scaling" in record:
        scaling = record["scaling"]
        rows = Scaling(scaling["temperature"], tuple(scaling["bias"]))(np.log(rows))
    found: NDArray[np.float64] = rows[0]
    return found
