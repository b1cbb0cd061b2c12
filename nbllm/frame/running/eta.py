"""Estimates the remaining time of a run from its remaining work and the speed so far.

The longest rows run first, so the remaining rows are faster than those already done, and rows per
second would overestimate the time. Work is therefore measured in tokens read and generated, where
a token costs more the more tokens it attends to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbllm.engine.batching import TokenBudget, first_rows
from nbllm.engine.prompt import Prompt
from nbllm.models.flops import TokenCounts, operations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.tasks.base import BoundTask, Task
    from nbllm.models.model import Model

__all__ = ["EtaEstimator"]

_SAMPLE = 48  # texts to tokenize; the lengths of the others follow from their characters
# Measured with the default model on a CPU: an operation of attention takes as long as two of a
# matrix product, and loading the weights for a decoding step as long as the step of 40 rows.
_ATTENTION = 2.0
_WEIGHT_LOADING_ROWS = {"cpu": 40.0}
_WEIGHT_LOADING_ROWS_GPU = 1000.0  # decoding on a GPU is bound by memory bandwidth
_HALF_LIFE = 60.0  # seconds after which a batch counts half: the machine's load may change
# The part of the first batch's seconds that its rows take; one-time work takes the rest. Where
# answers are generated, one-time work is negligible.
_FIRST_BATCH_SHARE = 0.75
# The expected length of a batch's answers relative to its length so far, once above the mean.
_OVERDUE_FACTOR = 1.1


class EtaEstimator:
    """Tracks the work of a run, and estimates its progress and remaining seconds.

    Args:
        tokens: The number of tokens of each text.
        rows: Returns how many texts of a given number of tokens make a batch.
        reading: Returns the work to read a batch, in any unit, given its number of rows and the
            tokens per row.
        writing: Returns the work to generate one more token for each row of such a batch; 0 where
            nothing is generated.
        max_new_tokens: The maximal number of generated tokens per row.
        first_batch_share: The part of the first batch's seconds that its rows take.
    """

    def __init__(
        self,
        tokens: Sequence[float] | NDArray[np.float64],
        rows: Callable[[int], int],
        reading: Callable[[int, float], float],
        writing: Callable[[int, float], float] = lambda rows, tokens: 0.0,
        *,
        max_new_tokens: int = 0,
        first_batch_share: float = 1.0,
    ) -> None:
        self._done = 0  # texts
        self._max_new_tokens = max_new_tokens
        self._written = 0  # tokens per row of the current batch
        self._lengths: list[int] = []  # tokens of the longest answer of each finished batch
        self._first_batch_share = first_batch_share
        self._since = time.monotonic()  # the start of the current batch
        self._first: tuple[float, float] | None = None  # work and seconds of the first batch
        self._work = self._seconds = self._shown = 0.0  # of the later batches
        longest_first = np.sort(np.asarray(tokens, dtype=float))[::-1]
        ends, reads, writes = [0], [0.0], [0.0]
        while ends[-1] < len(longest_first):
            length = longest_first[ends[-1]]
            count = min(rows(int(length)), len(longest_first) - ends[-1])
            if not ends[-1]:
                count = first_rows(count, len(longest_first))
            ends.append(ends[-1] + count)
            reads.append(reads[-1] + reading(count, float(length)))
            writes.append(writes[-1] + writing(count, float(length)))
        self._ends, self._reads, self._writes = np.array(ends), np.array(reads), np.array(writes)

    @classmethod
    def for_run(
        cls, texts: Sequence[tuple[str, ...]], bound: BoundTask, task: Task, model: Model
    ) -> EtaEstimator:
        """Return the estimator for a run that is about to begin.

        Args:
            texts: The texts of the run, one string per field of the template.
            bound: The task, bound to this model.
            task: The task.
            model: The model.
        """
        characters = np.array([sum(map(len, text)) for text in texts], dtype=float)
        order = np.argsort(characters)
        sample = order[np.unique(np.linspace(0, len(order) - 1, _SAMPLE).astype(int))]
        prompts = bound.encode([texts[n] for n in sample], truncate=True)
        measured = [
            (float(characters[n]), len(prompt.ids) - prompt.prefix_length)
            for n, prompt in zip(sample, prompts, strict=True)
            if isinstance(prompt, Prompt)
        ]
        answer_tokens = task.answer_tokens(model)
        budget = TokenBudget.of(model, decodes=task.decodes, label_tokens=bound.label_tokens)
        shared = bound.prefix_tokens
        per_token = operations(model.network, TokenCounts(tokens=1))
        per_attended = _ATTENTION * operations(model.network, TokenCounts(attended=1)) / per_token
        loading = _WEIGHT_LOADING_ROWS.get(model.device.type, _WEIGHT_LOADING_ROWS_GPU)

        def reading(count: int, length: float) -> float:
            return count * length * (1 + per_attended * (length + shared))

        def writing(count: int, length: float) -> float:
            if not task.decodes:
                return 0.0
            return loading + count * (1 + per_attended * (length + shared))

        return cls(
            _tokens(characters, measured),
            lambda length: budget.rows(length + answer_tokens, shared),
            reading,
            writing,
            max_new_tokens=answer_tokens if task.decodes else 0,
            first_batch_share=1.0 if task.decodes else _FIRST_BATCH_SHARE,
        )

    def add_token(self) -> None:
        """Count one more generated token for each row of the current batch."""
        self._written = min(self._written + 1, self._max_new_tokens)

    def advance(self, texts: int, *, computed: bool = True) -> float:
        """Count a finished batch and return the seconds that it took.

        Args:
            texts: The number of texts of the batch.
            computed: Whether the model computed their answers.
        """
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        # Ray workers do not report single tokens.
        length, self._written = self._written or self._mean_length, 0
        read, wrote = self._between(self._done, self._done + texts)
        self._done += texts
        if not computed:
            return seconds
        if self._max_new_tokens:
            self._lengths.append(round(length))
        work = read + length * wrote
        # The first batch includes one-time work, so it counts only while there is no other.
        if self._first is None:
            self._first = work, self._first_batch_share * seconds
        else:
            decay = 0.5 ** (seconds / _HALF_LIFE)
            self._work, self._seconds = self._work * decay + work, self._seconds * decay + seconds
        return seconds

    @property
    def share(self) -> float:
        """The part of the work that is done, from 0 to 1; it never decreases."""
        left, total = self._left(), self._reads[-1] + self._mean_length * self._writes[-1]
        self._shown = max(self._shown, 1.0 - min(1.0, left / total) if total else 1.0)
        return self._shown

    @property
    def seconds_left(self) -> float | None:
        """The remaining seconds; None while the speed is unknown."""
        speed = self._speed()
        return None if speed is None else self._left() / speed

    @property
    def _mean_length(self) -> float:
        """The mean length of the batches so far, in generated tokens; at first the maximum."""
        return float(np.mean(self._lengths)) if self._lengths else float(self._max_new_tokens)

    def _speed(self) -> float | None:
        """Return the work per second; None while unknown."""
        work, seconds = (self._work, self._seconds) if self._seconds else self._first or (0, 0)
        if self._written:
            read, write = self._current()
            work += read + self._written * write
            seconds += time.monotonic() - self._since
        return work / seconds if work and seconds else None

    def _left(self) -> float:
        """Return the remaining work."""
        read, write = self._current()
        later_read, later_write = self._between(self._done + self._current_texts, self._ends[-1])
        return self._left_in_batch(read, write) + later_read + self._mean_length * later_write

    def _left_in_batch(self, read: float, write: float) -> float:
        """Return the remaining work of the current batch."""
        if self._written:
            overdue = min(_OVERDUE_FACTOR * self._written, self._max_new_tokens)
            return (max(self._mean_length, overdue) - self._written) * write
        speed = self._speed()
        if not read or speed is None:
            return read + self._mean_length * write
        # A forward pass reports no progress. Infer it from the time, approaching 1 when overdue.
        elapsed = speed * (time.monotonic() - self._since) / read
        done = elapsed if elapsed <= 0.5 else 1 - 0.25 / elapsed
        return (1 - done) * read + self._mean_length * write

    @property
    def _current_texts(self) -> int:
        ends = self._ends[np.searchsorted(self._ends, self._done, side="right") :][:1]
        return int(ends[0]) - self._done if len(ends) else 0

    def _current(self) -> tuple[float, float]:
        return self._between(self._done, self._done + self._current_texts)

    def _between(self, first: float, last: float) -> tuple[float, float]:
        """Return the work to read a range of texts, and to generate one more token for each."""
        read, write = (
            np.interp(last, self._ends, works) - np.interp(first, self._ends, works)
            for works in (self._reads, self._writes)
        )
        return float(read), float(write)


def _tokens(
    characters: NDArray[np.float64], measured: Sequence[tuple[float, int]]
) -> NDArray[np.float64]:
    """Return the tokens of texts by linear regression on their characters.

    Args:
        characters: The number of characters of each text.
        measured: Pairs of characters and tokens of some texts.
    """
    if len({count for count, _ in measured}) < 2:
        mean = sum(tokens for _, tokens in measured) / len(measured) if measured else 1.0
        return np.full(len(characters), mean)
    counts, tokens = np.array(measured, dtype=float).T
    slope, start = np.polyfit(counts, tokens, 1)
    fitted: NDArray[np.float64] = np.clip(start + slope * characters, tokens.min(), tokens.max())
    return fitted
