"""Greedy decoding of a batch that drops rows as they finish.

transformers' `generate` computes a row to the end of the longest one. Here it is stopped when half
of its rows are finished, and goes on with the others and their part of the cache.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, StoppingCriteria, StopStringCriteria
from transformers.cache_utils import DynamicLayer

from nbllm.engine.compiled import Batch, CompiledSteps
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.structured.constraint import Constraint
from nbllm.engine.token_events import token_generated

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from nbllm.models.model import Model

__all__ = ["Decoder"]

# Seconds of writing after which compiled steps are tried: about what compiling them takes, so that
# a run that ends soon afterwards took twice its time at most.
_PATIENCE = 60.0


class Decoder:
    """Generates text after the prompts of a run, batch by batch.

    On a GPU a step of few rows is shorter than the host takes to launch its kernels one by one.
    Steps that are compiled into one graph are tried once a run has generated for a minute, and
    used from then on where they were faster.

    Args:
        model: a causal model that shares prefixes.
        prefix: the tokens that all prompts start with.
        config: how the texts are generated.
        eos_token_ids: tokens that finish a row, as `config` has them.
        stop: finishes a row too.
    """

    def __init__(
        self,
        model: Model,
        prefix: SharedPrefix,
        config: GenerationConfig,
        *,
        eos_token_ids: Sequence[int],
        stop: StopStringCriteria | None = None,
    ) -> None:
        self._model = model
        self._prefix = prefix
        self._config = config
        self._eos_token_ids = eos_token_ids
        self._stop = stop
        self._text_config: Any = model.network.config.get_text_config(decoder=True)
        self._drops = self._can_drop_rows()
        self._spent = 0.0  # seconds in steps that are not compiled
        self._untried = CompiledSteps.suit(model)
        self._compiled: CompiledSteps | None = None

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor, constraint: Constraint | None = None
    ) -> list[list[int]]:
        """Return the generated tokens of each row; after a finished one there is padding.

        Args:
            ids: the prompts, padded on the left, shape (row, token), in the host's memory.
            mask: the same shape: 0 for padding.
            constraint: what each row has to follow.
        """
        batch = Batch.of(self._model, ids, mask)
        if self._untried and self._spent > _PATIENCE:
            self._untried = False
            self._compiled = CompiledSteps.if_faster(self._model, self._prefix, self._config, batch)
        if self._compiled is not None and self._compiled.take(batch):
            finished = self._finished(self._compiled.rows, drops=False)
            finished.done[len(batch) :] = True
            return self._compiled.write(batch, finished, constraint)
        start = time.perf_counter()
        written = self._write(batch, constraint)
        self._spent += time.perf_counter() - start
        return written

    def parts(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        """Cut a batch where steps were compiled for fewer rows.

        Args:
            rows: the batch, as indices.

        Yields:
            The parts, in order.
        """
        most = len(rows) if self._compiled is None else self._compiled.rows
        for start in range(0, len(rows), most):
            yield rows[start : start + most]

    def _write(self, batch: Batch, constraint: Constraint | None) -> list[list[int]]:
        cache = self._prefix.shifted(batch.padding)
        if cache is None and self._drops:
            cache = DynamicCache(config=self._text_config)
        ids, mask = batch.ids, batch.mask
        start, left = ids.shape[1], self._config.max_new_tokens
        written: list[list[int]] = [[] for _ in ids]
        rows = torch.arange(len(ids), device=ids.device)
        while len(rows):
            finished = self._finished(len(rows), drops=self._drops)
            part = copy.copy(self._config)
            part.max_new_tokens = left - (ids.shape[1] - start)
            part.return_dict_in_generate = True
            out: Any = self._model.network.generate(  # type: ignore[operator]
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
            # In the host's memory: layers of the cache may lie on several devices.
            going = (~finished.done).nonzero()[:, 0].cpu()
            mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], dim=1)
            rows, ids, mask, cache = rows[going], ids[going], mask[going], out.past_key_values
            if len(going):
                cache.batch_select_indices(going)
            if constraint:
                constraint.select(rows.tolist())
        return written

    def _finished(self, rows: int, *, drops: bool) -> _Finished:
        ids = torch.tensor(self._eos_token_ids, device=self._model.device)
        return _Finished(rows, ids, self._stop, drops=drops)

    def _can_drop_rows(self) -> bool:
        network = self._model.network
        # On MPS `generate` goes a step further than its criteria have seen.
        if self._model.device.type == "mps" or network._is_stateful:
            return False
        layers = DynamicCache(config=self._text_config).layers
        return all(isinstance(layer, DynamicLayer) for layer in layers)


class _Finished(StoppingCriteria):
    """Tracks which rows are finished; stops all when half of them are, if the others can go on.

    Nothing here asks the device for a number, so that the host may launch the next step.
    """

    def __init__(
        self,
        rows: int,
        eos_token_ids: torch.Tensor,
        stop: StopStringCriteria | None,
        *,
        drops: bool,
    ) -> None:
        self.done = torch.zeros(rows, dtype=torch.bool, device=eos_token_ids.device)
        self._eos_token_ids = eos_token_ids
        self._stop = stop
        self._drops = drops

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        token_generated()
        self.done |= torch.isin(input_ids[:, -1], self._eos_token_ids)
        if self._stop is not None:
            self.done |= self._stop(input_ids, scores)
        if not self._drops:
            return self.done
        return self.done | (2 * self.done.sum() >= len(self.done))
