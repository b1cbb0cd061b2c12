"""Greedy decoding with continuous batching: as a row is finished, another takes its place.

Prompts are read in the same passes in which the other rows get their next token (Orca,
https://www.usenix.org/conference/osdi22/presentation/yu), as many as fit in a number of tokens, so
that the matrix products are always of a size that the processor computes at its full rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from nbllm.engine.cpu.ragged_attention import RaggedNetwork, Step
from nbllm.engine.token_events import token_generated

if TYPE_CHECKING:
    from transformers import GenerationConfig, StopStringCriteria

    from nbllm.engine.structured.constraint import Constraint

__all__ = ["ContinuousDecoder"]

_TOKENS = 2048  # of prompts, read in one pass
_ROWS = 64  # generated at a time
_ROUND = 32  # keys per row are a multiple of it, so that products have whole lanes


class ContinuousDecoder:
    """Generates text after prompts, as `generate` does for each of them alone.

    Args:
        network: Reads the prompts, and holds the tokens that all of them start with.
        config: Has the most tokens of a text, read for each batch, and the token that stands before
            a row whose stop string is looked for.
        eos_token_ids: Tokens that finish a row.
        stop: Finishes a row too.
    """

    def __init__(
        self,
        network: RaggedNetwork,
        config: GenerationConfig,
        *,
        eos_token_ids: Sequence[int],
        stop: StopStringCriteria | None = None,
    ) -> None:
        self._network = network
        self._config = config
        self._eos_token_ids = frozenset(eos_token_ids)
        self._stop = stop

    def __call__(
        self, prompts: Sequence[Sequence[int]], constraint: Constraint | None = None
    ) -> list[list[int]]:
        """Return the generated tokens of each prompt.

        Args:
            prompts: The tokens of each, which start with those of the prefix and have more.
            constraint: What each row has to follow.
        """
        own = [list(prompt[self._network.length :]) for prompt in prompts]
        written: list[list[int]] = [[] for _ in own]
        waiting = deque(sorted(range(len(own)), key=lambda row: -len(own[row])))
        slots = min(_ROWS, len(own))
        rooms = [len(own[row]) + self._config.max_new_tokens for row in list(waiting)[:slots]]
        self._network.reserve([-(-room // _ROUND) * _ROUND for room in rooms])
        try:
            with torch.inference_mode():
                self._write(own, waiting, slots, written, constraint)
        finally:
            self._network.reserve([])
        return written

    def _write(
        self,
        own: list[list[int]],
        waiting: deque[int],
        slots: int,
        written: list[list[int]],
        constraint: Constraint | None,
    ) -> None:
        active: list[int] = []  # the row of each slot
        while waiting or active:
            ids = [written[row][-1] for row in active]
            step = Step([len(own[row]) + len(written[row]) - 1 for row in active], [])
            while waiting and len(active) < slots:
                count = len(own[waiting[0]])
                if step.prompts and sum(step.prompts) + count > _TOKENS:
                    break
                active.append(waiting.popleft())
                step.prompts.append(count)
                ids += own[active[-1]]
            logits = self._network(ids, step)
            if constraint is not None:
                constraint.select(active)
                logits = constraint(torch.empty(0), logits)
            for row, token in zip(active, logits.argmax(dim=-1).tolist(), strict=True):
                written[row].append(token)
            token_generated()
            self._remove_finished(active, own, written)

    def _remove_finished(
        self, active: list[int], own: list[list[int]], written: list[list[int]]
    ) -> None:
        finished = self._finished(active, own, written)
        for slot in range(len(active) - 1, -1, -1):
            if finished[slot]:
                row = active.pop()
                if slot < len(active):
                    active[slot] = row
                    self._network.move(len(active), slot)

    def _finished(
        self, active: list[int], own: list[list[int]], written: list[list[int]]
    ) -> list[bool]:
        finished = [
            written[row][-1] in self._eos_token_ids
            or len(written[row]) >= self._config.max_new_tokens
            for row in active
        ]
        if self._stop is not None:
            ends = self._stop.maximum_token_len
            last = [(own[row] + written[row])[-ends:] for row in active]
            padded = [[self._config.pad_token_id] * (ends - len(ids)) + ids for ids in last]
            ids: Any = torch.tensor(padded)
            stopped = self._stop(ids, None).tolist()
            finished = [a or b for a, b in zip(finished, stopped, strict=True)]
        return finished
