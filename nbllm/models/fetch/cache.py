"""The folder of fetched and converted models, and the room that is left in it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbllm.errors import DownloadError
from nbllm.home import home, private_folder
from nbllm.wording import byte_size

__all__ = ["cache_folder", "explained_when_full", "require_space"]

_RESERVE = 50_000_000  # bytes left for the rest of the system


def cache_folder(*names: str) -> Path:
    """Return a folder of the cache, made for its user alone where it is not there yet.

    Args:
        *names: of folders below `home()/models`.

    Raises:
        DownloadError: it cannot be written to.
    """
    try:
        return private_folder(home().joinpath("models", *names))
    except OSError as error:
        raise DownloadError(
            f"nbllm keeps its models in {home()}, which cannot be written to: {error}. Set "
            "NBLLM_HOME to a folder that can."
        ) from error


def require_space(folder: Path, needed: int, what: str, variable: str = "NBLLM_HOME") -> None:
    """Refuse a download that the disk has no room for.

    Args:
        folder: where it is to lie.
        needed: bytes.
        what: names the download in the message.
        variable: the environment variable that moves `folder` elsewhere.

    Raises:
        DownloadError: saying how much is missing.
    """
    free = _free(folder)
    if needed and needed + _RESERVE > free:
        raise DownloadError(
            f"{what} needs {byte_size(needed)} on disk, and {folder} has {byte_size(free)} "
            f"left. Make room there, or set {variable} to a folder on a larger disk. Nothing was "
            "written."
        )


@contextmanager
def explained_when_full(what: str, folder: Path, variable: str = "NBLLM_HOME") -> Iterator[None]:
    """Turn a disk that fills up while the context is open into a DownloadError.

    Args:
        what: names the work in the message.
        folder: where it is written.
        variable: the environment variable that moves `folder` elsewhere.

    Raises:
        DownloadError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        raise DownloadError(
            f"The disk was full before {what} had ended; what was half written is removed. "
            f"{folder} has {byte_size(_free(folder))} left: make room there, or set {variable} "
            "to a folder on a larger disk."
        ) from error


def _free(folder: Path) -> int:
    there = next(f for f in (folder, *folder.absolute().parents) if f.exists())
    return shutil.disk_usage(there).free


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors is written in Rust, whose error has the number in its text alone: ENOSPC, and
    # ERROR_DISK_FULL on Windows.
    numbers = ("(os error 28)", "(os error 112)")
    return type(error).__name__ == "SafetensorError" and str(error).endswith(numbers)
