"""The one folder that nbllm writes to, and how: for its user alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["home", "private_folder", "replace_text"]

_TRIES, _MOMENT = 5, 0.01  # seconds


def home() -> Path:
    """The folder of nbllm's cache and ledger: `NBLLM_HOME`, else the user's cache folder.

    It is not created here; whoever writes to it does so, by `private_folder`.

    >>> home().is_absolute()
    True
    """
    chosen = os.environ.get("NBLLM_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("nbllm", appauthor=False)


def private_folder(path: Path) -> Path:
    """Makes a folder, and those above it that are missing, which only their user can open.

    One that is there stays as it is: who shares it with others has chosen so.

    Returns:
        the folder.

    Raises:
        OSError: it cannot be made, or is a file.
    """
    # Path.mkdir(parents=True) gives its mode to the last folder alone.
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in (*reversed(missing), path):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path


def replace_text(path: Path, text: str) -> None:
    """Writes a file that only its user can read; others see the old one or the new one, whole.

    Raises:
        OSError: it cannot be written. What was there stays.
    """
    import tempfile

    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        _replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _replace(unfinished: str, path: Path) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            return os.replace(unfinished, path)
        except PermissionError:  # on Windows, for as long as someone reads the old one
            if not tries_left:
                raise
            time.sleep(_MOMENT)
