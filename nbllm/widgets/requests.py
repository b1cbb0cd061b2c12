"""Answers the numbered requests of a browser: Python's end of nbllm/widgets/protocol/."""

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

# How a request that makes no sense ends; it is answered, whoever sent it.
_MISUNDERSTOOD = (NbllmError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def answer_requests(widget: Widget, answer: Callable[[Any], Reply]) -> Callable[..., None]:
    """Answer what browsers request of a widget, each request under its number.

    Args:
        widget: the widget that is asked.
        answer: gives content and buffers of the answer to one request, which may be anything. An
            error that it raises for a request without sense is the answer.

    Returns:
        The callback of the widget's messages, to take it off again.
    """

    def respond(widget: Widget, message: Any, _: Any) -> None:
        requests = message.get("requests") if isinstance(message, dict) else None
        answers: list[NumberedAnswer] = []
        sent: list[Buffer] = []
        for numbered in requests if isinstance(requests, list) else [message]:
            one, buffers = _answered(numbered, answer)
            answers.append(one)
            sent += buffers
        widget.send(AnswerMessage(answers=answers), buffers=sent)

    widget.on_msg(respond)
    return respond


def _answered(
    numbered: Any, answer: Callable[[Any], Reply]
) -> tuple[NumberedAnswer, Sequence[Buffer]]:
    number = numbered.get("id") if isinstance(numbered, dict) else None
    number = number if isinstance(number, int) else None
    try:
        content, buffers = answer(numbered["request"])
    except _MISUNDERSTOOD as error:
        said = f"{type(error).__name__}: {error}"
        return NumberedAnswer(id=number, content=None, error=said, buffers=0), []
    return NumberedAnswer(id=number, content=content, error=None, buffers=len(buffers)), buffers
