"""The folder in which fetched and converted models lie."""

from __future__ import annotations

from pathlib import Path

from nbllm.errors import DownloadError
from nbllm.home import home

__all__ = ["cache_folder"]


def cache_folder(*names: str) -> Path:
    """`home()/models`, or a folder below it, made where it is not there yet.

    Raises DownloadError where it cannot be written to.

    >>> cache_folder("wheels")  # doctest: +SKIP
    """
    folder = home().joinpath("models", *names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"nbllm keeps its models in {home()}, which cannot be written to: {error}. Set "
            "NBLLM_HOME to a folder that can."
        ) from error
    return folder
