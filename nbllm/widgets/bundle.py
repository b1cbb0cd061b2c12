"""Reads the browser halves of the widgets, which widgets/build.mjs bundles."""

from __future__ import annotations

from pathlib import Path

from nbllm.errors import NbllmError

__all__ = ["STATIC", "bundle"]

STATIC = Path(__file__).parent / "static"


def bundle(name: str) -> str:
    """Return the text of a bundled script or style.

    Args:
        name: The name of the file.

    Raises:
        NbllmError: The bundle is not built.
    """
    path = STATIC / name
    if not path.exists():
        raise NbllmError(
            f"The widget's browser half, {name}, is not built. In a source checkout run "
            "`make setup`; an installed nbllm without it is damaged: install it again."
        )
    return path.read_text(encoding="utf-8")
