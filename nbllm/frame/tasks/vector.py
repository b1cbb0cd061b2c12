"""Tasks of a sentence encoder: the vector of a text, and how alike two texts are."""

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
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.engine.prompt import Template
    from nbllm.models.model import Model

__all__ = ["SimilarityTask", "VectorTask", "unit_vectors"]


def unit_vectors(vectors: Sequence[Any]) -> NDArray[np.float32]:
    """Vectors brought to length 1, whose dot product is their cosine.

    Args:
        vectors: as many numbers each; one of zeros stays as it is.

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
class VectorTask:
    """Embed a text."""

    verb: str

    decodes = False
    offset_length = 0

    @property
    def template(self) -> Template:
        """None: the model reads the text as it is."""
        return ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The vector."""
        return (Output("value", "", VECTOR),)

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        return {}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return 0

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        """As `Task.bind`."""
        from nbllm.engine.encoding import TextEncoder

        return _Compact(TextEncoder(model), limit)

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
            LedgerError: vectors on file are not as long as those of the model.
        """
        vectors = [np.frombuffer(b64decode(text), "<f4").astype(np.float32) for text in answers]
        if len({len(vector) for vector in vectors}) > 1:
            raise ledger_error(ledger_path(), "vectors of one model on file differ in length")
        return [vectors]


class _Compact(BoundEncoderTask):
    """Vectors as base64 of float32, little-endian.

    1,000 of 384 numbers take 2.0 MB so and 8.4 MB as JSON's numbers (4.7 and 8.8 MB of the
    ledger's pages), and are filed in a tenth of the time and read in a sixth.
    """

    def __call__(self, prompts: Sequence[Prompt]) -> list[str | Exception]:
        return [
            vector
            if isinstance(vector, Exception)
            else b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
            for vector in super().__call__(prompts)
        ]


@dataclass(frozen=True)
class SimilarityTask:
    """The cosine of two texts of a row, or of its text and one that is always the same."""

    verb: str
    to: str | None = None

    decodes = False
    offset_length = 0

    @property
    def template(self) -> Template:
        """None: the model reads the text as it is."""
        return ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The cosine."""
        return (Output("value", "", nw.Float64),)

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        return {"to": self.to}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return 0

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        """As `Task.bind`."""
        from nbllm.engine.encoding import TextEncoder

        return _Pairs(TextEncoder(model), limit, self.to)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`."""
        return are_numbers([value], 1)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`."""
        return [list(answers)]


@dataclass(frozen=True)
class _Pair(Prompt):
    """Two texts as one prompt: its tokens are what a row costs, `sides` what is embedded."""

    sides: tuple[Prompt, ...] = ()


class _Pairs(BoundEncoderTask):
    """Pairs of texts to the cosine of their vectors; a text is embedded once a batch."""

    def __init__(self, engine: Any, limit: int, to: str | None) -> None:
        super().__init__(engine, limit)
        self.to = to

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        columns = [
            super(_Pairs, self).encode([(text,) for text in column], truncate=truncate)
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
    vectors = []
    for side in sides:
        if isinstance(side, Exception):
            return side
        vectors.append(side)
    first, second = unit_vectors(vectors).astype(float)
    return float(np.clip(first @ second, -1.0, 1.0))


def _pair(
    own: Sequence[Prompt | Exception], sides: Sequence[Prompt | Exception]
) -> Prompt | Exception:
    """A row's prompt: the tokens of its own texts, and both sides."""
    read = []
    for side in sides:
        if isinstance(side, Exception):
            return side
        read.append(side)
    mine = [side for side in own if isinstance(side, Prompt)]
    return _Pair(
        ids=tuple(chain.from_iterable(side.ids for side in mine)),
        text="\n".join(side.text for side in mine),
        spans=(),
        field_spans=(),
        sides=tuple(read),
    )
