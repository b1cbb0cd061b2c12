"""What the browser asks first of an attention view, answered before it asks.

A cell may run on after it has shown a view, and others may wait behind it: a question that the
browser asks meanwhile waits for all of them. These answers ride in the view's state. Its form is
that of a stored page, so widgets/attention/index.ts knows each by its question; there too is
the same list, for a view that opens later.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from nbllm.widgets.page import Question
from nbllm.widgets.questions import Questions
from nbllm.widgets.stored import Matrix

__all__ = ["opening_answers"]

# Pixels a side of a matrix by itself, and of each of three; PIXELS of widgets/attention/index.ts.
ALONE, COMPARED = 512, 300
LONG = 1024  # tokens: the weights for the lines of a longer text would hold up the picture


def opening_answers(
    questions: Questions, shown: Matrix, window: Sequence[int] | None
) -> list[dict[str, Any]]:
    """The entries {question, message, numbers}, numbers in base64 or None.

    Text, and not the buffers that a widget's state can have: what executes a notebook without a
    browser would keep those in its file when they are long gone.
    """
    asked: list[Question] = [
        {"kind": "contents"},
        {"kind": "outline", "part": shown.part, "side": shown.side},
        shown.picture(ALONE if len(questions.sides) == 1 else COMPARED),
    ]
    if window is not None:
        asked[-1] |= {"rows": [*window[:2]], "columns": [*window[2:]]}
    if len(shown.sheet.keys) <= LONG:
        asked.append(shown.lines())
    return [_entry(questions, question) for question in asked]


def _entry(questions: Questions, question: Question) -> dict[str, Any]:
    message, numbers = questions.answer(question)
    data = None if numbers is None else b64encode(numbers.tobytes()).decode("ascii")
    return {"question": question, "message": message, "numbers": data}
