"""The Jupyter server extension: activity, the cancel flag and the notebook gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm import __version__

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "nbllm.lab"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    from nbllm.lab.handlers import routes
    from nbllm.lab.settings_file import set_aside_if_broken, settings_file

    if aside := set_aside_if_broken(settings_file()):
        server.log.warning("nbllm.lab: its settings could not be read, and are now in %s", aside)
    server.web_app.add_handlers(".*$", routes(server.base_url))
    server.log.info("nbllm.lab %s serves activity and notebooks", __version__)
