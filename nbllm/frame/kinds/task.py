"""What a task is to a run, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nbllm.engine.prompt import Prompt, Template

if TYPE_CHECKING:
    from nbllm.models.model import Model
    from nbllm.models.work import Read

__all__ = ["Asked", "Output", "Task"]


@dataclass(frozen=True)
class Output:
    """One column that the answers of a task make."""

    part: str  # one of `KEEP`, or "probability" or "field", which are asked for otherwise
    suffix: str  # of the column's name, behind that of the answer's
    dtype: Any  # of narwhals


class Asked(Protocol):
    """A task on a model that is ready for its rows."""

    @property
    def prefix_tokens(self) -> int:
        """What all prompts start with and the model reads once."""

    @property
    def label_tokens(self) -> int:
        """Tokens of labels that the model reads behind each prompt."""

    @property
    def before(self) -> Read:
        """What was read before the first row: a shared prefix, texts of calibration."""

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        """Rows to prompts; a row that cannot be one is its exception."""

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        """What is taken off every row's scores: what is known, else fitted now; None where nothing.

        Called once, before any row is asked. Fitting takes several batches: `step` is called
        after each, and what it raises ends the fit.
        """

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        """Answers that JSON holds; a row without one is an exception among them."""


class Task(Protocol):
    """What is asked of every row."""

    @property
    def verb(self) -> str:
        """Its name in `df.llm`."""

    @property
    def template(self) -> Template:
        """The prompt; empty where the model reads the text as it is."""

    @property
    def decodes(self) -> bool:
        """Whether the model writes token by token, or only reads."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The columns of its answers, in their order."""

    def parameters(self) -> dict[str, Any]:
        """All that decides the answer, apart from model, prompt and row."""

    def answer_tokens(self, model: Model) -> int:
        """Room in the context that an answer may take."""

    def on(self, model: Model, limit: int) -> Asked:
        """Make it ready: prompts may have `limit` tokens."""

    def values(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """What each of `outputs` holds, one value an answer."""
