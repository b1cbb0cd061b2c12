"""Tasks with a prompt template, for causal models and encoder-decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Prompt, Template
from nbllm.engine.scoring import LabelScorer
from nbllm.errors import TextTooLongError
from nbllm.models.flops import TokenCounts
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["BoundPromptTask", "compile_template"]


def compile_template(template: Template, model: Model, limit: int) -> CompiledTemplate:
    """Return a template tokenized for a model.

    Args:
        template: The prompt.
        model: The model that reads it.
        limit: The maximum number of tokens of a prompt.

    Raises:
        TextTooLongError: The template leaves no room for a row.
    """
    if limit < 1:
        raise TextTooLongError(
            f"an answer may take {counted(model.context_length - limit, 'token')}, and "
            f"{model.name} has {model.context_length:,} for text and answer together. Pass a "
            "smaller max_new_tokens=, or max_words= of a summary."
        )
    compiled = CompiledTemplate(template, model.tokenizer)
    if compiled.own_length >= limit:
        raise TextTooLongError(
            f"the instruction and examples alone have {counted(compiled.own_length, 'token')}, "
            f"and {model.name} has room for {limit:,} beside its answer. Shorten them."
        )
    return compiled


class BoundPromptTask:
    """A task that fills a template with each row and runs an engine, without calibration.

    Args:
        template: The tokenized template.
        engine: The engine that scores or generates.
        limit: The maximum number of tokens of a prompt.
    """

    def __init__(
        self, template: CompiledTemplate, engine: LabelScorer | TextGenerator, limit: int
    ) -> None:
        self.template = template
        self.engine = engine
        self.limit = limit
        self.setup_tokens: TokenCounts = TokenCounts.text(engine.prefix.length)

    @property
    def prefix_tokens(self) -> int:
        return self.engine.prefix.length

    @property
    def label_tokens(self) -> int:
        return self.engine.label_tokens if isinstance(self.engine, LabelScorer) else 0

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        shared = self.engine.prefix.length
        return [
            replace(prompt, prefix_length=shared) if isinstance(prompt, Prompt) else prompt
            for prompt in self.template.encode(texts, limit=self.limit, truncate=truncate)
        ]

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        return known

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        return self.engine(prompts)
