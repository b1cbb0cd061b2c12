"""Attention to a prefix that all rows share: one matrix product for the whole batch.

Row by row, a few dozen queries on a few hundred keys leave a processor's matrix units idle, and
each layer copies the prefix for every row. But the scores of all rows' queries with the
prefix's keys are one product (Hydragen, https://arxiv.org/abs/2402.05099). Those with the keys
of their own row are small; one softmax goes over both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from nbllm.engine.cpu.twin import attention_calls, can_have_twin, register, twin
from nbllm.models.silence import quiet

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import PreTrainedModel
    from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["SharedPrefixAttention"]

_NAME = "nbllm_shared_prefix"
# Scores computed at a time, so that a long text does not take the square of its length.
_BLOCK = 2**21
# Numbers that a processor adds up side by side, or a multiple of it.
_LANES = 32


class SharedPrefixAttention:
    """Keys and values of the tokens that all prompts of a run start with, each held once.

    Attributes:
        network: called with the tokens after the prefix, their positions and an additive mask of
            shape (rows, 1, tokens, tokens) over themselves; a token sees none that comes after it.
        length: tokens of the prefix.
    """

    def __init__(self, network: PreTrainedModel, length: int) -> None:
        self.network = network
        self.length = length

    @classmethod
    def of(cls, model: Model, ids: tuple[int, ...]) -> SharedPrefixAttention | None:
        """Compute the keys and values of a prefix, in one forward pass.

        Args:
            model: a causal model.
            ids: the tokens of the prefix.

        Returns:
            The prefix; None where its attention cannot be separated from the rows' own. It can
            on a processor, for a network that runs sdpa and keeps nothing but all keys and values
            of its input (no window, chunk or state), and whose layers all call the function that
            is registered here with no more than queries, keys, values and a scale. The pass shows
            whether they do.
        """
        if not ids or not can_have_twin(model):
            return None
        network = twin(model.network, _NAME)
        calls = attention_calls(network, ids)
        if calls is None:
            return None
        for call in calls:
            call.module.prefix = call.key[0], call.value[0]
        return cls(network, len(ids))


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    prefix_key: torch.Tensor,
    prefix_value: torch.Tensor,
) -> torch.Tensor:
    """Return attention to the prefix and to the row's own tokens: (rows, tokens, heads, width).

    Args:
        query: (rows, heads, tokens, width).
        key: (rows, key heads, tokens, width); each head serves as many query heads in turn.
        value: as `key`.
        mask: added to the scores of the own row, (rows, 1, tokens, tokens).
        scale: the factor of the scores.
        prefix_key: (key heads, prefix, width), seen by all rows.
        prefix_value: as `prefix_key`.
    """
    rows, heads, tokens, _ = query.shape
    group = heads // key.shape[1]
    result = query.new_empty(rows, tokens, heads, value.shape[-1])
    # Sums go by lanes. With whole lanes of keys a row's sums are the same, to the last bit,
    # however much padding stands before it.
    fill = -tokens % _LANES
    key, value = (pad(tensor, (0, 0, fill, 0)) for tensor in (key, value))
    mask = pad(mask, (fill, 0), value=torch.finfo(mask.dtype).min)
    fitting = _BLOCK // (rows * group * (prefix_key.shape[1] + tokens))
    step = max(1, fitting // _LANES) * _LANES
    for stop in range(tokens, 0, -step):
        start = max(0, stop - step)
        shown = mask[:, :, start:stop, : fill + stop].expand(-1, group, -1, -1).flatten(1, 2)
        for number in range(key.shape[1]):
            part = slice(number * group, (number + 1) * group)
            block = _block(
                query[:, part, start:stop].flatten(1, 2),
                key[:, number, : fill + stop],
                value[:, number, : fill + stop],
                shown,
                scale,
                prefix_key[number],
                prefix_value[number],
            )
            block = block.view(rows, group, stop - start, -1)
            result[:, start:stop, part] = block.transpose(1, 2)
    return result


def _block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    prefix_key: torch.Tensor,
    prefix_value: torch.Tensor,
) -> torch.Tensor:
    """The same for one key head, whose queries are stacked: (rows, queries, width)."""
    rows, queries, _ = query.shape
    length = prefix_key.shape[0]
    to_prefix = torch.addmm(
        query.new_zeros(1), query.flatten(0, 1), prefix_key.T, beta=0, alpha=scale
    )
    to_own = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scale)
    # Rows of whole lanes, and parts that begin with one, are summed up in two thirds of the time.
    between = query.new_full((), -torch.inf).expand(rows, queries, -length % _LANES)
    scores = torch.cat([to_prefix.view(rows, queries, length), between, to_own], dim=-1)
    weights = scores.softmax(-1)  # which sums up in float32, whatever the dtype
    from_prefix = weights.flatten(0, 1)[:, :length] @ prefix_value
    to_value = weights[..., -key.shape[1] :]
    return torch.baddbmm(from_prefix.view(rows, queries, -1), to_value, value)


def _attend_to_prefix(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    return _attend(query, key, value, mask, scale, *module.prefix)


register(_NAME, _attend_to_prefix, sdpa_mask)
