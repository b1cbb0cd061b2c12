"""The answers to what the browser requests first of an attention view, before it does.

A cell may run on after it has shown a view, and others may wait behind it: a request that the
browser sends meanwhile waits for all of them. These answers ride in the view's state.
widgets/attention/index.ts has the same requests, for a view that opens later.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence

from nbllm.widgets.attention.handler import RequestHandler
from nbllm.widgets.attention.offline_store import Matrix
from nbllm.widgets.protocol.attention import (
    COMPARED_PIXELS,
    MATRIX_PIXELS,
    AttentionRequest,
    ContentsRequest,
    InitialAnswer,
    OutlineRequest,
)

__all__ = ["initial_answers", "picture_side"]

LONG = 1024  # tokens: the weights for the lines of a longer text would hold up the picture


def initial_answers(
    handler: RequestHandler, on_screen: Sequence[Matrix], window: Sequence[int] | None
) -> Iterator[list[InitialAnswer]]:
    """Yield what the view's state holds, one after the other, until all is answered.

    Each is of all requests; an answer that comes later or came before has no content. What is known
    at once comes first, so that the browser builds the view while its picture is drawn.

    Numbers are text, and not the buffers that a widget's state can have: what executes a notebook
    without a browser would keep those in its file when they are long gone.

    Args:
        handler: answers the requests.
        on_screen: the matrices; the first is the one that has the lines, and the window.
        window: the rows and columns that are on screen: from and to of each; None where all are.
    """
    first, size = on_screen[0], picture_side(handler)
    known: list[AttentionRequest] = [
        ContentsRequest(kind="contents"),
        *(
            OutlineRequest(kind="outline", stack=first.stack, comparand=comparand)
            for comparand in handler.comparands
        ),
    ]
    pictures = [matrix.picture(size) for matrix in on_screen]
    if window is not None:
        pictures[0]["rows"] = window[0], window[1]
        pictures[0]["columns"] = window[2], window[3]
        del pictures[1:]  # the others show what corresponds to it
    drawn: list[AttentionRequest] = [*pictures]
    if len(first.source.keys) <= LONG:
        drawn.append(first.lines())
    yield [*_to_come(known), *_to_come(drawn)]
    yield [*_answered(handler, known), *_to_come(drawn)]
    yield [*_to_come(known), *_answered(handler, drawn)]


def picture_side(handler: RequestHandler) -> int:
    """Return how many pixels a side the browser requests of each matrix."""
    return MATRIX_PIXELS if len(handler.comparands) == 1 else COMPARED_PIXELS


def _to_come(requests: Sequence[AttentionRequest]) -> list[InitialAnswer]:
    return [InitialAnswer(request=one, content=None, numbers=None) for one in requests]


def _answered(handler: RequestHandler, requests: Sequence[AttentionRequest]) -> list[InitialAnswer]:
    answers = _to_come(requests)
    for answer in answers:
        answer["content"], numbers = handler.answer(answer["request"])
        if numbers is not None:
            answer["numbers"] = b64encode(numbers.tobytes()).decode("ascii")
    return answers
