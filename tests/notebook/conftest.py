"""A shell of IPython's own, with the tests' model in a variable."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.models.model import Model


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    yield shell
    InteractiveShell.clear_instance()
    atexit.unregister(shell.atexit_operations)  # by then its folder is gone


@pytest.fixture
def loaded(shell: InteractiveShell, tiny_llama: Model) -> InteractiveShell:
    """With nbllm's magics, and a model called `llm`."""
    shell.run_line_magic("load_ext", "nbllm")
    shell.user_ns["llm"] = tiny_llama
    return shell
