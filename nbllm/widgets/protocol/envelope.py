"""Requests and answers of any widget, with their numbers."""

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
    request: Any  # of the widget: an AttentionRequest, ExplorerRequest or RunRequest


class RequestMessage(TypedDict):
    """The requests that the browser sends."""

    requests: list[NumberedRequest]


class NumberedAnswer(TypedDict):
    """The answer to the request of a number: its content, or why there is none."""

    id: int | None  # None where the request had no number
    content: Any
    error: str | None
    buffers: int  # how many of the message's binary buffers belong to it


class AnswerMessage(TypedDict):
    """The answers that Python sends."""

    answers: list[NumberedAnswer]


class NoContent(TypedDict):
    """The content of an answer that is only buffers, or only done."""
