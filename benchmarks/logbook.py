"""A result file of a long benchmark that is written anew after each line.

What fails is in it as an error and stops nothing else; where the time is up, it holds what was
done until then.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from run import machine, shown, versions

__all__ = ["Log", "NotMeasured", "Row", "origin"]


class NotMeasured(Exception):
    """Something that this machine lacks, or that there was no time for."""


@dataclass(frozen=True)
class Row:
    """One measured value, and what it is held against."""

    section: str
    quantization: str
    measure: str
    value: float
    unit: str
    against: str = ""
    reference: float | None = None  # in the same unit
    bound: float | None = None  # what the machine allows, in the same unit
    allowed: float | None = None  # the most that is right, in the same unit

    @property
    def ratio(self) -> float | None:
        """Value to reference."""
        return None if self.reference is None else self.value / self.reference

    @property
    def share(self) -> float | None:
        """How much of what the machine allows was reached."""
        if self.bound is None:
            return None
        return self.bound / self.value if self.unit in ("s", "ms") else self.value / self.bound

    @property
    def right(self) -> bool | None:
        """Whether it is within what is right; None where any value is."""
        return None if self.allowed is None else self.value <= self.allowed


def origin(about: str) -> dict[str, Any]:
    """What was measured, when and on what."""
    return {
        "about": about,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }


@dataclass
class Log:
    """What was measured and what failed, on disk after each line."""

    file: Path
    head: dict[str, Any]
    deadline: float  # of time.monotonic
    rows: list[Row] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def take(self, section: str, quantization: str, rows: Iterator[Row]) -> bool:
        """Run one section; false where it failed or there was no time for it.

        A line that is not right counts as a failure of its own, and stops nothing.
        """
        print(f"\n{section}, {quantization}", flush=True)
        problem = ""
        started = time.monotonic()
        try:
            if started > self.deadline:
                raise NotMeasured("the time was up")
            for row in rows:
                self._add(row)
        except NotMeasured as reason:
            problem = f"not measured: {reason}"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        print(f"  ({time.monotonic() - started:.0f} s) {problem}", flush=True)
        if problem:
            self.fail(section, quantization, problem)
        return not problem

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"  {printed(row)}", flush=True)
        if row.right is False:
            self.fail(row.section, row.quantization, f"wrong: {printed(row)}")
        self.write()

    def fail(self, section: str, quantization: str, problem: str) -> None:
        """Note what went wrong."""
        failure = {"section": section, "quantization": quantization, "problem": problem}
        self.failures.append(failure)
        self.write()

    def write(self) -> None:
        record = {
            **self.head,
            "rows": [
                asdict(row) | {"ratio": row.ratio, "share": row.share, "right": row.right}
                for row in self.rows
            ],
            "failures": self.failures,
        }
        staged = self.file.with_suffix(".new")
        staged.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        staged.replace(self.file)


def printed(row: Row) -> str:
    """One line for people."""
    parts = [f"{row.measure}: {shown(row.value)} {row.unit}"]
    if row.ratio is not None:
        parts.append(f"{row.ratio:.2f} of {row.against} ({shown(row.reference)})")
    if row.share is not None:
        parts.append(f"{row.share:.0%} of the bound ({shown(row.bound)})")
    if row.allowed is not None:
        parts.append(f"at most {shown(row.allowed)} is right")
    return ", ".join(parts)
