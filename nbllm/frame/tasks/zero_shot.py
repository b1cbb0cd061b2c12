"""Tasks whose answer is the label nearest in meaning, to a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.prompt import Prompt
from nbllm.errors import LabelError
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask
from nbllm.frame.tasks.label import Choice

if TYPE_CHECKING:
    from nbllm.engine.encoding import TextEncoder
    from nbllm.engine.prompt import Template
    from nbllm.models.model import Model

__all__ = ["TEMPERATURE", "ZeroShotTask"]

# Sentence encoders are trained with cosines divided by about this, see
# https://sbert.net/docs/package_reference/sentence_transformer/losses.html (scale=20).
TEMPERATURE = 0.05


@dataclass(frozen=True)
class ZeroShotTask(Choice):
    """Choose a label by the cosine of its vector and the text's."""

    described: tuple[str, ...]  # what is embedded of each label

    @property
    def template(self) -> Template:
        """None: the model reads the text as it is."""
        return ()

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        return {"labels": self.labels, "described": self.described, "temperature": TEMPERATURE}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return 0

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        """As `Task.bind`."""
        from nbllm.engine.encoding import TextEncoder

        return _Nearest(TextEncoder(model), limit, self.described)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`; an answer is the cosine of each label."""
        return super().decode([np.divide(row, TEMPERATURE) for row in answers], offset)


class _Nearest(BoundEncoderTask):
    def __init__(self, encoder: TextEncoder, limit: int, described: Sequence[str]) -> None:
        super().__init__(encoder, limit)
        prompts = encoder.encode(described, limit=limit, truncate=False)
        odd = next((prompt for prompt in prompts if isinstance(prompt, Exception)), None)
        if odd is not None:
            raise LabelError(f"a label cannot be embedded: {odd}. Describe it in fewer words.")
        self.labels = _unit(encoder([p for p in prompts if isinstance(p, Prompt)]))

    def __call__(self, prompts: Sequence[Prompt]) -> list[Any]:
        return [
            row if isinstance(row, Exception) else (_unit(row) @ self.labels.T).tolist()
            for row in super().__call__(prompts)
        ]


def _unit(vectors: Any) -> Any:
    """Vectors of length 1, whatever their length was."""
    wide = np.asarray(vectors, dtype=float)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)
