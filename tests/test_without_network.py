"""Nothing that was not asked to fetch something looks up a name or connects to another machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbllm
from nbllm.accessor import FrameAccessor
from nbllm.cli import _parser
from tests import without_network
from tests.conftest import tiny_network

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process called and tried, which is not told that it has no network."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("causal", "classifier", "encoder", "seq2seq"):
        network, tokenizer = tiny_network(kind)
        network.save_pretrained(folder / f"tiny-{kind}")
        tokenizer.save_pretrained(folder / f"tiny-{kind}")
    done = subprocess.run(
        [sys.executable, without_network.__file__, str(folder)],
        env=_untold() | {"NBLLM_LEDGER": str(folder / "ledger.sqlite3")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_all_that_needs_no_network_works_without(session: dict[str, Any]) -> None:
    assert session["failed"] == {}


def test_nothing_tries_to_reach_it(session: dict[str, Any]) -> None:
    assert session["attempts"] == []


def test_every_method_name_and_command_was_called(session: dict[str, Any]) -> None:
    commands = next(action.choices for action in _parser()._actions if action.choices)
    called = {part: set(names) for part, names in session["called"].items()}
    assert called["df.llm"] == {name for name in dir(FrameAccessor) if name[0] != "_"}
    # Files are answered on workers of Ray, which connects the processes that it starts.
    names = {name for name in nbllm.__all__ if name[0] != "_"} - {"answer_folder"}
    assert called["nbllm"] == names
    assert called["command"] == set(commands) - {"get", "remove"}


REACHES = (
    "import socket; socket.getaddrinfo('example.org', 443)",
    "import socket; socket.gethostbyname('example.org')",
    "import socket; socket.create_connection(('192.0.2.1', 443), timeout=1)",
    "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'a', ('192.0.2.1', 53))",
    "import urllib.request; urllib.request.urlopen('https://example.org')",
    "import httpx; httpx.get('https://example.org')",
    "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 443))",
    "import huggingface_hub; huggingface_hub.model_info('owner/name')",
)


def test_the_session_would_notice() -> None:
    code = f"""
import contextlib, sys
from tests.without_network import ATTEMPTS, refuse

sys.addaudithook(refuse)
for reach in {REACHES!r}:
    with contextlib.suppress(Exception):
        exec(reach)
    if not ATTEMPTS:
        print(reach)
    ATTEMPTS.clear()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_untold() | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def _untold() -> dict[str, str]:
    """The environment without what tells libraries that there is no network."""
    told = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"}
    return {name: value for name, value in os.environ.items() if name not in told}
