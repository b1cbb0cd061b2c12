"""A network's twin: the same layers and weights, with an attention function of nbllm's.

The twin has a configuration of its own, which names the function. So whatever else the network
does, in this thread or another, keeps the attention that it has.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from nbllm.engine.locks import FORWARD_LOCK
from nbllm.models.memory.placement import is_spread
from nbllm.models.silence import quiet

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import (
        AttentionInterface,
        AttentionMaskInterface,
        DynamicCache,
        PreTrainedConfig,
        PreTrainedModel,
    )
    from transformers.cache_utils import DynamicLayer
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["AttentionCall", "attention_calls", "can_have_twin", "register", "twin"]

# Options of an attention function with which its weights stay softmax(scaling · q·kᵀ + mask).
_PLAIN = {"scaling", "dropout", "is_causal", "position_ids", "use_cache"}

# (module, query, key, value, mask, scale) -> (1, tokens, heads, width); see `register`.
Attend = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor, Any, float], torch.Tensor]


def can_have_twin(model: Model) -> bool:
    """Return whether `attention_calls` may succeed for a model, which only its pass can decide.

    Args:
        model: A causal model.
    """
    config = model.network.config.get_text_config()
    # accelerate's hooks would run the network itself in the place of its twin.
    if model.device.type != "cpu" or is_spread(model.network) or model.network._is_stateful:
        return False
    # The cache that transformers gives a layer shows which keys the layer attends to.
    layers = {type(layer) for layer in DynamicCache(config=config).layers}
    return config._attn_implementation == "sdpa" and layers == {DynamicLayer}


def register(name: str, attend: Attend, mask: Callable[..., Any]) -> None:
    """Make an attention function known to transformers.

    Args:
        name: The name that `twin` is given.
        attend: Computes attention from query, key and value (rows, heads, tokens, width), the
            mask, and the factor of the scores.
        mask: Makes the mask that `attend` is given, as `AttentionMaskInterface` calls it.
    """

    def attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any,
        *,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        calls = _calls.get()
        if calls is None:
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            return attend(module, query, key, value, attention_mask, scale), None
        given = {option for option, setting in options.items() if setting is not None}
        is_plain = attention_mask is None and given <= _PLAIN
        calls.append(AttentionCall(module, key, value, is_plain))
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )

    def attention_mask(*arguments: Any, **options: Any) -> Any:
        # It is None where tokens see all those before them and nothing else.
        return (mask if _calls.get() is None else sdpa_mask)(*arguments, **options)

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, attention_mask)


def twin(network: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the same network with the same weights, but for its attention function.

    Args:
        network: The network, which is left as it is.
        name: The attention function, as it was registered.
    """
    made: PreTrainedModel = _twin(network, name, {}, {})
    return made


def _twin(module: Any, name: str, twins: dict[int, Any], configs: dict[int, Any]) -> Any:
    if id(module) not in twins:
        made = twins[id(module)] = object.__new__(type(module))
        # Dynamic rotary embeddings replace their buffers, and hooks are hung in for one pass.
        own = {part: copy.copy(vars(module)[part]) for part in ("_buffers", "_forward_hooks")}
        own["_modules"] = {
            child: None if inner is None else _twin(inner, name, twins, configs)
            for child, inner in module._modules.items()
        }
        config = vars(module).get("config")
        if isinstance(config, PreTrainedConfig):
            own["config"] = copy.deepcopy(config, configs)
            own["config"]._attn_implementation = name
        made.__dict__ = vars(module) | own
    return twins[id(module)]


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """The keys and values of one layer, (1, key heads, tokens, width).

    Attributes:
        module: The layer's attention in the twin.
        is_plain: Whether it was called with queries, keys, values and a scale alone.
    """

    module: Any
    key: torch.Tensor
    value: torch.Tensor
    is_plain: bool


_calls: ContextVar[list[AttentionCall] | None] = ContextVar("_calls", default=None)


@contextmanager
def _captured_calls() -> Iterator[list[AttentionCall]]:
    calls: list[AttentionCall] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def attention_calls(network: PreTrainedModel, ids: Sequence[int]) -> list[AttentionCall] | None:
    """Return the calls of all layers in one forward pass of a twin.

    Args:
        network: The twin of a model for which `can_have_twin` holds.
        ids: The tokens that are read, one or more.

    Returns:
        A call per layer, in order; None where a layer computes attention in another way, or with
        options that change its weights.
    """
    with FORWARD_LOCK, _captured_calls() as calls, torch.inference_mode():
        network(input_ids=torch.tensor([list(ids)]), use_cache=False, logits_to_keep=1)
    layers = network.config.get_text_config().num_hidden_layers
    if not len(calls) == len({call.module for call in calls}) == layers:
        return None
    return calls if all(call.is_plain for call in calls) else None
