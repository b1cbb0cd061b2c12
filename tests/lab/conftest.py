"""A Jupyter server with the extension, in this process: its routes can be walked, and tokens,
cookies and the XSRF check are as a user has them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_server.serverapp import ServerApp

TOKEN = "a-token-of-the-tests"


@dataclass
class Running:
    """A server, where it listens, and the folder that it serves."""

    app: ServerApp
    url: str
    root: Path


def free_port() -> int:
    """Not the usual one, which several workers would ask for at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests of the extension, below a base URL of its own."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "root").mkdir()
    ready = threading.Event()
    started: list[ServerApp] = []

    def serve() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        app = ServerApp()
        app.initialize(
            [
                f"--ServerApp.root_dir={folder / 'root'}",
                f"--IdentityProvider.token={TOKEN}",
                "--ServerApp.jpserver_extensions=nbllm.lab=True",
                "--ServerApp.base_url=/of/someone/",
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={free_port()}",
                "--ServerApp.open_browser=False",
                "--ServerApp.log_level=ERROR",
                "--allow-root",
            ]
        )
        started.append(app)
        app.io_loop.add_callback(ready.set)
        app.start()

    with pytest.MonkeyPatch.context() as patch:
        # Signals belong to the main thread, and so to pytest.
        patch.setattr(ServerApp, "init_signal", lambda app: None)
        patch.setenv("JUPYTER_NO_CONFIG", "1")
        for name in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(folder / name.lower()))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        thread = threading.Thread(target=serve, name="server", daemon=True)
        thread.start()
        while not ready.wait(0.05):
            assert thread.is_alive(), "The server did not start."
        (app,) = started
        yield Running(app, f"http://127.0.0.1:{app.port}/of/someone/", Path(app.root_dir))
        app.stop()
        thread.join(20)


@pytest.fixture
def anybody(server: Running) -> Iterator[httpx.Client]:
    """Someone without a token."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def browser(server: Running) -> Iterator[httpx.Client]:
    """A browser that is logged in: it holds the login's cookie and the XSRF token's."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        client.get("login")
        data = {"password": TOKEN, "_xsrf": client.cookies["_xsrf"]}
        assert client.post("login", data=data).status_code == 302
        yield client


@pytest.fixture
def page(browser: httpx.Client) -> httpx.Client:
    """JupyterLab's page in that browser: it sends the XSRF token along."""
    browser.headers["X-XSRFToken"] = browser.cookies["_xsrf"]
    return browser


@pytest.fixture(autouse=True)
def activity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The activity of one test, empty."""
    folder = tmp_path / "activity"
    monkeypatch.setenv("NBLLM_ACTIVITY", str(folder))
    return folder


def as_json(response: httpx.Response, status: int = 200) -> Any:
    """The value of an answer that came with the status."""
    assert response.status_code == status, response.text
    return response.json()


def is_root() -> bool:
    """Whether permissions do not hold for this process."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
