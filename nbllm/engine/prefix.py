"""The shared prefix: its KV cache computed once, and reused by every batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from nbllm.engine.locks import FORWARD_LOCK
from nbllm.models.model import Model

__all__ = ["SharedPrefix"]


class SharedPrefix:
    """The KV cache of tokens that all prompts of a run start with.

    Args:
        model: a causal model that shares prefixes.
        ids: the tokens; there may be none.
    """

    def __init__(self, model: Model, ids: tuple[int, ...]) -> None:
        self.length: int = len(ids)
        self._model = model
        self._cache: Any = None
        if ids:
            # A hook that another thread has on the network would reach this pass too.
            with FORWARD_LOCK, torch.inference_mode():
                self._cache = model.network(
                    input_ids=torch.tensor([ids], device=model.device),
                    use_cache=True,
                    # Without a config it keeps all keys, also those outside of a window: a
                    # scorer's tokens are few, and each has its own window.
                    past_key_values=DynamicCache(),
                    logits_to_keep=1,
                ).past_key_values

    def expand(self, batch: int) -> Any:
        """Return a cache for a batch that views the prefix instead of copying it.

        The first forward concatenates its own keys to the view and so leaves the shared storage as
        it is.

        Args:
            batch: rows.

        Returns:
            The cache; None where there is no prefix.
        """
        if self._cache is None:
            return None
        # The layers' own bookkeeping (sliding windows count what they have seen) is copied
        # with them; the tensors are shared.
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        for layer in cache.layers:
            if layer.is_initialized:
                layer.keys = layer.keys.expand(batch, -1, -1, -1)
                layer.values = layer.values.expand(batch, -1, -1, -1)
        return cache

    def shifted(self, padding: Sequence[int], into: Any = None) -> Any:
        """Return a cache whose rows begin with padding, each with as much less of the prefix.

        transformers counts windows and chunks by places in the cache. So padding stands in front
        of all that a row holds, and the end of the prefix is read again with the row.

        Args:
            padding: of each row, in tokens; at most as many as the prefix has are counted.
            into: an empty cache to fill; else it is a new one that grows.

        Returns:
            The cache; None where there is no prefix, and then `into` stays empty.
        """
        if self._cache is None:
            return None
        config = self._model.network.config.get_text_config(decoder=True)
        cache = DynamicCache(config=config) if into is None else into
        shifts = [min(count, self.length) for count in padding]
        for number, layer in enumerate(self._cache.layers):
            if not layer.is_initialized:  # one that reads the keys of an earlier layer
                continue
            keys, values = (
                # (1, heads, tokens, width), shifted by zeros and cut to the same length
                torch.cat([pad(part[:, :, : part.shape[2] - n], (0, 0, n, 0)) for n in shifts])
                for part in (layer.keys, layer.values)
            )
            cache.update(keys, values, number)
        return cache
