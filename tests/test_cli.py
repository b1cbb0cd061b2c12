"""The command line: what it prints, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from nbllm.cli import main
from nbllm.engine.ledger import Ledger
from nbllm.models.fetch import catalog
from nbllm.wording import byte_size
from tests.models.test_shelf import tiny

__all__ = ["tiny"]  # the fixture


@pytest.fixture(autouse=True)
def nbllm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NBLLM_HOME, and an empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nbllm(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command; gives its status and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        return status, *capsys.readouterr()

    return run


def test_from_get_to_remove(tiny: catalog.CatalogEntry, nbllm: Said) -> None:
    status, out, _ = nbllm("get", "tiny")
    folder = Path(out.strip())
    assert status == 0 and (folder / "model.safetensors").is_file()
    assert "tiny" in nbllm("models")[1].partition("To fetch")[0]
    status, out, err = nbllm("verify", "tiny")
    assert (status, err) == (0, "") and "all as they were fetched" in out
    (folder / "config.json").write_text("{}")
    status, out, err = nbllm("verify")
    assert (status, out) == (1, "") and "config.json" in err
    status, out, _ = nbllm("remove", "tiny")
    assert status == 0 and "kB given back" in out
    assert not folder.exists()


def test_models_are_listed(nbllm: Said) -> None:
    status, out, _ = nbllm("models")
    assert status == 0
    assert all(name in out for name in catalog.CATALOG)


@pytest.mark.parametrize("command", ["get", "remove", "verify"])
def test_what_nbllm_cannot_do_is_said_on_standard_error(nbllm: Said, command: str) -> None:
    status, out, err = nbllm(command, "smolm2")
    assert (status, out) == (1, "")
    assert err.startswith("nbllm: There is no model called 'smolm2'. Did you mean 'smollm2'")
    assert err.count("\n") == 1


def test_a_licence_is_accepted_only_when_it_is_said(
    nbllm: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Any, ...]] = []

    def fetch(name: str, revision: str | None, accept_license: bool) -> SimpleNamespace:
        asked.append((name, revision, accept_license))
        return SimpleNamespace(folder=tmp_path)

    monkeypatch.setattr("nbllm.models.fetch.sources.fetch", fetch)
    nbllm("get", "some/model", "--revision", "main")
    nbllm("get", "some/model", "--accept-license")
    assert asked == [("some/model", "main", False), ("some/model", None, True)]


def test_an_interrupt_ends_with_130(nbllm: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nbllm.models.fetch.sources.fetch", interrupted)
    assert nbllm("get", "smollm2") == (130, "", "nbllm: interrupted\n")


@pytest.mark.parametrize("arguments", [[], ["no-such"], ["get"], ["estimate", "x", "--batch", "b"]])
def test_a_wrong_usage_ends_with_2(nbllm: Said, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        nbllm(*arguments)
    assert ended.value.code == 2


def test_an_estimate_takes_what_was_asked(nbllm: Said, tiny_folder: Callable[[str], Path]) -> None:
    folder = str(tiny_folder("causal"))
    status, out, _ = nbllm("estimate", folder, "--quantize", "none", "--context", "512")
    assert status == 0
    assert "none" in out and "512" in out and "nf4" not in out
    status, out, _ = nbllm("estimate", folder, "--quantize", "none", "--device", "2x4090")
    assert status == 0 and "2 x RTX 4090 24 GB: 25.2 GB" in out
    for dtype, name in (("fp32", "float32"), ("bf16", "bfloat16")):
        status, out, _ = nbllm("estimate", folder, "--quantize", "none", "--dtype", dtype)
        assert status == 0 and out.partition("\n")[0].endswith(f" {name}")
    status, _, err = nbllm("estimate", folder, "--dtype", "int8")
    assert status == 1 and "There is no dtype 'int8'" in err
    status, _, err = nbllm("estimate", folder, "--device", "abacus")
    assert status == 1 and "RTX 4090 24 GB" in err


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_as_a_module() -> None:
    assert "verify" in run("-m", "nbllm", "--help")


def test_help_comes_at_once() -> None:
    # Processor time, and the best of several: what else the machine is doing is not nbllm's.
    code = (
        "import atexit, time; atexit.register(lambda: print(time.process_time()))\n"
        "from nbllm.cli import main; main(['--help'])"
    )
    assert min(float(run("-c", code).splitlines()[-1]) for _ in range(3)) < 0.3


def test_listing_models_loads_no_torch() -> None:
    code = "import sys; from nbllm.cli import main; main(['models']); print('torch' in sys.modules)"
    assert run("-c", code).splitlines()[-1] == "False"


def test_the_ledger_is_shown_and_purged(nbllm: Said, ledger_path: Path) -> None:
    assert nbllm("ledger") == (0, f"{ledger_path}: nothing is kept yet.\n", "")
    with Ledger(ledger_path) as ledger:
        ledger.commit("q", {"a": 1, "b": 2})
        ledger.open_run("r", {"verb": "sentiment", "question": "q"})
        ledger.commit("of a run that was killed", {"c": 3})
    status, said, _ = nbllm("ledger")
    assert status == 0 and said.startswith(f"{ledger_path}: ")
    assert re.search(r"sentiment +2 answers of 1 run, the newest of 20\d\d-\d\d-\d\d", said)
    assert re.search(r"\? +1 answer, of runs that were killed", said)
    assert nbllm("ledger", "purge", "--older-than", "1")[1].startswith(
        f"{ledger_path}: 0 answers deleted"
    )
    assert nbllm("ledger", "purge")[1].startswith(f"{ledger_path}: 3 answers deleted")
    assert nbllm("ledger")[1].count("\n") == 1


def test_the_ledgers_size_counts_what_is_not_in_its_file_yet(
    nbllm: Said, ledger_path: Path
) -> None:
    with Ledger(ledger_path) as ledger:  # open, so that its log stays
        ledger.commit("q", {f"{n}": "x" * 1000 for n in range(200)})
        assert ledger.size > 200_000 > ledger_path.stat().st_size
        assert f"{ledger_path}: {byte_size(ledger.size)}\n" in nbllm("ledger")[1]


def test_a_file_that_is_no_ledger_is_left_alone(nbllm: Said, ledger_path: Path) -> None:
    ledger_path.write_bytes(b"this is no database, " * 100)
    for command in (["ledger"], ["ledger", "purge"]):
        status, out, err = nbllm(*command)
        assert (status, out) == (1, "")
        assert err.startswith(f"nbllm: The ledger {ledger_path} cannot be used (the file is not a")
    assert ledger_path.read_bytes() == b"this is no database, " * 100
