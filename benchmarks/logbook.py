"""A result file that is written anew after each section of a long benchmark.

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

from run import machine, table, versions

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

    @property
    def ratio(self) -> float | None:
        """Value to reference."""
        return None if self.reference is None else self.value / self.reference


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
    """What was measured and what failed, on disk after each section."""

    file: Path
    head: dict[str, Any]
    deadline: float  # of time.monotonic
    rows: list[Row] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def take(self, section: str, quantization: str, rows: Iterator[Row]) -> bool:
        """Run one section; false where it failed or there was no time for it."""
        done = len(self.rows)
        problem = ""
        started = time.monotonic()
        try:
            if started > self.deadline:
                raise NotMeasured("the time was up")
            self.rows.extend(rows)
        except NotMeasured as reason:
            problem = f"not measured: {reason}"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        print(f"\n{section}, {quantization} ({time.monotonic() - started:.0f} s) {problem}")
        if self.rows[done:]:
            print(table([printed(row) for row in self.rows[done:]]), flush=True)
        if problem:
            failure = {"section": section, "quantization": quantization, "problem": problem}
            self.failures.append(failure)
        self.write()
        return not problem

    def write(self) -> None:
        record = {
            **self.head,
            "rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows],
            "failures": self.failures,
        }
        staged = self.file.with_suffix(".new")
        staged.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        staged.replace(self.file)


def printed(row: Row) -> dict[str, Any]:
    """A line of a section's table."""
    value: dict[str, Any] = {"measure": row.measure, "value": row.value, "unit": row.unit}
    if row.ratio is None:
        return value | {"ratio": "", "against": "", "reference": ""}
    return value | {"ratio": row.ratio, "against": row.against, "reference": row.reference}
