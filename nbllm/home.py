"""The one folder that nbllm writes to, which is its user's alone."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home", "private_folder"]


def home() -> Path:
    """Return the folder of nbllm's cache and ledger: `NBLLM_HOME`, else the user's cache folder.

    It is not created here; writers do so, by `private_folder`.

    Example:
        >>> home().is_absolute()
        True
    """
    chosen = os.environ.get("NBLLM_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("nbllm", appauthor=False)


def private_folder(path: Path) -> Path:
    """Make a folder, and those above it that are missing, which only their user can open.

    Args:
        path: The folder. One that exists stays as it is: who shares it has chosen so.

    Returns:
        The folder.

    Raises:
        OSError: It cannot be made, or is a file.
    """
    # Path.mkdir(parents=True) gives its mode to the last folder alone.
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in (*reversed(missing), path):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path
