"""Numbered requests and answers of all widgets."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "AnswerMessage",
    "NoContent",
    "NumberedAnswer",
    "NumberedRequest",
    "RequestMessage",
]


class NumberedRequest(TypedDict):
    """One request, with the number that its answer repeats."""

    id: int
    request: Any  # an AttentionRequest, ExplorerRequest or RunRequest


class RequestMessage(TypedDict):
    """The requests that the browser sends."""

    requests: list[NumberedRequest]


class NumberedAnswer(TypedDict):
    """The answer to the request with the same number: content or error."""

    id: int | None  # None if the request had no number
    content: Any
    error: str | None
    buffers: int  # its number of binary buffers


class AnswerMessage(TypedDict):
    """The answers that Python sends."""

    answers: list[NumberedAnswer]


class NoContent(TypedDict):
    """The content of an answer that has only buffers, or confirms an action."""
