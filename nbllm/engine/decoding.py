"""Greedy decoding of a batch that leaves rows behind as they are finished.

transformers' `generate` computes a row to the end of the longest one. Here it is stopped when half
of its rows are finished, and goes on with the others and their part of the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, StoppingCriteria, StopStringCriteria
from transformers.cache_utils import DynamicLayer

from nbllm.engine.grammar import JsonConstraint
from nbllm.engine.writing import token_written

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

__all__ = ["decode"]


def decode(
    network: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    cache: Any,
    config: GenerationConfig,
    *,
    ends: Sequence[int],
    stop: StopStringCriteria | None = None,
    constraint: JsonConstraint | None = None,
) -> list[list[int]]:
    """The tokens that a causal model writes after each row; behind a finished one lies padding.

    Args:
        ids, mask: the prompts, padded on the left, shape (row, token).
        cache: keys and values of what they start with, or None.
        ends: tokens that finish a row, as `config` has them.
        stop: finishes a row too.
    """
    drops = _can_drop_rows(network)
    if cache is None and drops:
        cache = DynamicCache(config=network.config.get_text_config(decoder=True))
    start, left = ids.shape[1], config.max_new_tokens
    written: list[list[int]] = [[] for _ in ids]
    rows = torch.arange(len(ids), device=ids.device)
    while len(rows):
        finished = _Finished(len(rows), torch.tensor(ends, device=ids.device), stop, drops=drops)
        part = copy.copy(config)
        part.max_new_tokens = left - (ids.shape[1] - start)
        part.return_dict_in_generate = True
        out: Any = network.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=part,
            logits_processor=[constraint] if constraint else [],
            stopping_criteria=[finished],
        )
        ids = out.sequences
        for row, tokens in zip(rows.tolist(), ids[:, start:].tolist(), strict=True):
            written[row] = tokens
        if ids.shape[1] - start >= left:
            break
        going = (~finished.done).nonzero()[:, 0]
        mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], dim=1)
        rows, ids, mask, cache = rows[going], ids[going], mask[going], out.past_key_values
        if len(going):
            cache.batch_select_indices(going)
        if constraint:
            constraint.keep(going.tolist())
    return written


def _can_drop_rows(network: PreTrainedModel) -> bool:
    # On MPS `generate` goes a step further than its criteria have seen.
    if network.device.type == "mps" or network._is_stateful:
        return False
    layers = DynamicCache(config=network.config.get_text_config()).layers
    return all(isinstance(layer, DynamicLayer) for layer in layers)


class _Finished(StoppingCriteria):
    """Which rows are finished; all are to stop when half of them are, if the others go on."""

    def __init__(
        self, rows: int, ends: torch.Tensor, stop: StopStringCriteria | None, *, drops: bool
    ) -> None:
        self.done = torch.zeros(rows, dtype=torch.bool, device=ends.device)
        self._ends = ends
        self._stop = stop
        self._drops = drops

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        token_written()
        self.done |= torch.isin(input_ids[:, -1], self._ends)
        if self._stop is not None:
            self.done |= self._stop(input_ids, scores)
        if self._drops and 2 * int(self.done.sum()) >= len(self.done):
            return torch.ones_like(self.done)
        return self.done
