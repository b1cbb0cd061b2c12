"""Texts as they are to an encoder or classifier: no template, no prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Prompt
from nbllm.models.flops import TokenCounts

if TYPE_CHECKING:
    from nbllm.engine.encoding import HeadScorer, TextEncoder

__all__ = ["BoundEncoderTask"]


class BoundEncoderTask:
    """Rows of one column to an engine that encodes them itself."""

    prefix_tokens = 0
    label_tokens = 0
    setup_tokens: TokenCounts = TokenCounts()

    def __init__(self, engine: HeadScorer | TextEncoder, limit: int) -> None:
        self.engine = engine
        self.limit = limit

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        return self.engine.encode([text for (text,) in texts], limit=self.limit, truncate=truncate)

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        return known

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        return self.engine(prompts)
