"""What a task is to a run, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nbllm.engine.ledger import OFFSET
from nbllm.engine.ledger_file import ledger_error
from nbllm.engine.prompt import Prompt, Template

if TYPE_CHECKING:
    from nbllm.models.flops import TokenCounts
    from nbllm.models.model import Model

__all__ = ["VECTOR", "BoundTask", "Output", "Task", "are_numbers", "check_filed"]

_LARGEST = 1e30  # of what a network computes; whole numbers in JSON have no end


VECTOR = "vector"  # a column of vectors, whose type depends on the frame


@dataclass(frozen=True)
class Output:
    """One column that the answers of a task make."""

    part: str  # one of `KEEP`, or "probability" or "field", which are asked for otherwise
    suffix: str  # of the column's name, behind that of the answer's
    dtype: Any  # of narwhals, or `VECTOR`


class BoundTask(Protocol):
    """A task on a model that is ready for its rows."""

    @property
    def prefix_tokens(self) -> int:
        """What all prompts start with and the model reads once."""
        ...

    @property
    def label_tokens(self) -> int:
        """Tokens of labels that the model reads behind each prompt."""
        ...

    @property
    def setup_tokens(self) -> TokenCounts:
        """What was read before the first row: a shared prefix, texts of calibration."""
        ...

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        """Rows to prompts; a row that cannot be one is its exception."""
        ...

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        """What is taken off every row's scores: what is known, else fitted now; None where nothing.

        Called once, before any row is asked. Fitting takes several batches: `step` is called
        after each, and what it raises ends the fit.
        """
        ...

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        """Answers that JSON holds; a row without one is an exception among them."""
        ...


class Task(Protocol):
    """What is asked of every row."""

    @property
    def verb(self) -> str:
        """Its name in `df.llm`."""
        ...

    @property
    def template(self) -> Template:
        """The prompt; empty where the model reads the text as it is."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether the model writes token by token, or only reads."""
        ...

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The columns of its answers, in their order."""
        ...

    def parameters(self) -> dict[str, Any]:
        """All that decides the answer, apart from model, prompt and row."""
        ...

    def answer_tokens(self, model: Model) -> int:
        """Room in the context that an answer may take."""
        ...

    def bind(self, model: Model, limit: int) -> BoundTask:
        """Make it ready: prompts may have `limit` tokens."""
        ...

    @property
    def offset_length(self) -> int:
        """How many numbers calibration takes off; 0 where nothing is calibrated."""
        ...

    def is_answer(self, value: Any) -> bool:
        """Whether a value has the form of its answers: a ledger may hold anything."""
        ...

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """What each of `outputs` holds, one value an answer."""
        ...


def check_filed(task: Task, known: Mapping[str, Any], path: Path | None) -> None:
    """Refuses what a ledger has of a question where it is not what the task gives.

    Args:
        known: answers by key, and the offset.
        path: of the ledger.

    Raises:
        LedgerError: an answer, or the offset, has another form.
    """
    for key, value in known.items():
        if key == OFFSET:
            if not are_numbers(value, task.offset_length) or not value:
                raise ledger_error(path, f"its calibration of {task.verb} is none")
        elif not task.is_answer(value):
            raise ledger_error(path, f"an answer on file is not one that {task.verb} gives")


def are_numbers(value: Any, count: int) -> bool:
    """Whether a value is a list of so many finite numbers, as JSON holds them."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(one) in (float, int) and abs(one) < _LARGEST for one in value)
    )
