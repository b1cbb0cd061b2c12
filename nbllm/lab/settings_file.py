"""The file with the user's settings of the panel, which JupyterLab keeps.

One settings file that is no JSON makes JupyterLab's server refuse the settings of all
extensions, and the page stays white. So this one is checked before JupyterLab reads it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["set_aside_if_broken", "settings_file"]


def settings_file() -> Path:
    """Return the path of the panel's settings; there is no file before the first change."""
    from jupyter_core.paths import jupyter_config_dir

    # As jupyterlab.commands.get_user_settings_dir, which takes a second to import.
    named = os.environ.get("JUPYTERLAB_SETTINGS_DIR")
    folder = Path(named) if named else Path(jupyter_config_dir(), "lab", "user-settings")
    return folder / "nbllm" / "plugin.jupyterlab-settings"


def set_aside_if_broken(path: Path) -> Path | None:
    """Rename a settings file that JupyterLab could not read, so that the defaults hold.

    Args:
        path: The file, which need not be there.

    Returns:
        Its new name; None where nothing was to do, or could be done.
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
