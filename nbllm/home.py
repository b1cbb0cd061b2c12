"""The one folder that nbllm writes to."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home"]


def home() -> Path:
    """The folder of nbllm's cache and ledger: `NBLLM_HOME`, else the user's cache folder.

    It is not created here; whoever writes to it does so.

    >>> home().is_absolute()
    True
    """
    chosen = os.environ.get("NBLLM_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("nbllm", appauthor=False)
