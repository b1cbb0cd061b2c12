"""Answers the numbered requests of a browser; nbllm/widgets/protocol/ defines the messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.errors import NbllmError
from nbllm.widgets.protocol.envelope import AnswerMessage, NumberedAnswer

if TYPE_CHECKING:
    from ipywidgets import Widget

__all__ = ["Reply", "answer_requests"]

Buffer = bytes | memoryview
Reply = tuple[Mapping[str, Any], Sequence[Buffer]]  # content and binary buffers

# The errors of a malformed request, which the browser receives as the answer.
_REQUEST_ERRORS = (NbllmError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def answer_requests(widget: Widget, answer: Callable[[Any], Reply]) -> Callable[..., None]:
    """Answer the requests that browsers send to a widget.

    Args:
        widget: The widget.
        answer: Returns the content and the buffers of the answer to one request, which may be
            anything. The errors that it raises for a malformed request become answers.

    Returns:
        The registered callback, for `widget.on_msg(callback, remove=True)`.
    """

    def respond(widget: Widget, message: Any, _: Any) -> None:
        requests = message.get("requests") if isinstance(message, dict) else None
        answers: list[NumberedAnswer] = []
        all_buffers: list[Buffer] = []
        for numbered in requests if isinstance(requests, list) else [message]:
            numbered_answer, buffers = _numbered_answer(numbered, answer)
            answers.append(numbered_answer)
            all_buffers += buffers
        widget.send(AnswerMessage(answers=answers), buffers=all_buffers)

    widget.on_msg(respond)
    return respond


def _numbered_answer(
    numbered: Any, answer: Callable[[Any], Reply]
) -> tuple[NumberedAnswer, Sequence[Buffer]]:
    number = numbered.get("id") if isinstance(numbered, dict) else None
    number = number if isinstance(number, int) else None
    try:
        content, buffers = answer(numbered["request"])
    except _REQUEST_ERRORS as error:
        text = f"{type(error).__name__}: {error}"
        return NumberedAnswer(id=number, content=None, error=text, buffers=0), []
    return NumberedAnswer(id=number, content=content, error=None, buffers=len(buffers)), buffers
