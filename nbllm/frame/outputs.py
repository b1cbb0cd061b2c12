"""Which answers a frame has, and of what kind: seen by its columns alone."""

from __future__ import annotations

from typing import Any

import narwhals as nw

from nbllm.errors import ProvenanceError

__all__ = ["choose_output", "outputs_of"]


def outputs_of(frame: Any) -> dict[str, str]:
    """The columns of answers in a frame, and what made each.

    That is "recommend", "search" or "mask", which also polars and Parquet hold without a record,
    or "run", where the record of a run says more.
    """
    columns = [str(name) for name in frame.columns]
    found = {}
    for name in columns:
        # An extraction may have fields of these names, but it has a run and its value is text.
        if f"{name}_entities" in columns and f"{name}_run" not in columns:
            found[name] = "mask"
        elif f"{name}_because" in columns and _are_whole(frame, name):
            found[name] = "recommend"
        elif f"{name}_score" in columns and _are_ranks(frame, name):
            found[name] = "search"
        elif f"{name}_run" in columns:
            found[name] = "run"
    return found


def choose_output(frame: Any, output: str | None) -> tuple[str, str]:
    """The column of answers meant, by name or because it is the only one, and what made it.

    Raises:
        ProvenanceError: the frame has no answers, several and none named, or not the one named.
    """
    found = outputs_of(frame)
    if not found:
        raise ProvenanceError(
            "the frame has no column that ends in '_run', by which an answer is traced, and no "
            "ranks or masked texts. Use the frame that a verb such as .llm.sentiment returned."
        )
    if output is None and len(found) == 1:
        output = next(iter(found))
    if output not in found:
        said = "Say which answers are meant" if output is None else f"{output!r} has no answers"
        raise ProvenanceError(f"{said}: output= one of {', '.join(found)}.")
    return output, found[output]


def _are_whole(frame: Any, name: str) -> bool:
    return bool(nw.from_native(frame, eager_only=True)[name].dtype.is_integer())


def _are_ranks(frame: Any, name: str) -> bool:
    """Whether a column of whole numbers counts what was found, for each query from 1 on."""
    data = nw.from_native(frame, eager_only=True)
    if not _are_whole(frame, name):
        return False
    if f"{name}_run" in data.columns or not len(data):
        return True
    # No run says so where no model was asked. Ratings are whole numbers too, but come again.
    query = f"{name}_query"
    by = [query, name] if query in data.columns else [name]
    return data[name].min() == 1 and len(data.select(by).unique()) == len(data)
