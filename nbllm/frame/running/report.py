"""The report of a run: its rows, tokens, time, failures and model."""

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
    """The report of one run.

    Rows add up: `rows = blank + failed + known + computed + merged + left`.
    """

    run: str
    verb: str
    output: str
    model: dict[str, str]
    rows: int = 0
    texts: int = 0  # distinct
    blank: int = 0  # rows with a missing or blank value
    merged: int = 0  # duplicates of another row
    known: int = 0  # distinct texts answered from the ledger
    computed: int = 0  # distinct texts answered by the model
    failed: int = 0
    prefix_tokens: int = 0  # shared by all rows, computed once
    tokens: int = 0  # of the prompts, without the shared prefix
    padding: int = 0  # tokens
    forwards: int = 0
    seconds: float = 0.0
    # Floating-point operations for all tokens read, without padding, and the device's maximum per
    # second. None on Ray workers, and where answers are generated.
    operations: float | None = None
    matrix_rate: float | None = None
    stopped: bool = False  # by an interrupt or a cancel
    left: int = 0  # distinct texts without a result, after a stop
    ledger: str | None = None
    ledger_bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # counts of the most frequent errors

    @property
    def answered(self) -> int:
        """The number of distinct texts that have an answer or an error."""
        # `failed` also counts rows whose value is not a text.
        return min(self.texts, self.known + self.computed + self.failed)

    @property
    def rows_per_second(self) -> float:
        """The distinct texts computed per second of wall clock."""
        return self.computed / self.seconds if self.seconds else 0.0

    def add(self, done: BatchResult) -> None:
        """Add the counts of one batch."""
        self.computed += len(done.answers)
        self.tokens += done.read.tokens
        self.padding += done.padding
        self.forwards += done.forwards

    def lines(self) -> dict[str, str]:
        """Return the report as text by label, in display order."""
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
            + (f", texts by {self.model['text_engine']}" if "text_engine" in self.model else "")
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
        devices = set(json.loads(self.model.get("device_map", "{}")).values())
        return f" (spread over {', '.join(sorted(devices))})" if devices else ""

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
        """Return all fields, for the ledger."""
        return asdict(self)

    def __str__(self) -> str:
        return terms_text(f"{self.verb} → {self.output}", self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return card(f"{self.verb} → {self.output}", terms(self.lines()))
