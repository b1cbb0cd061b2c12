"""How long a run will take: by the work that is left, and the speed of the batches so far.

Rows are asked the longest first, so at any time those that are left are quicker than those that
are done, and rows a second would promise too little. Work is counted in tokens read, and a token
counts for more the more tokens it looks at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import Prompt
from nbllm.models.work import Read, operations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.kinds.task import Asked, Task
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
_MOST_OF_A_BATCH = 0.95  # that is taken to be done while it is not


class Forecast:
    """The work of a run's texts, and how much of it is done.

    Args:
        tokens: of each text that is to be read, as far as known.
        rows: how many texts of so many tokens make a batch.
        work: of a batch of so many rows of so many tokens, in any unit.
        first: how much of the first batch's seconds are for its rows.
    """

    def __init__(
        self,
        tokens: Sequence[float] | NDArray[np.float64],
        rows: Callable[[int], int],
        work: Callable[[int, float], float],
        *,
        first: float = 1.0,
    ) -> None:
        self._done = 0  # texts
        self._share_of_first = first
        self._since = time.monotonic()
        self._first: tuple[float, float] | None = None
        self._work = self._seconds = 0.0
        longest_first = np.sort(np.asarray(tokens, dtype=float))[::-1]
        ends, works = [0], [0.0]
        while ends[-1] < len(longest_first):
            length = longest_first[ends[-1]]
            count = min(rows(int(length)), len(longest_first) - ends[-1])
            ends.append(ends[-1] + count)
            works.append(works[-1] + work(count, float(length)))
        self._ends, self._works = np.array(ends), np.array(works)

    @classmethod
    def of(
        cls, texts: Sequence[tuple[str, ...]], asked: Asked, task: Task, model: Model
    ) -> Forecast:
        """That of texts that a task is about to be asked of.

        Args:
            asked: the task, ready on this model.
        """
        characters = np.array([sum(map(len, text)) for text in texts], dtype=float)
        order = np.argsort(characters)
        some = order[np.unique(np.linspace(0, len(order) - 1, _SAMPLE).astype(int))]
        prompts = asked.encode([texts[n] for n in some], truncate=True)
        known = [
            (characters[n], len(prompt.ids) - prompt.prefix_length)
            for n, prompt in zip(some, prompts, strict=True)
            if isinstance(prompt, Prompt)
        ]
        budget, written = TokenBudget.of(model, decodes=task.decodes), task.answer_tokens(model)
        shared = asked.prefix_tokens
        a_token = operations(model.network, Read(tokens=1))
        a_look = _ATTENTION * operations(model.network, Read(attended=1)) / a_token

        step = _SHARED_ROWS.get(model.device.type, _SHARED_ROWS_ELSEWHERE)

        def work(count: int, length: float) -> float:
            reading = count * length * (1 + a_look * (length + shared))
            if not task.decodes:
                return reading
            return reading + written * (step + count * (1 + a_look * (length + shared)))

        return cls(
            _tokens(characters, known),
            lambda length: budget.rows(length + written, shared),
            work,
            first=1.0 if task.decodes else _FIRST_READ,
        )

    def advance(self, texts: int, *, computed: bool = True) -> float:
        """So many texts more are done; the seconds that they took.

        Args:
            computed: whether the model was asked for them.
        """
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        work = self._until(self._done + texts) - self._until(self._done)
        self._done += texts
        if not computed:
            return seconds
        # The first batch also pays for what is done once. It counts while there is no other.
        if self._first is None:
            self._first = work, self._share_of_first * seconds
        else:
            kept = 0.5 ** (seconds / _MEMORY)
            self._work, self._seconds = self._work * kept + work, self._seconds * kept + seconds
        return seconds

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1, with what is thought of the batch at work."""
        return min(1.0, self._reached() / self._works[-1]) if self._works[-1] else 1.0

    @property
    def seconds_left(self) -> float | None:
        """Until all is done; None before the first batch is."""
        speed = self._speed()
        return None if speed is None else max(0.0, self._works[-1] - self._reached()) / speed

    def _speed(self) -> float | None:
        """Work a second."""
        work, seconds = (self._work, self._seconds) if self._seconds else self._first or (0, 0)
        return work / seconds if work and seconds else None

    def _reached(self) -> float:
        done = self._until(self._done)
        at_work = self._works[np.searchsorted(self._ends, self._done, side="right") :][:1]
        speed = self._speed()
        if not len(at_work) or speed is None:
            return done
        passed = speed * (time.monotonic() - self._since)
        return done + float(min(passed, _MOST_OF_A_BATCH * max(0.0, at_work[0] - done)))

    def _until(self, texts: int) -> float:
        return float(np.interp(texts, self._ends, self._works))


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
