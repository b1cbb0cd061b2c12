"""The folder of a run, which records its settings, so that another run never overwrites it.

While a run goes on, it holds `run.json` (the settings, and the plan that was made at the start) and
`checkpoints`. When it has ended, it is a model or an adapter that `nbllm.load` takes, with
`training.json`, the record of how it was made, and a README.md with its licence.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nbllm.errors import NbllmError, TrainingError
from nbllm.home import home, private_folder
from nbllm.models.fetch.training_record import RECORD
from nbllm.storage.json_file import find_object
from nbllm.wording import byte_size

__all__ = ["RunFolder", "writing"]

_RUN = "run.json"
_CHECKPOINTS = "checkpoints"
_MOST_OF_RECORD = 100_000_000  # bytes; a long run has its losses in it
_RESERVE = 50_000_000  # bytes left for the rest of the system


class RunFolder:
    """The folder of one run.

    Args:
        where: The folder; None is one below nbllm's home, named by a hash of the settings.
        verb: "finetune" or "pretrain".
        settings: All settings that decide the result.
        resume: Resume an interrupted run of the same settings, or return its result again; else
            such a folder is refused.

    Raises:
        TrainingError: It holds something else, or cannot be written to.
    """

    def __init__(
        self, where: str | Path | None, verb: str, settings: Mapping[str, Any], *, resume: bool
    ) -> None:
        self.settings: dict[str, Any] = json.loads(json.dumps({"verb": verb, **settings}))
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        self.path: Path = (
            home() / "training" / f"{verb}-{key}"
            if where is None
            else Path(where).expanduser().absolute()
        )
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{self.path} is a file. Pass a folder.")
        there = _read(self.path / _RUN)
        if there is None and self.path.exists() and any(self.path.iterdir()):
            raise TrainingError(
                f"{self.path} holds something that no training wrote. Pass a folder that is empty "
                "or not there yet."
            )
        if there is not None:
            theirs = there.get("asked")
            self._refuse_another(theirs if isinstance(theirs, dict) else {}, resume)
        decided = None if there is None else there.get("decided")
        self.decided: dict[str, Any] | None = decided if isinstance(decided, dict) else None

    @property
    def checkpoints(self) -> Path:
        """The folder of Trainer's checkpoints."""
        return self.path / _CHECKPOINTS

    @property
    def record(self) -> dict[str, Any] | None:
        """The record of a run that has ended; None before."""
        return _read(self.path / RECORD)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder's lock, so that no other process trains there; write the settings.

        Raises:
            TrainingError: Another process trains there, or the folder cannot be written to.
        """
        with writing(self.path):
            if self.path.is_relative_to(home()):
                private_folder(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            # Beside the folder, so that nothing of it is left there.
            lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise TrainingError(
                    f"Another process is training in {self.path}. Wait for it, or pass another "
                    "folder."
                ) from error
        try:
            with writing(self.path):
                _write(self.path / _RUN, {"asked": self.settings, "decided": self.decided})
            yield
        finally:
            lock.release()

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the record, which marks the result as complete."""
        with writing(self.path):
            _write(self.path / RECORD, record)

    def decide(self, decided: Mapping[str, Any]) -> None:
        """Keep the plan that was made at the start, for a restart."""
        self.decided = dict(decided)
        with writing(self.path):
            _write(self.path / _RUN, {"asked": self.settings, "decided": self.decided})

    def require_space(self, needed: int) -> None:
        """Raise TrainingError where the disk has less room than the run will take."""
        free = shutil.disk_usage(self.path).free
        if needed + _RESERVE > free:
            raise TrainingError(
                f"Checkpoints and result take {byte_size(needed)} on disk, and {self.path} has "
                f"{byte_size(free)} left. Make room there, or pass a folder on a larger disk. "
                "Nothing was trained."
            )

    def clear_checkpoints(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _refuse_another(self, there: Mapping[str, Any], resume: bool) -> None:
        if not resume:
            raise TrainingError(
                f"{self.path} holds a run already. Pass another folder, remove this one, or pass "
                "resume=True to go on with it."
            )
        names = sorted({*there, *self.settings})
        differ = [name for name in names if there.get(name) != self.settings.get(name)]
        if differ:
            name = differ[0]
            raise TrainingError(
                f"{self.path} holds a run with other settings: {name} was "
                f"{_short(there.get(name))} and is {_short(self.settings.get(name))}"
                + (f", and so do {', '.join(differ[1:])} differ" if differ[1:] else "")
                + ". Pass another folder, or remove this one."
            )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a disk that is full or read-only into a TrainingError."""
    try:
        yield
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except OSError as error:
        raise _unwritten(folder, error.strerror or str(error)) from error
    except Exception as error:
        # safetensors and torch write with code of their own, whose errors are of their own.
        text = str(error)
        if type(error).__name__ == "SafetensorError" and "os error" in text:
            raise _unwritten(folder, text) from error
        if isinstance(error, RuntimeError) and (
            "iostream error" in text or "inline_container" in text or "file write failed" in text
        ):
            raise _unwritten(folder, text.splitlines()[0]) from error
        raise


def _unwritten(folder: Path, why: str) -> TrainingError:
    there = next(f for f in (folder, *folder.parents) if f.exists())
    free = shutil.disk_usage(there).free
    return TrainingError(
        f"{folder} cannot be written to ({why}); {byte_size(free)} are left there. Make room and "
        "ask again, which goes on from the last checkpoint; or pass a folder that can be written "
        "to."
    )


def _read(file: Path) -> dict[str, Any] | None:
    return find_object(file, max_bytes=_MOST_OF_RECORD)


def _write(file: Path, value: Mapping[str, Any]) -> None:
    staged = file.with_suffix(".new")
    staged.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    staged.replace(file)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
