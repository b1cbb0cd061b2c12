"""How frames get their verbs: as `.llm`, and through `nbllm.llm`, which type checkers see."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from nbllm.accessor import FrameAccessor, SeriesAccessor, SeriesLike
from nbllm.checks import shown
from nbllm.errors import FrameError

__all__ = ["llm", "register_on_pandas", "register_on_polars"]

F = TypeVar("F")


@overload
def llm(frame: SeriesLike[F]) -> SeriesAccessor[F]: ...  # type: ignore[overload-overlap]
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
