"""Where the verbs are put: `.llm` on the DataFrames and Series of pandas and polars."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, overload

from nbllm._verb_methods import SeriesVerbs
from nbllm.accessor import FrameAccessor
from nbllm.checks import shown
from nbllm.errors import FrameError

__all__ = ["SeriesAccessor", "llm", "register_on_pandas", "register_on_polars"]

F = TypeVar("F")
_Frame_co = TypeVar("_Frame_co", covariant=True)


class _Series(Protocol[_Frame_co]):
    """A Series of pandas or polars, by which a type checker knows the type of its frame."""

    def to_frame(self, name: Any = ...) -> _Frame_co: ...


class SeriesAccessor(SeriesVerbs[F]):
    """The verbs on the texts of one column: each returns a frame of it with the answers beside."""

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
    """Return the verbs on a frame: `frame.llm`, in a form that type checkers know.

    Args:
        frame: a DataFrame or a Series, of pandas or polars.

    Raises:
        FrameError: it is something else.

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


def register_on_pandas(pandas: Any) -> None:
    """Add `.llm` to pandas DataFrames and Series."""
    api = pandas.api.extensions
    # It is there when %reload_ext nbllm runs the package's __init__ again.
    if getattr(pandas.DataFrame, "llm", None) is not FrameAccessor:
        api.register_dataframe_accessor("llm")(FrameAccessor)
        api.register_series_accessor("llm")(SeriesAccessor)


def register_on_polars(polars: Any) -> None:
    """Add `.llm` to polars DataFrames and Series."""
    if getattr(polars.DataFrame, "llm", None) is not FrameAccessor:
        polars.api.register_dataframe_namespace("llm")(FrameAccessor)
        polars.api.register_series_namespace("llm")(SeriesAccessor)
