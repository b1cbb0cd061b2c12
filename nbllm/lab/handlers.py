"""The handlers of the routes below `{base_url}nbllm/`.

All routes require an authenticated and authorized user; those that change anything also require the
XSRF token, which jupyter_server checks. Errors are JSON with a `message`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, RequestHandler, authenticated

from nbllm.activity.jobs import cancel
from nbllm.errors import ActivityError, GalleryError, UnknownJobError
from nbllm.lab.gallery import curated_notebooks, read_notebook
from nbllm.lab.status import status
from nbllm.wording import counted

__all__ = ["routes"]

_MAX_BODY = 100_000  # bytes; the only body is the path of a folder


def routes(base_url: str) -> list[tuple[str, type[RequestHandler]]]:
    """Return the patterns of all routes with their handlers, for a tornado application.

    Args:
        base_url: The base URL of the server.
    """
    return [
        (url_path_join(base_url, "nbllm", pattern), handler)
        for pattern, handler in (
            ("activity", Activity),
            ("jobs/([^/]+)/cancel", Cancel),
            ("notebooks", Notebooks),
            ("notebooks/([^/]+)/copy", Copy),
        )
    ]


class _Handler(APIHandler):
    auth_resource = "nbllm"

    async def prepare(self) -> None:  # type: ignore[override]
        """Reject an oversized body."""
        await super().prepare()
        if len(self.request.body) > _MAX_BODY:
            self.refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The body has {counted(len(self.request.body), 'byte')}, and no more than "
                f"{counted(_MAX_BODY, 'byte')} are read here. Send less.",
            )

    def json_body(self) -> Any:
        """Return the value of the JSON body; None if it is missing or invalid."""
        try:
            return json.loads(self.request.body.decode("utf-8"))
        except (ValueError, RecursionError):
            return None

    def answer(self, value: Any, code: HTTPStatus = HTTPStatus.OK) -> None:
        """Send compressed JSON: 200 jobs are 73 kB of text, polled several times per second."""
        self.set_status(code)
        body = json.dumps(value, allow_nan=False).encode()
        self.set_header("Vary", "Accept-Encoding")
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            body = gzip.compress(body, compresslevel=4)
        self.finish(body)

    def refuse(self, code: int, message: str) -> None:
        """Send an error, but not as an HTTPError, which doubles percent signs."""
        self.set_status(code)
        self.finish(json.dumps({"message": message}))


class Activity(_Handler):
    """The models, jobs and devices."""

    # A panel that looks is not a user at work, and must not keep an idle server alive.
    _track_activity = False

    @authenticated
    @authorized
    async def get(self) -> None:
        """Send processes with their models, jobs, and devices."""
        now = await asyncio.to_thread(status)
        sessions = await self._sessions(now.kernels)
        self.answer(now.payload(sessions, Path(self.contents_manager.root_dir)))

    async def _sessions(self, kernels: set[str]) -> dict[str, str | None]:
        """Return the notebook of each kernel of this server; None for a console."""
        if not any(kernel in self.kernel_manager for kernel in kernels):
            return {}
        sessions: list[dict[str, Any]] = await ensure_async(self.session_manager.list_sessions())
        notebooks: dict[str, str | None] = {}
        for session in sessions:
            if session["kernel"] is None:
                continue
            kernel = session["kernel"]["id"]
            # A console may share the kernel of a notebook.
            if session["type"] == "notebook" or kernel not in notebooks:
                notebooks[kernel] = session["path"] if session["type"] == "notebook" else None
        return notebooks


class Cancel(_Handler):
    """The cancel flag of a job, which its process checks after each batch."""

    @authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Set the flag."""
        try:
            await asyncio.to_thread(cancel, job_id)
        except UnknownJobError as error:
            return self.refuse(HTTPStatus.NOT_FOUND, str(error))
        except ActivityError as error:
            return self.refuse(HTTPStatus.CONFLICT, str(error))
        self.set_status(HTTPStatus.NO_CONTENT)
        self.finish()


class Notebooks(_Handler):
    """The gallery."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Send the descriptions of the curated notebooks."""
        self.answer([asdict(notebook) for notebook in await asyncio.to_thread(curated_notebooks)])


class Copy(_Handler):
    """A copy of a curated notebook in the user's folder."""

    auth_resource = "contents"

    @authenticated
    @authorized
    async def post(self, name: str) -> None:
        """Write the copy through the contents manager, which is confined to the server's folder."""
        body = self.json_body()
        folder = body.get("folder") if isinstance(body, dict) else None
        if not isinstance(folder, str):
            return self.refuse(
                HTTPStatus.BAD_REQUEST, 'The folder is missing. Send {"folder": "path"}.'
            )
        try:
            content = await asyncio.to_thread(read_notebook, name)
        except GalleryError as error:
            return self.refuse(HTTPStatus.NOT_FOUND, str(error))
        problem = await self._problem(folder)
        if problem is not None:
            return self.refuse(*problem)
        contents = self.contents_manager
        try:
            # Keeps another copy from taking the free name before it is used.
            async with self.settings.setdefault("nbllm_copying", asyncio.Lock()):
                free = await ensure_async(contents.increment_filename(name, folder, insert="-"))
                path = url_path_join(folder, free).strip("/")
                model = {"type": "notebook", "format": "json", "content": content}
                saved = await ensure_async(contents.save(model, path))
        except HTTPError as error:
            return self.refuse(
                error.status_code,
                f"{name} could not be copied to the folder {folder or '/'!r}: "
                f"{error.log_message or error.reason}. Choose a folder that you may write to.",
            )
        self.answer({"path": saved["path"]}, HTTPStatus.CREATED)

    async def _problem(self, folder: str) -> tuple[HTTPStatus, str] | None:
        """Return the status and the message of the error if the folder cannot have a copy."""
        parts = folder.replace("\\", "/").split("/")
        absolute = (folder and not parts[0]) or os.path.splitdrive(folder)[0]
        if absolute or ".." in parts or "\0" in folder:
            return (
                HTTPStatus.BAD_REQUEST,
                f"{folder!r} does not lead to a folder below the server's own. Name one from "
                "there, without '..'.",
            )
        contents = self.contents_manager
        if not await ensure_async(contents.dir_exists(folder)):
            return (
                HTTPStatus.NOT_FOUND,
                f"There is no folder {folder!r}. Create it first, or choose another.",
            )
        if not contents.allow_hidden and await ensure_async(contents.is_hidden(folder)):
            return (
                HTTPStatus.BAD_REQUEST,
                f"{folder!r} is hidden, and this server shows no hidden files. Choose another.",
            )
        return None
