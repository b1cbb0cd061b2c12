"""A row's label and the one that came second: what an explanation is about."""

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
    """The label of a row, and the likeliest other one."""

    label: str
    other: str
    probability: float  # calibrated, as the row's score is
    other_probability: float
    target: int  # id of the first token that tells the label from the other, or its class
    against: int  # that of the other
    shared: tuple[int, ...] = ()  # tokens after the prompt that both labels begin with


def contrast(
    record: Mapping[str, Any], frame: Any, column: str, row: int, prompt: Prompt, model: Model
) -> Contrast | None:
    """A row's label beside the one that came second; None where the answer is no such choice.

    The prompt is asked once more, so a label that rounding decided may be the less likely here.

    Args:
        record: of the run that answered the row.
        column: the column of the answers.
        row: position in the frame.
        prompt: what the run gave the model for the row.

    Raises:
        FrameError: the row has no answer.
        LabelError: the answer is none of the run's labels.
        ProvenanceError: the model has fewer labels than the run read.
    """
    asked = record["parameters"]
    by_likelihood = "answers" in asked and model.kind == "causal"
    by_head = "heads" in asked and "several" not in asked and model.kind == "classifier"
    if not (by_likelihood or by_head) or len(asked["labels"]) < 2:
        return None
    labels = list(asked["labels"])
    [answer] = row_values(frame, [column], row)
    if answer not in labels:
        raise LabelError(
            f"the answer {answer!r} is none of the labels of run {record['id']!r}: "
            f"{', '.join(labels)}. It was changed since; ask the row again."
        )
    if by_likelihood:
        ids = label_ids(model, labels, asked["answers"])
        shared_by_rows = prompt.ids[: prompt.prefix_length]
        scores = LabelScorer(model, shared_by_rows, ids).score([prompt])[0]
    else:
        ids = [[head] for head in asked["heads"]]
        [found] = HeadScorer(model)([prompt])
        if isinstance(found, Exception):
            raise found
        if max(asked["heads"]) >= len(found):
            raise ProvenanceError(
                f"run {record['id']!r} reads label {max(asked['heads'])} of a classifier, and "
                f"{model.name} has {len(found)}. Pass the model that answered: model=."
            )
        scores = np.array(found)[list(asked["heads"])]
    chances = _chances(record, scores)
    best = labels.index(answer)
    second = max((n for n in range(len(labels)) if n != best), key=lambda n: float(chances[n]))
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(ids[best], ids[second], strict=False))
    common = tuple(token for token, _ in shared)
    return Contrast(
        label=answer,
        other=labels[second],
        probability=float(chances[best]),
        other_probability=float(chances[second]),
        target=ids[best][len(common)],
        against=ids[second][len(common)],
        shared=common,
    )


def _chances(record: Mapping[str, Any], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of each label as the run gave it."""
    chances = probabilities(scores[None], np.array(record.get("offset") or 0.0))
    if "scaling" in record:
        scaled = record["scaling"]
        chances = Scaling(scaled["temperature"], tuple(scaled["bias"]))(np.log(chances))
    found: NDArray[np.float64] = chances[0]
    return found
