"""Tasks for sentence encoders: the embedding of a text, and the similarity of two texts."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.ledger import ledger_path
from nbllm.engine.ledger_file import ledger_error
from nbllm.engine.prompt import Prompt
from nbllm.frame.tasks.base import VECTOR, Output, are_numbers
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask, PromptlessTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.engine.encoding import TextEncoder
    from nbllm.models.model import Model

__all__ = ["SimilarityTask", "VectorTask", "unit_vectors"]


def unit_vectors(vectors: Sequence[Any]) -> NDArray[np.float32]:
    """Return vectors scaled to length 1, whose dot products are cosines.

    Args:
        vectors: Vectors of equal dimension. A zero vector stays zero.

    Returns:
        Shape (vectors, dimensions).
    """
    if not len(vectors):
        return np.zeros((0, 0), dtype=np.float32)
    rows = np.stack([np.asarray(vector, dtype=np.float32) for vector in vectors])
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(rows, np.where(length > 0, length, 1), dtype=np.float32)
    return unit


@dataclass(frozen=True)
class VectorTask(PromptlessTask):
    """Embed a text."""

    verb: str

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output("value", "", VECTOR),)

    def parameters(self) -> dict[str, Any]:
        return {}

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        from nbllm.engine.encoding import TextEncoder

        return _BoundVectorTask(TextEncoder(model), limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: base64 of float32."""
        try:
            numbers = np.frombuffer(b64decode(value, validate=True), "<f4")
        except (TypeError, ValueError):
            return False
        return len(numbers) > 0 and bool(np.isfinite(numbers).all())

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`.

        Raises:
            LedgerError: Vectors from the ledger differ in length.
        """
        vectors = [np.frombuffer(b64decode(text), "<f4").astype(np.float32) for text in answers]
        if len({len(vector) for vector in vectors}) > 1:
            raise ledger_error(ledger_path(), "vectors of one model on file differ in length")
        return [vectors]


class _BoundVectorTask(BoundEncoderTask):
    """Encodes vectors as base64 of little-endian float32.

    1,000 vectors of 384 numbers take 2.0 MB, against 8.4 MB as JSON numbers (4.7 and 8.8 MB of
    ledger pages). Writing takes a tenth of the time and reading a sixth.
    """

    def __call__(self, prompts: Sequence[Prompt]) -> list[str | Exception]:
        return [
            vector
            if isinstance(vector, Exception)
            else b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
            for vector in super().__call__(prompts)
        ]


@dataclass(frozen=True)
class SimilarityTask(PromptlessTask):
    """Compute the cosine of a row's two texts, or of its text and a fixed text."""

    verb: str
    to: str | None = None  # the fixed text, or None where each row has two texts

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output("value", "", nw.Float64),)

    def parameters(self) -> dict[str, Any]:
        return {"to": self.to}

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        from nbllm.engine.encoding import TextEncoder

        return _BoundSimilarity(TextEncoder(model), limit, self.to)

    def is_answer(self, value: Any) -> bool:
        return are_numbers([value], 1)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        return [list(answers)]


@dataclass(frozen=True)
class _Pair(Prompt):
    """Two texts as one prompt. Its `ids` determine the cost of the row."""

    sides: tuple[Prompt, ...] = ()  # the texts to embed


class _BoundSimilarity(BoundEncoderTask):
    """Embeds each distinct text once per batch, and returns the cosine of each pair."""

    def __init__(self, engine: TextEncoder, limit: int, to: str | None) -> None:
        super().__init__(engine, limit)
        self.to = to

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        columns = [
            super(_BoundSimilarity, self).encode([(text,) for text in column], truncate=truncate)
            for column in zip(*texts, strict=True)
        ]
        if self.to is None:
            return [_pair(sides, sides) for sides in zip(*columns, strict=True)]
        (fixed,) = super().encode([(self.to,)], truncate=truncate)
        if isinstance(fixed, Exception):
            raise fixed
        return [_pair((text,), (text, fixed)) for (text,) in zip(*columns, strict=True)]

    def __call__(self, prompts: Sequence[Prompt]) -> list[float | Exception]:
        pairs = [prompt.sides for prompt in prompts if isinstance(prompt, _Pair)]
        distinct = {side.ids: side for side in chain.from_iterable(pairs)}
        vectors = dict(zip(distinct, super().__call__(list(distinct.values())), strict=True))
        return [_cosine(*(vectors[side.ids] for side in sides)) for sides in pairs]


def _cosine(*sides: list[float] | Exception) -> float | Exception:
    if error := next((side for side in sides if isinstance(side, Exception)), None):
        return error
    first, second = unit_vectors(sides).astype(float)
    return float(np.clip(first @ second, -1.0, 1.0))


def _pair(
    own: Sequence[Prompt | Exception], sides: Sequence[Prompt | Exception]
) -> Prompt | Exception:
    """Return the prompt of a row's own texts, or the first exception among the texts to embed."""
    if error := next((side for side in sides if isinstance(side, Exception)), None):
        return error
    texts = [text for text in own if isinstance(text, Prompt)]
    return _Pair(
        ids=tuple(chain.from_iterable(text.ids for text in texts)),
        text="\n".join(text.text for text in texts),
        spans=(),
        field_spans=(),
        sides=tuple(side for side in sides if isinstance(side, Prompt)),
    )
