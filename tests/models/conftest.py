"""A home of its own for each test, and an index and a hub on the loopback interface."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbllm.models.model import Model


@pytest.fixture(autouse=True)
def nbllm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NBLLM_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NBLLM_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models stand for large ones: nf4 and fp4 take their attention too."""
    monkeypatch.setattr("nbllm.models.quantization.schemes._SMALL", 0)


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    """Models that a test loaded are unloaded after it; those of the session stay."""
    before = _held()
    yield
    for model in _held():
        if not any(model is other for other in before):
            model.unload()


def _held() -> list[Model]:
    """All that hold a network in memory, also several of one."""
    from nbllm.models import in_memory

    return [model for shared in in_memory._in_memory.values() for model in shared.holders]


@dataclass
class Answer:
    """What the stub says to one path."""

    body: bytes
    kind: str = "application/octet-stream"
    status: int = 200
    cut_after: int | None = None  # bytes sent before the connection breaks, at the first request
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answered first
    headers: dict[str, str] = field(default_factory=dict)


class Stub:
    """A web server whose answers and requests a test can see."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []  # path and its Range header
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub._answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self, path: str, body: bytes | str, kind: str = "text/plain", **more: Any) -> None:
        """Answer `path` with `body`; `more` are fields of Answer."""
        content = body.encode() if isinstance(body, str) else body
        self.answers[path] = Answer(content, kind, **more)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        wanted = request.headers.get("Range")
        self.asked.append((path, wanted))
        answer = self.answers.get(path, Answer(b"nothing here", "text/plain", 404))
        if answer.refusals and request.command == "GET":
            status, headers = answer.refusals.pop(0)
            answer = Answer(b"", status=status, headers=headers)
        start, _, end = wanted.removeprefix("bytes=").partition("-") if wanted else ("0", "", "")
        body = answer.body[int(start) : int(end) + 1 if end else None]
        ranged = wanted is not None and answer.status == 200
        request.send_response(206 if ranged else answer.status)
        request.send_header("Content-Type", answer.kind)
        request.send_header("Content-Length", str(len(body)))
        if ranged:
            last = int(start) + len(body) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(answer.body)}")
        for name, value in answer.headers.items():
            request.send_header(name, value)
        request.end_headers()
        if answer.cut_after is not None and request.command == "GET":
            body, answer.cut_after = body[: answer.cut_after], None
            request.close_connection = True
        if request.command != "HEAD":
            request.wfile.write(body)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A web server on the loopback interface."""
    server = Stub()
    yield server
    server.close()


@pytest.fixture
def folder_with(tmp_path: Path) -> Callable[..., Path]:
    """A folder that holds nothing but empty files of these names."""

    def make(*names: str) -> Path:
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("{}" if name.endswith(".json") else "")
        return folder

    return make
