"""Tasks without a prompt: the model reads a row's text alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Prompt
from nbllm.models.flops import TokenCounts

if TYPE_CHECKING:
    from nbllm.engine.encoding import HeadScorer, TextEncoder
    from nbllm.engine.prompt import Template
    from nbllm.models.model import Model

__all__ = ["BoundEncoderTask", "BoundPromptlessTask", "PromptlessTask"]


class PromptlessTask:
    """Defaults of `Task` for models that read a text without a prompt."""

    template: Template = ()
    decodes = False
    offset_length = 0

    def answer_tokens(self, model: Model) -> int:
        return 0


class BoundPromptlessTask:
    """Defaults of `BoundTask` for models that read a text without a prompt."""

    prefix_tokens = 0
    label_tokens = 0
    setup_tokens: TokenCounts = TokenCounts()

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        return known


class BoundEncoderTask(BoundPromptlessTask):
    """A task whose rows are one text each, read by an encoder or a classifier.

    Args:
        engine: The engine that tokenizes and runs the texts.
        limit: The maximum number of tokens of a text.
    """

    def __init__(self, engine: HeadScorer | TextEncoder, limit: int) -> None:
        self.engine = engine
        self.limit = limit

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        return self.engine.encode([text for (text,) in texts], limit=self.limit, truncate=truncate)

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        return self.engine(prompts)
