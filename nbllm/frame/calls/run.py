"""A call of a verb, run: here while the caller waits, or beside the notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.frame.columns import with_rows_of_now
from nbllm.frame.running.background import start

if TYPE_CHECKING:
    from nbllm.frame.calls.verb import Call
    from nbllm.frame.running.progress import RunMonitor

__all__ = ["run_call"]


def run_call(frame: Any, call: Call[Any]) -> Any:
    """Return the frame with the verb's answers, or a `Run` that makes it.

    What can be refused without a model is, before one is loaded.
    """
    background = call.settings.background
    # Cells may sort the frame while a run goes on beside them.
    frame = call.verb.frame_of(with_rows_of_now(frame) if background else frame, call)
    call.verb.check(frame, call)
    model = call.verb.model_of(call)

    def work(*, monitor: RunMonitor) -> Any:
        return call.verb.run(frame, call, model, monitor)

    return start(call.verb.name, call.output, work, background=background)
