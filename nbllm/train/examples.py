"""Rows as tokens: exactly the prompt of a verb, followed by the true answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbllm.engine.prompt import CompiledTemplate, Prompt, Template, answer_ids
from nbllm.engine.tokenization import special_token_id
from nbllm.errors import TextTooLongError
from nbllm.frame.tasks.label import LabelTask, label_ids
from nbllm.train.rows import LearnedRow

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["Example", "answer_examples", "head_examples", "label_examples"]


@dataclass(frozen=True)
class Example:
    """One row: the tokens that are read, and those that are predicted.

    `ids[begin:]` is the answer, and the tokens before it are read only. A classifier reads all of
    it and predicts the label of number `label`.
    """

    ids: tuple[int, ...]
    begin: int
    shared: int = 0  # leading tokens that every row of the run has
    label: int = -1

    def __len__(self) -> int:
        return len(self.ids)


def label_examples(
    model: Model, task: LabelTask, rows: Sequence[LearnedRow], *, limit: int, truncate: bool
) -> list[Example | None]:
    """Return rows after the prompt of a verb, each with its label; None for one that is too long.

    Args:
        model: The model, whose tokenizer counts.
        task: The verb's task.
        rows: The rows.
        limit: The most tokens of a row, its prompt and its answer together.
        truncate: Cut the text of longer rows, which else are None.
    """
    labels = dict(zip(task.labels, label_ids(model, task.labels, task.answers), strict=True))
    room = limit - max(map(len, labels.values()))
    answers = [labels[row.answer] for row in rows]
    return _followed(model, task.template, rows, answers, [room] * len(rows), truncate)


def answer_examples(
    model: Model, template: Template, rows: Sequence[LearnedRow], *, limit: int, truncate: bool
) -> list[Example | None]:
    """Return rows after a prompt, each with its answer and its end; None for one that is too long.

    Args:
        model: The model, whose tokenizer counts.
        template: The prompt.
        rows: The rows.
        limit: The most tokens of a row, its prompt and its answer together.
        truncate: Cut the text of longer rows, which else are None.
    """
    end = _end(model)
    answers = [[*ids, *end] for ids in answer_ids(model.tokenizer, [row.answer for row in rows])]
    return _followed(model, template, rows, answers, [limit - len(a) for a in answers], truncate)


def head_examples(
    model: Model, labels: Sequence[str], rows: Sequence[LearnedRow], *, limit: int, truncate: bool
) -> list[Example | None]:
    """Return rows for a classifier or encoder, each with its label; None for one that is too long.

    Args:
        model: The model, whose tokenizer counts.
        labels: The labels, in the order of the head.
        rows: The rows.
        limit: The most tokens of a row.
        truncate: Cut the text of longer rows, which else are None.
    """
    from nbllm.engine.encoding import framed

    encoded = framed(model).encode([row.texts for row in rows], limit=limit, truncate=truncate)
    return [
        None if fits is None else Example(fits.ids, len(fits.ids), label=labels.index(row.answer))
        for row, fits in zip(rows, map(_fitting, encoded), strict=True)
    ]


def _end(model: Model) -> list[int]:
    """The token with which the model ends its output, if there is one."""
    own = model.network.generation_config
    stated = None if own is None else own.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    # Of several, the one that the chat template writes comes first in the tokenizer's mind.
    eos = special_token_id(model.tokenizer, "eos")
    if eos is not None and (stated is None or eos in ends):
        return [eos]
    return [int(ends[0])] if ends[0] is not None else []


def _followed(
    model: Model,
    template: Template,
    rows: Sequence[LearnedRow],
    answers: Sequence[Sequence[int]],
    rooms: Sequence[int],
    truncate: bool,
) -> list[Example | None]:
    compiled = CompiledTemplate(template, model.tokenizer)
    encoded: list[Prompt | Exception] = []
    if len(set(rooms)) == 1:
        encoded = compiled.encode([row.texts for row in rows], limit=rooms[0], truncate=truncate)
    else:
        for row, room in zip(rows, rooms, strict=True):
            encoded += compiled.encode([row.texts], limit=room, truncate=truncate)
    return [
        None
        if fits is None
        else Example((*fits.ids, *answer), len(fits.ids), shared=fits.prefix_length)
        for fits, answer in zip(map(_fitting, encoded), answers, strict=True)
    ]


def _fitting(encoded: Prompt | Exception) -> Prompt | None:
    """The prompt; None where it did not fit. Other errors are raised."""
    if isinstance(encoded, Exception):
        if isinstance(encoded, TextTooLongError):
            return None
        raise encoded
    return encoded
