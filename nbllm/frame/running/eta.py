"""How long a run will take: by the work that is left, and the speed of the batches so far.

Rows are asked the longest first, so at any time those that are left are quicker than those that
are done, and rows a second would promise too little. Work is counted in tokens read and written,
and a token counts for more the more tokens it looks at.
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

__all__ = ["Forecast"]

_SAMPLE = 48  # texts whose tokens are counted; of the others, characters
# Measured with the default model on a processor: attention takes twice what its operations would
# in a product of matrices; a step of writing has a part that all rows share, the reading of the
# weights, as long as so many rows take.
_ATTENTION = 2.0
_SHARED_ROWS = {"cpu": 40.0}
_SHARED_ROWS_ELSEWHERE = 1000.0  # an accelerator reads at once what it writes one by one
_MEMORY = 60.0  # seconds after which a batch counts half: the machine may have other work too
# How much of the first batch's seconds are for its rows where it is only read: what is done once
# shows there. Where each row is written token by token, it does not.
_FIRST_READ = 0.75
# How long a batch is taken to write, of what it has written, once that is more than usual.
_LONGER = 1.1


class Forecast:
    """The work of a run's texts, and how much of it is done.

    Args:
        tokens: of each text that is to be read, as far as known.
        rows: how many texts of so many tokens make a batch.
        reading: the work of a batch of so many rows of so many tokens, in any unit.
        writing: that of one token more for each row of such a batch; 0 where nothing is written.
        most: tokens that are written at most.
        first: how much of the first batch's seconds are for its rows.
    """

    def __init__(
        self,
        tokens: Sequence[float] | NDArray[np.float64],
        rows: Callable[[int], int],
        reading: Callable[[int, float], float],
        writing: Callable[[int, float], float] = lambda rows, tokens: 0.0,
        *,
        most: int = 0,
        first: float = 1.0,
    ) -> None:
        self._done = 0  # texts
        self._most = most
        self._written = 0  # tokens a row of the batch at work
        self._lengths: list[int] = []  # of the longest answer of each batch that is done
        self._share_of_first = first
        self._since = time.monotonic()
        self._first: tuple[float, float] | None = None
        self._work = self._seconds = self._shown = 0.0
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
    def of(
        cls, texts: Sequence[tuple[str, ...]], bound: BoundTask, task: Task, model: Model
    ) -> Forecast:
        """That of texts that a task is about to be asked of.

        Args:
            bound: the task, ready on this model.
        """
        characters = np.array([sum(map(len, text)) for text in texts], dtype=float)
        order = np.argsort(characters)
        some = order[np.unique(np.linspace(0, len(order) - 1, _SAMPLE).astype(int))]
        prompts = bound.encode([texts[n] for n in some], truncate=True)
        known = [
            (float(characters[n]), len(prompt.ids) - prompt.prefix_length)
            for n, prompt in zip(some, prompts, strict=True)
            if isinstance(prompt, Prompt)
        ]
        most = task.answer_tokens(model)
        budget = TokenBudget.of(model, decodes=task.decodes, label_tokens=bound.label_tokens)
        shared = bound.prefix_tokens
        a_token = operations(model.network, TokenCounts(tokens=1))
        a_look = _ATTENTION * operations(model.network, TokenCounts(attended=1)) / a_token
        step = _SHARED_ROWS.get(model.device.type, _SHARED_ROWS_ELSEWHERE)

        def reading(count: int, length: float) -> float:
            return count * length * (1 + a_look * (length + shared))

        def writing(count: int, length: float) -> float:
            return step + count * (1 + a_look * (length + shared)) if task.decodes else 0.0

        return cls(
            _tokens(characters, known),
            lambda length: budget.rows(length + most, shared),
            reading,
            writing,
            most=most if task.decodes else 0,
            first=1.0 if task.decodes else _FIRST_READ,
        )

    def add_token(self) -> None:
        """Each row of the batch at work has one token more."""
        self._written = min(self._written + 1, self._most)

    def advance(self, texts: int, *, computed: bool = True) -> float:
        """So many texts more are done; the seconds that they took.

        Args:
            computed: whether the model was asked for them.
        """
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        # Where nobody tells of tokens, as many are taken to be written as can be.
        length, self._written = self._written or self._usual, 0
        read, wrote = self._between(self._done, self._done + texts)
        self._done += texts
        if not computed:
            return seconds
        if self._most:
            self._lengths.append(round(length))
        work = read + length * wrote
        # The first batch also pays for what is done once. It counts while there is no other.
        if self._first is None:
            self._first = work, self._share_of_first * seconds
        else:
            kept = 0.5 ** (seconds / _MEMORY)
            self._work, self._seconds = self._work * kept + work, self._seconds * kept + seconds
        return seconds

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1; it never falls."""
        left, whole = self._left(), self._reads[-1] + self._usual * self._writes[-1]
        self._shown = max(self._shown, 1.0 - min(1.0, left / whole) if whole else 1.0)
        return self._shown

    @property
    def seconds_left(self) -> float | None:
        """Until all is done; None while nothing is known of the speed."""
        speed = self._speed()
        return None if speed is None else self._left() / speed

    @property
    def _usual(self) -> float:
        """Tokens that a batch writes: as many as those before it, or all that it may."""
        return float(np.mean(self._lengths)) if self._lengths else float(self._most)

    def _speed(self) -> float | None:
        """Work a second."""
        work, seconds = (self._work, self._seconds) if self._seconds else self._first or (0, 0)
        if self._written:  # what the batch at work has done is known too
            read, write = self._at_work()
            work += read + self._written * write
            seconds += time.monotonic() - self._since
        return work / seconds if work and seconds else None

    def _left(self) -> float:
        """Work that is to be done."""
        read, write = self._at_work()
        later_read, later_write = self._between(self._done + self._texts_at_work, self._ends[-1])
        return self._left_at_work(read, write) + later_read + self._usual * later_write

    def _left_at_work(self, read: float, write: float) -> float:
        """That of the batch at work."""
        if self._written:
            length = max(self._usual, min(_LONGER * self._written, self._most))
            return (length - self._written) * write
        speed = self._speed()
        if not read or speed is None:
            return read + self._usual * write
        # Of what is only read nobody tells how far it is: time does, and once it is overdue, less
        # and less of it.
        passed = speed * (time.monotonic() - self._since) / read
        over = passed if passed <= 0.5 else 1 - 0.25 / passed
        return (1 - over) * read + self._usual * write

    @property
    def _texts_at_work(self) -> int:
        ends = self._ends[np.searchsorted(self._ends, self._done, side="right") :][:1]
        return int(ends[0]) - self._done if len(ends) else 0

    def _at_work(self) -> tuple[float, float]:
        return self._between(self._done, self._done + self._texts_at_work)

    def _between(self, first: float, last: float) -> tuple[float, float]:
        """The work of reading some texts, and of one token more for each."""
        read, write = (
            np.interp(last, self._ends, works) - np.interp(first, self._ends, works)
            for works in (self._reads, self._writes)
        )
        return float(read), float(write)


def _tokens(
    characters: NDArray[np.float64], known: Sequence[tuple[float, int]]
) -> NDArray[np.float64]:
    """Tokens of texts by their characters: along a line through those that are known."""
    if len({count for count, _ in known}) < 2:
        mean = sum(tokens for _, tokens in known) / len(known) if known else 1.0
        return np.full(len(characters), mean)
    counts, tokens = np.array(known, dtype=float).T
    slope, start = np.polyfit(counts, tokens, 1)
    read: NDArray[np.float64] = np.clip(start + slope * characters, tokens.min(), tokens.max())
    return read
