"""What the browser asks first of an attention view, answered before it asks.

A cell may run on after it has shown a view, and others may wait behind it: a question that the
browser asks meanwhile waits for all of them. These answers ride in the view's state.
widgets/attention/index.ts has the same questions, for a view that opens later.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

from nbllm.widgets.attention.handler import Questions
from nbllm.widgets.attention.offline_store import Matrix
from nbllm.widgets.page import Question

__all__ = ["opening_answers", "opening_side"]

# Pixels a side of a matrix by itself, and of each of three; PIXELS of widgets/attention/index.ts.
ALONE, COMPARED = 410, 300
LONG = 1024  # tokens: the weights for the lines of a longer text would hold up the picture


def opening_answers(
    questions: Questions, on_screen: Sequence[Matrix], window: Sequence[int] | None
) -> Iterator[list[dict[str, Any]]]:
    """What the state holds, one after the other, until all is answered.

    Each is of all questions: {question, message, numbers}, numbers in base64 or None, and message
    None where the answer comes later or came before. What is known at once comes first, so that
    the browser builds the view while its picture is drawn.

    Text, and not the buffers that a widget's state can have: what executes a notebook without a
    browser would keep those in its file when they are long gone.

    Args:
        on_screen: the matrices; the first is the one that has the lines, and the window.
    """
    first, size = on_screen[0], opening_side(questions)
    known: list[Question] = [
        {"kind": "contents"},
        *({"kind": "outline", "part": first.part, "side": side} for side in questions.sides),
    ]
    drawn = [matrix.picture(size) for matrix in on_screen]
    if window is not None:
        drawn[0] |= {"rows": [*window[:2]], "columns": [*window[2:]]}
        del drawn[1:]  # the others show what corresponds to it
    if len(first.sheet.keys) <= LONG:
        drawn.append(first.lines())
    yield [*_untold(known), *_untold(drawn)]
    yield [*_told(questions, known), *_untold(drawn)]
    yield [*_untold(known), *_told(questions, drawn)]


def opening_side(questions: Questions) -> int:
    """How many pixels a side the browser asks of each matrix."""
    return ALONE if len(questions.sides) == 1 else COMPARED


def _untold(asked: Sequence[Question]) -> list[dict[str, Any]]:
    return [{"question": question, "message": None, "numbers": None} for question in asked]


def _told(questions: Questions, asked: Sequence[Question]) -> list[dict[str, Any]]:
    told = _untold(asked)
    for entry in told:
        entry["message"], numbers = questions.answer(entry["question"])
        if numbers is not None:
            entry["numbers"] = b64encode(numbers.tobytes()).decode("ascii")
    return told
