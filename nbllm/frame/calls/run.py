"""Runs the call of a verb, in the foreground or in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.frame.columns import shallow_copy
from nbllm.frame.running.background import start

if TYPE_CHECKING:
    from nbllm.frame.calls.verb import Call
    from nbllm.frame.running.progress import RunMonitor

__all__ = ["run_call"]


def run_call(frame: Any, call: Call[Any]) -> Any:
    """Return the frame with the verb's answers, or a `Run` that computes it in the background.

    Arguments are validated before a model is loaded.
    """
    background = call.settings.background
    # Other cells may sort the frame in place during a background run.
    frame = call.verb.frame_of(shallow_copy(frame) if background else frame, call)
    call.verb.check(frame, call)
    model = call.verb.model_of(call)

    def work(*, monitor: RunMonitor) -> Any:
        return call.verb.run(frame, call, model, monitor)

    return start(call.verb.name, call.output, work, background=background)
