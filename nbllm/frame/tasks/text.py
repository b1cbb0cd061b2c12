"""Tasks that answer with a generated text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import Template
from nbllm.engine.structured.prose import Prose
from nbllm.frame.tasks.base import Output
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compile_template

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["TextTask"]


@dataclass(frozen=True)
class TextTask:
    """Generate a text after the prompt."""

    verb: str
    template: Template
    max_new_tokens: int
    stop: str | None = None  # the string that ends the text
    whole_sentences: bool = False  # drop an unfinished last sentence
    prose: Prose | None = None  # rules for a text about the row's own

    decodes = True
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output("value", "", nw.String),)

    def parameters(self) -> dict[str, Any]:
        return {
            "max_new_tokens": self.max_new_tokens,
            "stop": self.stop,
            "whole_sentences": self.whole_sentences,
            **({} if self.prose is None else {"prose": asdict(self.prose)}),
        }

    def answer_tokens(self, model: Model) -> int:
        # The decoder of an encoder-decoder has its own context.
        return self.max_new_tokens if model.kind == "causal" else 0

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compile_template(self.template, model, limit)
        generator = TextGenerator(
            model,
            template.prefix_ids if model.kind == "causal" else (),
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            whole_sentences=self.whole_sentences,
            prose=self.prose,
        )
        return BoundPromptTask(template, generator, limit)

    def is_answer(self, value: Any) -> bool:
        return isinstance(value, str)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        return [list(answers)]
