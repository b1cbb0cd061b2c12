"""Runs a verb on a folder of Parquet files with a pool of workers.

Each file goes to one worker, which reads, answers and writes it in batches, so that no process
holds a whole file in memory.
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
from nbllm.checks import shown
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

_BATCH_ROWS = 4096
_WRITTEN, _CLAIMED = "written", "claimed"  # the outcomes of a file, besides an error message
_MAX_ATTRS_BYTES = 50_000_000  # the record of a run has a few thousand
_ATTRS = b"PANDAS_ATTRS"  # where pandas stores a frame's attrs in a Parquet file's metadata


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
    """Run a verb on every row of a folder of Parquet files, and write the answered files.

    Each file is processed by one worker, a few thousand rows at a time, and gets the columns of
    the answers after its own. A file appears in `target` only when it is complete. To resume after
    an interruption, repeat the call: it skips files that are in `target`, and files that another
    call is processing. A file that fails is named in a warning, and the others are still written.

    All rows are kept, also with a verb that returns fewer (`Verb.finish` is not called). The files
    hold the answers, so none are stored in the ledger.

    Args:
        source: A folder of Parquet files, possibly nested.
        target: The folder for the answered files, which keep their names.
        verb: A verb with one question per row, such as "sentiment".
        subject: The verb's first argument: a column, or a prompt.
        model: As for the verb.
        workers: The number of workers; by default one per GPU, or one per four CPU cores without
            a GPU.
        into: The name of the new column, as for the verb.
        keep: The new columns to add, as for the verb.
        truncate: Whether to cut texts that do not fit the context, instead of failing their rows.
        **options: The verb's other arguments.

    Returns:
        The paths of the files that this call wrote.

    Raises:
        FrameError: Ray is not installed, there is no such verb, an option of it needs more than
            rows, `source` has no Parquet file, or `target` is `source` or lies in it.
        NbllmError: The verb rejects its arguments or the columns of the first readable file.

    Example:
        >>> answer_folder("reviews/", "answered/", "sentiment", "review")  # doctest: +SKIP
    """
    for name, value in {"workers": workers, "into": into}.items():
        read_argument(name, value, optional=True)
    source, target = Path(source), Path(target)
    if target.resolve().is_relative_to(source.resolve()):
        raise FrameError(
            f"target is {shown(str(target))}, which is or lies in the source, so that answered "
            "files would be read again. Name a folder outside of it."
        )
    settings = {"model": model, "into": into, "keep": keep, "truncate": truncate}
    call = find_row_verb(verb).call(subject, options, settings)
    option = call.verb.not_by_file(call.options)
    if option is not None:
        raise FrameError(
            f"{option}= needs the rows of all files at once, or more than the answer of a row, and "
            f"answer_folder answers row by row. Leave it out, or call {verb} on a frame."
        )
    files = sorted(path.relative_to(source) for path in source.rglob("*.parquet"))
    if not files:
        raise FrameError(f"no Parquet file is in {source}. Name a folder that has some.")
    remaining = [path for path in files if not (target / path).exists()]
    if not remaining:
        return []
    call.verb.check(_first_frame(source, remaining), call)
    loaded = call.model()
    question = call.question(loaded)
    record = question.record(truncate=truncate)
    # Fitted once, so that all workers share the calibration.
    offset = question.bind().calibrate(None)
    arguments = {
        **call.added,
        "any_type": call.any_type,
        "execution": ExecutionOptions(truncate=truncate),
    }
    outcomes: dict[str, str] = {}
    with pool_of_workers(workers, loaded) as pool, TemporaryDirectory(prefix="nbllm-") as ledgers:
        names = [{"file": str(path)} for path in remaining]
        for batch in pool.stream(
            pool.data.from_items(names, override_num_blocks=len(remaining)),
            _FileWorker,
            (
                question.task,
                loaded.provenance(),
                (record["question"], offset),
                (str(source.resolve()), str(target.resolve()), ledgers),
                (question.columns, question.output, question.verb_format),
                arguments,
            ),
            parts=len(remaining),
        ):
            outcomes.update(zip(batch["file"], batch["outcome"], strict=True))
    _warn(outcomes)
    return [target / path for path in remaining if outcomes[str(path)] == _WRITTEN]


def _first_frame(source: Path, files: Sequence[Path]) -> Any:
    """Return a frame without rows that has the columns of the first readable file.

    Raises:
        FrameError: No file can be read.
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


class _FileWorker:
    """A Ray worker that runs the verb on files.

    Args:
        task: The task of the verb.
        provenance: The model to load, as `Model.provenance` returns it.
        calibration: The id of the question, and its calibration offset.
        folders: The source, the target, and a folder for the ledgers of the workers.
        question: The columns, output and format of the `Question`.
        settings: The keyword arguments of `answer_frame`.
    """

    def __init__(
        self,
        task: Task,
        provenance: Mapping[str, str],
        calibration: tuple[str, list[float] | None],
        folders: tuple[str, str, str],
        question: tuple[Mapping[str, str], str, int],
        settings: Mapping[str, Any],
    ) -> None:
        self.source, self.target, ledgers = map(Path, folders)
        # A temporary ledger of this worker, for texts that recur in another batch or file, and
        # for the offset that all workers share.
        private_folder(ledgers)  # does not exist yet on another machine
        os.environ["NBLLM_LEDGER"] = str(Path(mkdtemp(dir=ledgers)) / "ledger.sqlite")
        question_id, offset = calibration
        if offset is not None:
            with Ledger(Path(os.environ["NBLLM_LEDGER"])) as ledger:
                ledger.commit(question_id, {OFFSET: offset})
        self.question = Question(task, reload(provenance), *question)
        self.settings = settings

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {"file": batch["file"], "outcome": [self._outcome(name) for name in batch["file"]]}

    def _outcome(self, name: str) -> str:
        """Process a file, and return `_WRITTEN`, `_CLAIMED` or the message of its error."""
        target = self.target / name
        claim = target.with_name(f".{target.name}.lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(claim, timeout=0):  # also released if the process is killed
                try:
                    if target.exists():
                        return _CLAIMED
                    for partial in target.parent.glob(f".{escape(target.name)}.*.half"):
                        partial.unlink()  # from a process that was killed
                    _answer_file(self.source / name, target, self.question, self.settings)
                finally:
                    with suppress(OSError):  # Windows does not delete open files
                        claim.unlink()
        except Timeout:
            return _CLAIMED
        except Exception as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return _WRITTEN


def _answer_file(
    source: Path, target: Path, question: Question, settings: Mapping[str, Any]
) -> None:
    """Write a copy of a file with answers, and move it to its place when it is complete.

    Its metadata gains the run's record as attrs of pandas.
    """
    half = target.with_name(f".{target.name}.{token_hex(4)}.half")
    writer = None
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                table = pyarrow.Table.from_batches([batch])
                answered = _answer_table(table, question, settings)
                if writer is None:
                    writer = pyarrow.parquet.ParquetWriter(half, answered.schema)
                writer.write_table(answered.cast(writer.schema))
            if writer is None:  # a file without rows
                empty = file.schema_arrow.empty_table()
                answered = _answer_table(empty, question, settings)
                writer = pyarrow.parquet.ParquetWriter(half, answered.schema)
        writer.close()
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def _answer_table(
    table: pyarrow.Table, question: Question, settings: Mapping[str, Any]
) -> pyarrow.Table:
    """Return a table with the columns of answers, and the run's record in its metadata."""
    output = question.output
    names = table.column_names
    # The columns of an earlier run, or columns with a name that this run requires.
    own = [name for name in names if name == output or name.startswith(f"{output}_")]
    frame = table.select(list(dict.fromkeys([*question.columns.values(), *own]))).to_pandas()
    metadata = dict(table.schema.metadata or {})
    frame.attrs = _attrs(metadata.get(_ATTRS, b"{}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the file holds the errors
        answered = answer_frame(frame, question, **settings)
    new = added_columns(question.task, output, settings["keep"], settings["probabilities_too"])
    table = table.select([n for n in names if n not in new and (n in answered or n not in own)])
    for name in new:
        values = answered[name]
        if values.dtype == "category":
            values = values.astype("string")
        table = table.append_column(name, pyarrow.Array.from_pandas(values))
    return table.replace_schema_metadata({**metadata, _ATTRS: json.dumps(answered.attrs)})


def _attrs(written: bytes) -> dict[str, Any]:
    """Return a frame's attrs from a file's metadata; empty if they are damaged or too large."""
    if len(written) > _MAX_ATTRS_BYTES:
        return {}
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
