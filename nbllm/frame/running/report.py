"""What a run did: rows, tokens, what was known, what failed, and with which model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nbllm.display.card import card, terms, terms_text
from nbllm.wording import counted, rate

if TYPE_CHECKING:
    from nbllm.engine.runner import BatchResult

__all__ = ["RunReport"]


@dataclass
class RunReport:
    """The account of one call of a verb.

    Rows add up: `rows = blank + failed + known + computed + merged + left`.
    """

    run: str
    verb: str
    output: str
    model: dict[str, str]
    rows: int = 0
    texts: int = 0  # distinct ones among the rows
    blank: int = 0  # missing or blank: a null, no forward
    merged: int = 0  # duplicates of another row of the frame
    known: int = 0  # distinct texts answered from the ledger
    computed: int = 0  # distinct texts answered by the model
    failed: int = 0
    prefix_tokens: int = 0  # shared by all rows, computed once
    tokens: int = 0  # of the rows themselves
    padding: int = 0
    forwards: int = 0
    seconds: float = 0.0
    # Floating-point operations: those of all that was read, without padding, and those that the
    # device does in a second. None where rows are answered elsewhere, or answers are written.
    operations: float | None = None
    matrix_rate: float | None = None
    stopped: bool = False  # by an interrupt or a cancel, before all were answered
    left: int = 0  # distinct texts that were not reached
    ledger: str | None = None
    ledger_bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Distinct texts that need not be asked again in this run."""
        # Rows that failed include those whose value is no text, which are asked of nobody.
        return min(self.texts, self.known + self.computed + self.failed)

    @property
    def rows_per_second(self) -> float:
        """Distinct texts computed a second of wall clock."""
        return self.computed / self.seconds if self.seconds else 0.0

    def add(self, done: BatchResult) -> None:
        """Count one batch."""
        self.computed += len(done.answers)
        self.tokens += done.read.tokens
        self.padding += done.padding
        self.forwards += done.forwards

    def lines(self) -> dict[str, str]:
        """The report as label and text, in reading order."""
        padded = self.tokens + self.padding
        share = f" ({self.padding / padded:.0%} padding)" if padded else ""
        lines = {
            "rows": f"{self.rows:,} ({self.computed:,} computed, {self.known:,} from the ledger, "
            f"{counted(self.merged, 'duplicate')}, {self.blank:,} blank, {self.failed:,} failed"
            + (f", stopped with {self.left:,} left)" if self.stopped else ")"),
            "time": f"{self.seconds:.1f} s" + self._speed(),
            "tokens": f"{self.tokens:,}{share} in {counted(self.forwards, 'batch', 'batches')}, "
            f"behind a shared prefix of {self.prefix_tokens:,}",
            "model": ", ".join(
                self.model[key] for key in ("name", "quantization", "dtype", "device")
            )
            + self._spread()
            + f", revision {self.model['revision'][:12]}",
            "run": self.run,
            "ledger": f"{self.ledger} ({self.ledger_bytes / 1e6:.1f} MB; "
            "ledger=False switches it off)"
            if self.ledger
            else "off: nothing was kept",
        }
        for error, count in self.errors.items():
            lines[f"failed × {count}"] = error
        return lines

    def _spread(self) -> str:
        places = set(json.loads(self.model.get("device_map", "{}")).values())
        return f" (spread over {', '.join(sorted(places))})" if places else ""

    def _speed(self) -> str:
        if not self.computed or not self.seconds:
            return ""
        speed = (
            f", {rate(self.rows_per_second, 'rows')}, {rate(self.tokens / self.seconds, 'tokens')}"
        )
        if self.operations and self.matrix_rate:
            share = self.operations / self.seconds / self.matrix_rate
            speed += f", {share:.0%} of the matrix products that {self.model['device']} can do"
        return speed

    def to_dict(self) -> dict[str, Any]:
        """All fields, for the ledger."""
        return asdict(self)

    def __str__(self) -> str:
        return terms_text(f"{self.verb} → {self.output}", self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return card(f"{self.verb} → {self.output}", terms(self.lines()))
