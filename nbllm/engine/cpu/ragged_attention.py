"""Attention of rows of any length in one forward pass, without padding.

A pass reads the new tokens of all rows as one sequence: the next token of each row that is being
generated, then whole prompts of rows that start. What is computed per token, the matrix products
with the weights, takes all of them together; attention is computed here, row by row for prompts,
and for all others in one product. Their keys and values are written into storage that is never
copied (torch's sdpa on a processor takes 20 times as long for one query on 700 keys).

Keys and values of a shared prefix are held once (Hydragen, https://arxiv.org/abs/2402.05099).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from nbllm.engine.cpu.twin import attention_calls, can_have_twin, register, twin

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nbllm.models.model import Model

__all__ = ["RaggedNetwork", "Step"]

_NAME = "nbllm_ragged"
# Queries of a prompt whose scores are computed at a time: a row of scores of all keys is then
# still in the processor's cache when its softmax is computed.
_BLOCK = 64
# Rows whose keys lie in one tensor, each in as much room as the longest of them needs.
GROUP = 8


@dataclass
class Step:
    """The tokens of one forward pass.

    Attributes:
        lengths: Of each row that gets its next token, in the order of slots, the tokens that it
            holds before that one, without the prefix.
        prompts: The tokens of each prompt that is read, which takes the slots after those.
    """

    lengths: list[int]
    prompts: list[int]
    # Made once for all layers, per group: minus infinity where a row holds no key, (rows, 1, 1,
    # keys), and the place of each row's new key.
    masks: list[torch.Tensor] = field(default_factory=list)
    places: list[torch.Tensor] = field(default_factory=list)


class RaggedNetwork:
    """A network that reads several rows in one pass, each at its own length.

    Args:
        network: The twin of a network.
        layers: Its attention modules, with the keys and values of a prefix, (key heads, prefix,
            width), which may be empty.
        length: Tokens of the prefix.
    """

    def __init__(
        self, network: PreTrainedModel, layers: Sequence[tuple[Any, Any, Any]], length: int
    ) -> None:
        self.network = network
        self.length = length
        self.layers: list[_Layer] = []
        self._capacities: list[int] = []  # keys per row, of each group
        for module, key, value in layers:
            module.ragged = _Layer(key, value)
            self.layers.append(module.ragged)

    @classmethod
    def of(cls, model: Model, prefix_ids: Sequence[int]) -> RaggedNetwork | None:
        """Compute the keys and values of a prefix, in one forward pass.

        Args:
            model: A causal model.
            prefix_ids: The tokens that all rows start with; there may be none.

        Returns:
            The network; None where its attention cannot be replaced, see `SharedPrefixAttention`,
            or where what is computed for a token depends on other rows.
        """
        if not can_have_twin(model) or _depends_on_longest(model):
            return None
        network = twin(model.network, _NAME)
        calls = attention_calls(network, prefix_ids or [0, 1])
        if calls is None:
            return None
        count = len(prefix_ids)
        layers = [(call.module, call.key[0, :, :count], call.value[0, :, :count]) for call in calls]
        return cls(network, layers, count)

    def reserve(self, lengths: Sequence[int]) -> None:
        """Make room for keys and values.

        Args:
            lengths: The most tokens of the row in each slot, without the prefix, in falling order.
        """
        self._capacities = list(lengths[::GROUP])
        counts = [len(lengths[start : start + GROUP]) for start in range(0, len(lengths), GROUP)]
        for layer in self.layers:
            layer.reserve(list(zip(counts, self._capacities, strict=True)))

    def move(self, source: int, target: int) -> None:
        """Copy the keys and values of a slot to one before it."""
        for layer in self.layers:
            for groups, dimension in ((layer.keys, 1), (layer.values, 2)):
                held = groups[source // GROUP][source % GROUP]
                place = groups[target // GROUP][target % GROUP]
                place.narrow(dimension, 0, held.shape[dimension]).copy_(held)

    def __call__(self, ids: Sequence[int], step: Step) -> torch.Tensor:
        """Return the logits after the last token of each row, (rows, vocabulary), in float32.

        Args:
            ids: The tokens: one per row that is generated, then those of each prompt.
            step: Which rows they belong to.
        """
        rows = len(step.lengths)
        positions = [self.length + length for length in step.lengths]
        for count in step.prompts:
            positions += range(self.length, self.length + count)
        last = [*range(rows), *(rows - 1 + end for end in accumulate(step.prompts))]
        for start in range(0, rows, GROUP):
            lengths = torch.tensor(step.lengths[start : start + GROUP])
            hidden = torch.arange(self._capacities[start // GROUP]) > lengths[:, None]
            mask = torch.zeros(hidden.shape, dtype=self.layers[0].prefix_key.dtype)
            step.masks.append(mask.masked_fill_(hidden, -torch.inf)[:, None, None])
            step.places.append(lengths)
        for layer in self.layers:
            layer.step = step
        logits: torch.Tensor = self.network(
            input_ids=torch.tensor([list(ids)]),
            position_ids=torch.tensor([positions]),
            use_cache=False,
            logits_to_keep=torch.tensor(last),
        ).logits
        return logits[0].float()


def _depends_on_longest(model: Model) -> bool:
    """Return whether the rotation of a token depends on the longest row of a pass."""
    parameters = getattr(model.network.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters, *(each for each in parameters.values() if isinstance(each, dict))]
    return any(each.get("rope_type") in ("dynamic", "longrope") for each in kinds)


class _Layer:
    """The keys of one layer, (slots, key heads, capacity, width), and its values.

    Values are stored as (slots, key heads, width, capacity), the way in which a product with few
    rows of weights reads them fastest.
    """

    step: Step

    def __init__(self, prefix_key: torch.Tensor, prefix_value: torch.Tensor) -> None:
        self.prefix_key = prefix_key
        self.prefix_value = prefix_value
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def reserve(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Make room for groups of rows, each of so many rows and keys per row."""
        # Zeros: a weight of 0 times what memory happens to hold may be no number.
        key, value = self.prefix_key, self.prefix_value
        self.keys = [key.new_zeros(n, key.shape[0], room, key.shape[2]) for n, room in sizes]
        self.values = [value.new_zeros(n, *value.shape[::2], room) for n, room in sizes]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Return attention of the step's tokens: (tokens, heads, width).

        Args:
            query: (heads, tokens, width).
            key: (key heads, tokens, width); each head serves as many query heads in turn.
            value: As `key`.
            scale: The factor of the scores.
        """
        step = self.step
        rows = len(step.lengths)
        result = query.new_empty(query.shape[1], query.shape[0], value.shape[2])
        for group in range(len(step.places)):
            part = slice(group * GROUP, min(rows, (group + 1) * GROUP))
            result[part] = self._next_tokens(
                group, query[:, part], key[:, part], value[:, part], scale
            )
        start = rows
        for slot, count in enumerate(step.prompts, rows):
            part = slice(start, start + count)
            self.keys[slot // GROUP][slot % GROUP, :, :count] = key[:, part]
            held = self.values[slot // GROUP][slot % GROUP, :, :, :count]
            held.copy_(value[:, part].transpose(1, 2))
            result[part] = self._prompt(query[:, part], key[:, part], value[:, part], scale)
            start += count
        return result

    def _next_tokens(
        self,
        group: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Attention of the rows of a group, one query each, to their own tokens and the prefix.

        Returns:
            (rows, heads, width)
        """
        heads, rows, width = query.shape
        key_heads, length = self.prefix_key.shape[:2]
        keys, values = self.keys[group][:rows], self.values[group][:rows]
        index = torch.arange(rows), self.step.places[group]
        keys[index[0], :, index[1]] = key.transpose(0, 1)
        values[index[0], :, :, index[1]] = value.transpose(0, 1)
        # (key heads, rows, queries of a key head, width)
        query = query.view(key_heads, -1, rows, width).transpose(1, 2) * scale
        scores = query.transpose(0, 1) @ keys.transpose(2, 3) + self.step.masks[group]
        if length:
            shared = query.flatten(1, 2) @ self.prefix_key.transpose(1, 2)
            shared = shared.view(key_heads, rows, -1, length).transpose(0, 1)
            scores = torch.cat([scores, shared], dim=-1)
        weights = scores.softmax(-1)  # which sums up in float32, whatever the dtype
        result = weights[..., : keys.shape[2]] @ values.transpose(2, 3)
        if length:
            shared = weights[..., keys.shape[2] :].transpose(0, 1).flatten(1, 2)
            shared = shared @ self.prefix_value
            result += shared.view(key_heads, rows, -1, values.shape[2]).transpose(0, 1)
        return result.reshape(rows, heads, -1)

    def _prompt(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Causal attention of a row to the prefix and itself: (tokens, heads, width)."""
        heads, tokens, width = query.shape
        if self.prefix_key.shape[1]:
            key = torch.cat([self.prefix_key, key], dim=1)
            value = torch.cat([self.prefix_value, value], dim=1)
        before = key.shape[1] - tokens
        query = query.view(key.shape[0], -1, tokens, width)
        result = query.new_empty(tokens, heads, value.shape[2])
        later = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool).triu(1)
        for start in range(0, tokens, _BLOCK):
            stop = min(tokens, start + _BLOCK)
            count = stop - start
            block = query[:, :, start:stop].flatten(1, 2)
            keys = key[:, : before + stop]
            scores = torch.baddbmm(
                block.new_zeros(1), block, keys.transpose(1, 2), beta=0, alpha=scale
            )
            own = scores.view(*query.shape[:2], count, -1)[..., before + start :]
            own.masked_fill_(later[:count, :count], -torch.inf)
            part = scores.softmax(-1) @ value[:, : before + stop]
            result[start:stop] = part.view(heads, count, -1).transpose(0, 1)
        return result


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: None,
    scale: float,
) -> torch.Tensor:
    layer: _Layer = module.ragged
    return layer.attend(query[0], key[0], value[0], scale)[None]


register(_NAME, _attend, lambda *arguments, **options: None)
