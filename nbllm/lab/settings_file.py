"""Checks the file with the panel's settings before JupyterLab reads it.

A single invalid settings file makes JupyterLab's server reject the settings of all extensions, and
the page stays blank.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["set_aside_if_broken", "settings_file"]


def settings_file() -> Path:
    """Return the path of the panel's settings, which is created with the first change."""
    from jupyter_core.paths import jupyter_config_dir

    # Like jupyterlab.commands.get_user_settings_dir, which takes a second to import.
    named = os.environ.get("JUPYTERLAB_SETTINGS_DIR")
    folder = Path(named) if named else Path(jupyter_config_dir(), "lab", "user-settings")
    return folder / "nbllm" / "plugin.jupyterlab-settings"


def set_aside_if_broken(path: Path) -> Path | None:
    """Rename an invalid settings file, so that the defaults apply.

    Args:
        path: The file, which need not exist.

    Returns:
        The new path; None if the file was not renamed.
    """
    import json5

    try:
        json5.loads(path.read_text(encoding="utf-8") or "{}")
    except OSError:
        return None
    except (ValueError, RecursionError):
        aside = path.with_suffix(".broken")
        try:
            path.replace(aside)
        except OSError:
            return None
        return aside
    return None
