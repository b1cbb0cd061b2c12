"""Answers the first requests of an attention view in advance.

A request that the browser sends waits for the running cell and for those queued behind it, so these
answers are part of the view's state. widgets/attention/index.ts has the same requests, for a view
that opens later.
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

LONGEST_LINES = 1024  # keys: beyond, the weights of the lines would delay the picture


def initial_answers(
    handler: RequestHandler, on_screen: Sequence[Matrix], window: Sequence[int] | None
) -> Iterator[list[InitialAnswer]]:
    """Yield successive values of the view's state, until all requests are answered.

    Each value lists all requests; answers of earlier and later values have no content. Outlines
    come before weights, so that the browser builds the view while the picture is computed. Numbers
    are base64 and not buffers of the state, since tools that execute notebooks without a browser
    would save the buffers with the notebook.

    Args:
        handler: Answers the requests.
        on_screen: The matrices; the lines and the window are of the first.
        window: The start and the stop of the rows and of the columns on screen; None for all.
    """
    first, size = on_screen[0], picture_side(handler)
    outlines: list[AttentionRequest] = [
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
        del pictures[1:]  # their windows depend on the first one's
    weights: list[AttentionRequest] = [*pictures]
    if len(first.source.keys) <= LONGEST_LINES:
        weights.append(first.lines())
    yield [*_announced(outlines), *_announced(weights)]
    yield [*_answered(handler, outlines), *_announced(weights)]
    yield [*_announced(outlines), *_answered(handler, weights)]


def picture_side(handler: RequestHandler) -> int:
    """Return the pixels of the longer side of each matrix that the browser requests."""
    return MATRIX_PIXELS if len(handler.comparands) == 1 else COMPARED_PIXELS


def _announced(requests: Sequence[AttentionRequest]) -> list[InitialAnswer]:
    return [InitialAnswer(request=request, content=None, numbers=None) for request in requests]


def _answered(handler: RequestHandler, requests: Sequence[AttentionRequest]) -> list[InitialAnswer]:
    answers = _announced(requests)
    for answer in answers:
        answer["content"], numbers = handler.answer(answer["request"])
        if numbers is not None:
            answer["numbers"] = b64encode(numbers.tobytes()).decode("ascii")
    return answers
