"""The interface between a task and the run that executes it, whatever the kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nbllm.engine.ledger import OFFSET
from nbllm.engine.ledger_file import ledger_error
from nbllm.engine.prompt import Prompt, Template

if TYPE_CHECKING:
    from nbllm.models.flops import TokenCounts
    from nbllm.models.model import Model

__all__ = [
    "VECTOR",
    "BoundTask",
    "Output",
    "Task",
    "are_numbers",
    "check_ledger_entries",
    "logistic",
]

# No network computes a larger number, and JSON's integers are unbounded.
_MAX_MAGNITUDE = 1e30

VECTOR = "vector"  # the dtype of a column of vectors, which depends on the frame's library


@dataclass(frozen=True)
class Output:
    """One column of a task's answers."""

    kind: str  # one of `KEEP`, or "probability" or "field"
    suffix: str  # appended to the name of the answer column
    dtype: Any  # a narwhals dtype, or `VECTOR`


class BoundTask(Protocol):
    """A task bound to a model, ready for rows."""

    @property
    def prefix_tokens(self) -> int:
        """Number of leading tokens that all prompts share and the model reads once."""
        ...

    @property
    def label_tokens(self) -> int:
        """Number of label tokens that the model reads after each prompt."""
        ...

    @property
    def setup_tokens(self) -> TokenCounts:
        """Tokens read before the first row: a shared prefix, calibration texts."""
        ...

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        """Return a prompt for each row, or the exception that prevents it.

        Args:
            texts: The texts of each row, in the order of the template's fields.
            truncate: Whether a row that is too long is cut instead of failing.
        """
        ...

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        """Set and return the offset that is subtracted from every row's scores.

        Called once, before the first row. Fitting takes several batches.

        Args:
            known: The offset from the ledger, or None to fit it now.
            step: Called after each batch. An exception that it raises ends the fit.

        Returns:
            Shape (`Task.offset_length`,), or None where the task has no calibration.
        """
        ...

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        """Return a JSON-serializable answer for each prompt, or the exception that prevents it."""
        ...


class Task(Protocol):
    """A question about every row, independent of the model's state."""

    @property
    def verb(self) -> str:
        """The name of its verb in `df.llm`."""
        ...

    @property
    def template(self) -> Template:
        """The prompt; empty where the model reads the text alone."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether the model generates token by token, instead of only scoring."""
        ...

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The columns of its answers, in order."""
        ...

    def parameters(self) -> dict[str, Any]:
        """Return everything that determines an answer besides model, prompt and row."""
        ...

    def answer_tokens(self, model: Model) -> int:
        """Return the number of context tokens that an answer may take.

        Args:
            model: The model that answers.
        """
        ...

    def bind(self, model: Model, limit: int) -> BoundTask:
        """Return the task bound to a model.

        Args:
            model: The model that answers.
            limit: The maximum number of tokens of a prompt.
        """
        ...

    @property
    def offset_length(self) -> int:
        """The length of the calibration offset; 0 without calibration."""
        ...

    def is_answer(self, value: Any) -> bool:
        """Return whether a value from a ledger has the form of the task's answers.

        Args:
            value: Any value that JSON can hold.
        """
        ...

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """Return the values of each column in `outputs`, one for each answer.

        Args:
            answers: The answers of a bound task, without exceptions.
            offset: The calibration offset, if there is one.
        """
        ...


def check_ledger_entries(task: Task, known: Mapping[str, Any], path: Path | None) -> None:
    """Raise an error if a ledger holds an entry that the task cannot have produced.

    Args:
        task: The task whose entries they are.
        known: The answers by key, and the offset.
        path: The path of the ledger.

    Raises:
        LedgerError: An answer, or the offset, has another form.
    """
    for key, value in known.items():
        if key == OFFSET:
            if not are_numbers(value, task.offset_length) or not value:
                raise ledger_error(path, f"its calibration of {task.verb} is none")
        elif not task.is_answer(value):
            raise ledger_error(path, f"an answer on file is not one that {task.verb} gives")


def are_numbers(value: Any, count: int) -> bool:
    """Return whether a value is a list of exactly `count` finite numbers.

    Args:
        value: Any value that JSON can hold.
        count: The required length.
    """
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(number) in (float, int) and abs(number) < _MAX_MAGNITUDE for number in value)
    )


def logistic(log_odds: float) -> float:
    """Return a probability from its log-odds, without overflow.

    Args:
        log_odds: Any finite number.

    Example:
        >>> logistic(0.0), logistic(-1e4)
        (0.5, 0.0)
    """
    return 1 / (1 + exp(-log_odds)) if log_odds >= 0 else exp(log_odds) / (1 + exp(log_odds))
