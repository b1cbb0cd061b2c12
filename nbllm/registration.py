"""Registers `.llm` on the DataFrames and Series of pandas and polars."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, overload

from nbllm._verb_methods import SeriesVerbs
from nbllm.accessor import FrameAccessor
from nbllm.checks import shown
from nbllm.errors import FrameError

__all__ = ["SeriesAccessor", "llm", "register"]

F = TypeVar("F")
_Frame_co = TypeVar("_Frame_co", covariant=True)


class _Series(Protocol[_Frame_co]):
    """A Series of pandas or polars, from which type checkers infer the type of its frame."""

    def to_frame(self, name: Any = ...) -> _Frame_co: ...


class SeriesAccessor(SeriesVerbs[F]):
    """The verbs on one column of texts; each returns a frame of this column and the answers."""

    def __init__(self, series: _Series[F]) -> None:
        self._series: Any = series

    def __repr__(self) -> str:
        return "series.llm: the verbs of df.llm on this column; each returns a frame."

    def _subject(self) -> str:
        name = self._series.name
        return "text" if name in (None, "") else name

    def _call(
        self, verb: str, subject: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> Any:
        frame = self._series.to_frame(subject)
        return FrameAccessor(frame)._call(verb, subject, options, settings)


@overload
def llm(frame: _Series[F]) -> SeriesAccessor[F]: ...  # type: ignore[overload-overlap]
@overload
def llm(frame: F) -> FrameAccessor[F]: ...
def llm(frame: Any) -> FrameAccessor[Any] | SeriesAccessor[Any]:
    """Return `frame.llm`, the verbs on a frame, with types for type checkers.

    Args:
        frame: A DataFrame or Series of pandas or polars.

    Raises:
        FrameError: `frame` is something else.

    Example:
        >>> nbllm.llm(df).sentiment("review")  # doctest: +SKIP
    """
    from narwhals import dependencies

    if dependencies.is_pandas_series(frame) or dependencies.is_polars_series(frame):
        return SeriesAccessor(frame)
    if dependencies.is_pandas_dataframe(frame) or dependencies.is_polars_dataframe(frame):
        return FrameAccessor(frame)
    raise FrameError(
        f"nbllm.llm takes a DataFrame or a Series of pandas or polars, and {shown(frame)} is none. "
        "Pass one."
    )


def register(library: Any) -> None:
    """Add `.llm` to the DataFrames and Series of pandas or polars.

    Args:
        library: The module, pandas or polars.
    """
    # %reload_ext nbllm runs the package's __init__ again, when the accessor exists already.
    if getattr(library.DataFrame, "llm", None) is FrameAccessor:
        return
    if library.__name__ == "pandas":
        library.api.extensions.register_dataframe_accessor("llm")(FrameAccessor)
        library.api.extensions.register_series_accessor("llm")(SeriesAccessor)
    else:
        library.api.register_dataframe_namespace("llm")(FrameAccessor)
        library.api.register_series_namespace("llm")(SeriesAccessor)
