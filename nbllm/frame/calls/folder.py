"""A folder of Parquet files to another with the answers of a verb, on a pool of workers.

A file is the unit: it goes to one worker, which reads, answers and writes it in parts, so that
nobody holds more than a part of it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
from filelock import FileLock, Timeout

from nbllm._warnings import warn_user
from nbllm.engine.ledger import OFFSET, Ledger
from nbllm.errors import FrameError
from nbllm.frame import KEEP
from nbllm.frame.calls.registry import find_row_verb
from nbllm.frame.checks import read_argument
from nbllm.frame.running.execute import ExecutionOptions, Question
from nbllm.frame.running.ray import pool_of_workers
from nbllm.frame.running.run import added_columns, answer_frame
from nbllm.home import private_folder
from nbllm.models.loader import reload
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import ModelLike

__all__ = ["answer_folder"]

_ROWS = 4096  # read, answered and written at a time
_WRITTEN, _CLAIMED = "written", "claimed"  # what became of a file, where it did not fail
_MOST_ATTRS = 50_000_000  # bytes; a run's record has some thousand
# Where pandas keeps a frame's attrs in a Parquet file.
_ATTRS = b"PANDAS_ATTRS"


def answer_folder(
    source: str | Path,
    target: str | Path,
    verb: str,
    subject: str,
    *,
    model: ModelLike | None = None,
    workers: int | None = None,
    into: str | None = None,
    keep: Sequence[str] = KEEP,
    truncate: bool = False,
    **options: Any,
) -> list[Path]:
    """Ask a verb of every row of a folder of Parquet files, and write a folder of the same files.

    Each file goes to a worker, a few thousand rows at a time, and comes out with the columns of
    the answer behind its own. It appears when it is whole, so that the same call goes on after
    whatever stopped it: files that are in `target` are not asked again, nor are those that another
    call is at work on. A file that cannot be answered is named in a warning, and stops no other.

    Args:
        source: a folder of Parquet files, also nested.
        target: where the answered files go, under the same names.
        verb: a row verb, such as "sentiment".
        subject: the verb's first argument: a column, or a prompt.
        model: as `df.llm` has it.
        workers: how many; by default one a GPU, else one for every four processor cores.
        into, keep, truncate, options: the verb's other arguments.

    Returns:
        the files that were written now.

    Raises:
        FrameError: Ray is not installed, no such verb, no Parquet file in `source`, or it is the
            target too.
        NbllmError: what the verb raises of the first file that can be read, such as ColumnError.

    Example:
        >>> answer_folder("reviews/", "answered/", "sentiment", "review")  # doctest: +SKIP
    """
    for name, value in {"workers": workers, "into": into}.items():
        read_argument(name, value, optional=True)
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise FrameError(f"source and target are both {source}. Name another folder to write in.")
    settings = {"model": model, "into": into, "keep": keep, "truncate": truncate}
    call = find_row_verb(verb).call(subject, options, settings)
    files = sorted(path.relative_to(source) for path in source.rglob("*.parquet"))
    if not files:
        raise FrameError(f"no Parquet file is in {source}. Name a folder that has some.")
    left = [path for path in files if not (target / path).exists()]
    if not left:
        return []
    call.verb.check(_first_frame(source, left), call)
    chosen = call.model()
    question = call.question(chosen)
    record = question.record(truncate=truncate)
    # Fitted once and here, so that all workers calibrate alike.
    offset = question.ready().calibrate(None)
    settled = {
        **call.added,
        "any_type": call.any_type,
        "execution": ExecutionOptions(truncate=truncate),
    }
    outcomes: dict[str, str] = {}
    with pool_of_workers(workers, chosen) as pool, TemporaryDirectory(prefix="nbllm-") as ledgers:
        names = [{"file": str(path)} for path in left]
        for batch in pool.stream(
            pool.data.from_items(names, override_num_blocks=len(left)),
            _AnsweringFiles,
            (
                question.task,
                chosen.provenance(),
                (record["question"], offset),
                (str(source.resolve()), str(target.resolve()), ledgers),
                (question.columns, question.output, question.verb_format),
                settled,
            ),
            parts=len(left),
        ):
            outcomes.update(zip(batch["file"], batch["outcome"], strict=True))
    _warn(outcomes)
    return [target / path for path in left if outcomes[str(path)] == _WRITTEN]


def _first_frame(source: Path, files: Sequence[Path]) -> Any:
    """Without rows, of the first file that can be read.

    Raises:
        FrameError: none of them can.
    """
    problem = ""
    for file in files:
        try:
            return pyarrow.parquet.read_schema(source / file).empty_table().to_pandas()
        except (OSError, pyarrow.ArrowException) as error:
            problem = problem or f"{file}: {error}"
    raise FrameError(
        f"no file in {source} can be read ({problem:.200}). Name a folder of Parquet files."
    )


def _warn(outcomes: Mapping[str, str]) -> None:
    claimed = [file for file, outcome in outcomes.items() if outcome == _CLAIMED]
    failed = {f: o for f, o in outcomes.items() if o not in (_WRITTEN, _CLAIMED)}
    if claimed:
        warn_user(
            f"{counted(len(claimed), 'file is', 'files are')} left to another call that is at work "
            f"on them ({claimed[0]}{', ...' if claimed[1:] else ''}). Call again when it has ended."
        )
    if failed:
        file, problem = next(iter(failed.items()))
        warn_user(
            f"{len(failed):,} of {counted(len(outcomes), 'file was', 'files were')} not answered; "
            f"{file}: {problem.rstrip('.')}. Mend or remove what is named, and call again: the "
            "others are not asked twice."
        )


class _AnsweringFiles:
    """A worker that answers files."""

    def __init__(
        self,
        task: Task,
        provenance: Mapping[str, str],
        calibration: tuple[str, list[float] | None],
        folders: tuple[str, str, str],
        asked: tuple[Mapping[str, str], str, int],
        settings: Mapping[str, Any],
    ) -> None:
        self.source, self.target, ledgers = map(Path, folders)
        # A ledger of its own, which lives as long as the call: texts that come again in another
        # part of the data, and the offset that all workers share, are known.
        private_folder(ledgers)  # not there yet on another machine
        os.environ["NBLLM_LEDGER"] = str(Path(mkdtemp(dir=ledgers)) / "ledger.sqlite")
        question, offset = calibration
        if offset is not None:
            with Ledger(Path(os.environ["NBLLM_LEDGER"])) as ledger:
                ledger.commit(question, {OFFSET: offset})
        self.question = Question(task, reload(provenance), *asked)
        self.settings = settings

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {"file": batch["file"], "outcome": [self._outcome(name) for name in batch["file"]]}

    def _outcome(self, name: str) -> str:
        """What became of a file: written, claimed by another call, or why it failed."""
        target = self.target / name
        claim = target.with_name(f".{target.name}.lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(claim, timeout=0):  # released with the process, however that ends
                try:
                    if target.exists():
                        return _CLAIMED
                    for left in target.parent.glob(f".{escape(target.name)}.*.half"):
                        left.unlink()  # by one that was killed
                    _answer_file(self.source / name, target, self.question, self.settings)
                finally:
                    with suppress(OSError):  # Windows keeps what is open
                        claim.unlink()
        except Timeout:
            return _CLAIMED
        except Exception as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return _WRITTEN


def _answer_file(
    source: Path, target: Path, question: Question, settings: Mapping[str, Any]
) -> None:
    """Answer the rows of a file; the new one appears when it is whole.

    The columns of the file stay as they are. Its metadata gains the run's record, from which
    pandas and nbllm know where the answers come from.

    Args:
        settings: as `answer_frame` has them.
    """
    half = target.with_name(f".{target.name}.{token_hex(4)}.half")
    writer = None
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                table = pyarrow.Table.from_batches([batch])
                answered = _added(table, question, settings)
                if writer is None:
                    writer = pyarrow.parquet.ParquetWriter(half, answered.schema)
                writer.write_table(answered.cast(writer.schema))
            if writer is None:  # a file without rows
                empty = file.schema_arrow.empty_table()
                answered = _added(empty, question, settings)
                writer = pyarrow.parquet.ParquetWriter(half, answered.schema)
        writer.close()
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def _added(table: pyarrow.Table, question: Question, settings: Mapping[str, Any]) -> pyarrow.Table:
    output = question.output
    names = table.column_names
    # What is there of an earlier run, and what may be in the way.
    own = [name for name in names if name == output or name.startswith(f"{output}_")]
    read = table.select(list(dict.fromkeys([*question.columns.values(), *own]))).to_pandas()
    told = dict(table.schema.metadata or {})
    read.attrs = _attrs(told.get(_ATTRS, b"{}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the errors are in the file
        answered = answer_frame(read, question, **settings)
    new = added_columns(question.task, output, settings["keep"], settings["probabilities_too"])
    table = table.select([n for n in names if n not in new and (n in answered or n not in own)])
    for name in new:
        values = answered[name]
        if values.dtype == "category":
            values = values.astype("string")
        table = table.append_column(name, pyarrow.Array.from_pandas(values))
    return table.replace_schema_metadata({**told, _ATTRS: json.dumps(answered.attrs)})


def _attrs(written: bytes) -> dict[str, Any]:
    """What a file's metadata has of a frame's attrs; nothing where it is damaged or too much."""
    if len(written) > _MOST_ATTRS:
        return {}
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
