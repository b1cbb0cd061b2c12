"""Embedding: the meaning of a text as a vector, and which encoder is asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.errors import FrameError, ModelError
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.vector import SimilarityTask, VectorTask

if TYPE_CHECKING:
    from nbllm.models.model import Model, ModelLike

__all__ = ["cells_of", "choose_encoder", "compared", "embed", "similarity"]


def embed(model: Model, *, cells: Any = nw.Object) -> VectorTask:
    """The task of embedding texts.

    Args:
        cells: the type of the column of vectors, as `cells_of` a frame.
    """
    require(model, "embed", "encoder")
    return VectorTask(verb="embed", dtype=cells)


def similarity(model: Model, *, to: str | None = None) -> SimilarityTask:
    """The task of comparing two texts a row, or one with `to`."""
    require(model, "similarity", "encoder")
    return SimilarityTask(verb="similarity", to=to)


def compared(column: str, other: str | None, to: str | None) -> dict[str, str]:
    """The columns that `similarity` reads, by field.

    Raises:
        FrameError: there is not one thing to compare with.
    """
    if (other is None) == (to is None):
        raise FrameError(
            "similarity compares a column with another column, row by row, or with one text. "
            "Pass the name of the column, or the text as to=, and not both."
        )
    return {TEXT: column} if other is None else {TEXT: column, "other": other}


def cells_of(frame: Any) -> Any:
    """The narwhals type that a column of vectors has in a frame.

    In pandas an array in each cell: arrow lists it writes into a Parquet file that it cannot
    read (https://github.com/pandas-dev/pandas/issues/57411).
    """
    # Not by a frame of narwhals, which refuses what is said better where the rows are read.
    pandas = nw.get_native_namespace(frame).__name__ == "pandas"
    return nw.Object if pandas else nw.List(nw.Float32)


def choose_encoder(model: ModelLike | None, verb: str) -> Model:
    """The sentence encoder given, also by its name, else the one loaded last.

    Raises:
        ModelError: none is given and none is loaded.
        UnsupportedModelError: the one given is of another kind.
    """
    from nbllm.models.in_memory import loaded
    from nbllm.models.loader import resolve

    if model is None:
        model = next((known for known in reversed(loaded()) if known.kind == "encoder"), None)
    if model is None:
        raise ModelError(
            f"{verb} asks a sentence encoder, and none is loaded. Pass one: model='minilm'."
        )
    found = resolve(model)
    require(found, verb, "encoder")
    return found
