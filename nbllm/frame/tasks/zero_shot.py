"""Tasks that choose the label whose embedding is nearest to the text's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.prompt import Prompt
from nbllm.errors import LabelError
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask, PromptlessTask
from nbllm.frame.tasks.label import Choice

if TYPE_CHECKING:
    from nbllm.engine.encoding import TextEncoder
    from nbllm.models.model import Model

__all__ = ["TEMPERATURE", "ZeroShotTask"]

# The usual temperature of the contrastive loss that sentence encoders are trained with:
# https://sbert.net/docs/package_reference/sentence_transformer/losses.html (scale=20).
TEMPERATURE = 0.05


@dataclass(frozen=True)
class ZeroShotTask(PromptlessTask, Choice):
    """Choose the label whose description has the largest cosine with the text.

    An answer is the cosine of each label.
    """

    descriptions: tuple[str, ...]  # the text that is embedded for each label

    def parameters(self) -> dict[str, Any]:
        return {"labels": self.labels, "described": self.descriptions, "temperature": TEMPERATURE}

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        from nbllm.engine.encoding import TextEncoder

        return _BoundZeroShot(TextEncoder(model), limit, self.descriptions)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        return super().decode([np.divide(row, TEMPERATURE) for row in answers], offset)


class _BoundZeroShot(BoundEncoderTask):
    def __init__(self, encoder: TextEncoder, limit: int, descriptions: Sequence[str]) -> None:
        super().__init__(encoder, limit)
        prompts = encoder.encode(descriptions, limit=limit, truncate=False)
        if error := next((prompt for prompt in prompts if isinstance(prompt, Exception)), None):
            raise LabelError(f"a label cannot be embedded: {error}. Describe it in fewer words.")
        self.labels = _unit(encoder([p for p in prompts if isinstance(p, Prompt)]))

    def __call__(self, prompts: Sequence[Prompt]) -> list[Any]:
        return [
            row if isinstance(row, Exception) else (_unit(row) @ self.labels.T).tolist()
            for row in super().__call__(prompts)
        ]


def _unit(vectors: Any) -> Any:
    """Return vectors scaled to length 1, in float64 unlike `unit_vectors`."""
    array = np.asarray(vectors, dtype=float)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)
