"""Who may ask the server extension: every route, walked as the server itself lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jupyter_server.auth import Authorizer
from tornado.routing import PathMatches, Router
from tornado.web import RequestHandler

import nbllm
from tests.lab.conftest import TOKEN, Running

# OPTIONS is answered to anybody, as all of jupyter_server does: it says which methods exist.
METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT")
WRITES = ("POST", "DELETE", "PATCH", "PUT")


def leaves(rules: Any) -> Iterator[tuple[str, type[RequestHandler]]]:
    for rule in rules:
        if isinstance(rule.target, Router):
            yield from leaves(rule.target.rules)
        elif isinstance(rule.matcher, PathMatches):
            yield rule.matcher.regex.pattern, rule.target


def walked(server: Running) -> list[tuple[str, str]]:
    """Method and path of all that the extension answers, with x for what is variable."""
    app: Any = server.app.web_app
    base = server.app.base_url
    found = {
        (method, re.sub(r"\([^)]*\)", "x", pattern.strip("^$")).removeprefix(base))
        for pattern, handler in [*leaves(app.default_router.rules)]
        if handler.__module__.startswith("nbllm") or f"{base}nbllm" in pattern
        for method in METHODS
        if getattr(handler, method.lower()) is not getattr(RequestHandler, method.lower())
    }
    return sorted(found)


def test_these_are_the_routes(server: Running) -> None:
    assert walked(server) == [
        ("GET", "nbllm/activity"),
        ("GET", "nbllm/notebooks"),
        ("POST", "nbllm/jobs/x/cancel"),
        ("POST", "nbllm/notebooks/x/copy"),
    ]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}])
def test_nobody_is_answered_without_a_token(
    server: Running, anybody: httpx.Client, headers: dict[str, str]
) -> None:
    routes = walked(server)
    assert routes
    anybody.get("login")  # which gives a cookie for XSRF to anybody
    headers = {**headers, "X-XSRFToken": anybody.cookies["_xsrf"]}
    for method, path in routes:
        answer = anybody.request(method, path, headers=headers)
        assert answer.status_code == 403, f"{method} {path}"
        assert answer.json()["message"] in ("Forbidden", "Unauthorized")


def test_nothing_is_written_without_the_xsrf_token(server: Running, browser: httpx.Client) -> None:
    writes = [(method, path) for method, path in walked(server) if method in WRITES]
    assert writes
    for method, path in writes:
        answer = browser.request(method, path, json={"folder": ""})
        assert answer.status_code == 403, f"{method} {path}"
        assert "_xsrf" in answer.json()["message"]


def test_a_page_that_is_logged_in_is_answered(server: Running, page: httpx.Client) -> None:
    # What the refusals above are held against: the same requests get through to the routes.
    statuses = {
        f"{method} {path}": page.request(method, path, json={"folder": ""}).status_code
        for method, path in walked(server)
    }
    assert statuses == {
        "GET nbllm/activity": 200,
        "GET nbllm/notebooks": 200,
        "POST nbllm/jobs/x/cancel": 404,
        "POST nbllm/notebooks/x/copy": 404,
    }


def test_a_token_in_the_header_is_enough(server: Running, anybody: httpx.Client) -> None:
    for method, path in walked(server):
        answer = anybody.request(
            method, path, headers={"Authorization": f"token {TOKEN}"}, json={"folder": ""}
        )
        assert answer.status_code in (200, 404), f"{method} {path}"


def test_another_site_is_not_answered(server: Running, browser: httpx.Client) -> None:
    for method, path in walked(server):
        answer = browser.request(method, path, headers={"Origin": "https://example.org"})
        assert answer.status_code in (403, 404), f"{method} {path}"
        assert "processes" not in answer.text


def test_the_server_may_forbid_a_user_all_of_it(
    server: Running, page: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Denying(Authorizer):
        def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
            asked.append((action, resource))
            return False

    monkeypatch.setitem(server.app.web_app.settings, "authorizer", Denying(parent=server.app))
    for method, path in walked(server):
        answer = page.request(method, path, json={"folder": ""})
        assert answer.status_code == 403, f"{method} {path}"
    assert sorted(asked) == [
        ("read", "nbllm"),
        ("read", "nbllm"),
        ("write", "contents"),
        ("write", "nbllm"),
    ]


def test_looking_does_not_keep_an_idle_server_alive(server: Running, page: httpx.Client) -> None:
    settings = server.app.web_app.settings
    page.get("nbllm/notebooks")
    before = settings["api_last_activity"]
    page.get("nbllm/activity")
    assert settings["api_last_activity"] == before


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, nbllm.lab, nbllm.lab.handlers\n"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_server_finds_it_by_its_module() -> None:
    from jupyter_server.extension.manager import ExtensionPackage

    package = ExtensionPackage(name="nbllm.lab", enabled=True)
    assert package.validate()
    assert package.version == nbllm.__version__


BODIES = [
    b"\xff\xfe", b'{"folder": "\xff"}', b"[" * 90_000, b'{"folder": "' + b"a" * 90_000 + b'"}',
    b'{"folder": "\\ud800"}', b'{"folder": "\\u0000"}', b"\0", b"NaN", b"1" * 90_000,
    b"x" * 100_001, b'{"folder": "' + b"x" * 20_000_000 + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_no_body_makes_an_error_of_the_servers_own(
    server: Running, page: httpx.Client, body: bytes
) -> None:
    before = set(server.root.rglob("*"))
    for method, path in walked(server):
        path = path.replace("/x/", "/10_sentiment.ipynb/")
        answer = page.request(method, path, content=body)
        assert answer.status_code in ((200, 413) if method == "GET" else range(400, 500)), path
        if len(body) > 100_000:
            assert answer.status_code == 413 and "Send less" in answer.json()["message"]
    assert set(server.root.rglob("*")) == before


@pytest.mark.parametrize("name", ["%ff", "%00", "%ed%a0%80", "a" * 5000, "%2e%2e%2f"])
def test_no_name_makes_an_error_of_the_servers_own(
    server: Running, page: httpx.Client, name: str
) -> None:
    for method, path in walked(server):
        answer = page.request(method, path.replace("/x/", f"/{name}/"), json={"folder": ""})
        assert answer.status_code < 500, path
