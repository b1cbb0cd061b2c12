"""What can be refused of a verb's call without a model: before one is loaded, which takes long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from nbllm.frame import KEEP
from nbllm.frame.columns import check_columns, refuse_taken
from nbllm.frame.running.run import added_columns
from nbllm.frame.verbs.registry import ENCODER_VERBS, make_task, verb_columns

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model

__all__ = ["check_call", "stand_in", "task_without_model"]


def check_call(
    frame: Any,
    verb: str,
    subject: str,
    options: Mapping[str, Any],
    *,
    output: str | None = None,
    keep: Sequence[str] = KEEP,
    probabilities_too: bool = False,
) -> None:
    """Refuse columns and arguments that no model could take.

    Args:
        frame: a pandas or polars DataFrame.
        subject: the verb's first argument: a column, or a prompt.
        options: its other arguments that shape its prompt.
        output: the column of the answers; None where none is added.
        keep, probabilities_too: as for `answer_frame`.

    Raises:
        ColumnError: a column is missing or not text, or a new one is in the way.
        FrameError: no such verb, or an argument that it refuses.
        LabelError: labels or examples that cannot be read.
    """
    columns = verb_columns(verb, subject, options)
    check_columns(frame, list(columns.values()), any_type=verb == "prompt")
    task = task_without_model(verb, subject, options)
    if output is None:
        return
    names = [output]
    if task is not None:
        names = list(added_columns(task, output, keep, probabilities_too))
    refuse_taken(frame, names, ours=f"{output}_run")


def task_without_model(verb: str, subject: str, options: Mapping[str, Any]) -> Task | None:
    """The verb's task as a model of its usual kind would be given it; None where only one can say.

    Raises what the verb raises for its arguments.
    """
    if verb == "classify" and options.get("labels") is None:
        return None  # a classifier has labels of its own
    return make_task(verb, subject, stand_in(verb), options)


def stand_in(verb: str) -> Model:
    """What a verb's task asks of a model while it reads its arguments."""
    return cast("Model", _StandIn("encoder" if verb in ENCODER_VERBS else "causal"))


class _BareTokenizer:
    """That of a model that is continued, whose prompts begin with nothing of its own."""

    bos_token = chat_template = None


@dataclass(frozen=True)
class _StandIn:
    kind: str
    name: str = "the model"
    context_length: int = 2048
    tokenizer: _BareTokenizer = field(default_factory=_BareTokenizer)
