"""Decides what the rows of a batch may share on a network without changing an answer.

Rows share a batch by padding, and the tokens that they start with by a cache. transformers leaves
both to each model's own code. Where all layers take their masks and attention from transformers'
common interfaces, both are exact. Elsewhere a short text is tried once on the network itself, and
what a short text cannot show (attention in blocks) makes each length a batch of its own.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
import torch

from nbllm.engine.locks import FORWARD_LOCK
from nbllm.engine.logits import logits_at
from nbllm.engine.runner import is_out_of_memory
from nbllm.errors import UnsupportedModelError
from nbllm.models.silence import quiet

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import DynamicCache
    from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

    from nbllm.models.model import Model

__all__ = [
    "Batching", "batching", "groups", "layer_kinds", "refuse_unless_scored",
    "refuse_unless_written", "same_steps", "shares_prefix", "trial_text",
]  # fmt: skip

# The function of transformers that makes the mask of each kind of layer.
_MASKS = {
    "full_attention": "create_causal_mask",
    "sliding_attention": "create_sliding_window_causal_mask",
    "chunked_attention": "create_chunked_causal_mask",
}
# A DummyLayer stands for one that reads the keys of an earlier layer.
_PLAIN_CACHES = {DynamicLayer, DynamicSlidingWindowLayer, DummyLayer}
# RoBERTa and its kind number positions by themselves, and not from 0.
_OWN_POSITIONS = "create_position_ids_from_input_ids"
# Fields of a configuration by which a row is cut into blocks.
_BLOCKS = re.compile(r"window|chunk(?!_size_feed_forward)|block|local|radius")

_SHORT, _LONG = 5, 24  # tokens of the texts that are tried
# By how much of its length a vector may differ, since rounding depends on the shape of a batch: in
# float32, and where the dtype or quantized weights round more. What decides on a refusal may differ
# more: a recurrent layer sums up in another order where it keeps its state (1.6e-4 seen in fp32).
_ROUNDING = (3e-5, 5e-2)
_FAULT = (1e-3, 0.2)

_known: WeakKeyDictionary[PreTrainedModel, dict[str, Any]] = WeakKeyDictionary()


def shares_prefix(network: PreTrainedModel) -> bool:
    """Return whether a causal network accepts the keys of a prefix, and our masks and positions.

    Then a row after a prefix is what it is alone, and labels can lie in one pass as a tree.

    Args:
        network: of a causal model.
    """
    config = network.config.get_text_config(decoder=True)
    defined = vars(sys.modules[type(network).__module__])
    kinds = layer_kinds(config)
    return (
        network._supports_attention_backend
        and not network._is_stateful
        and "position_ids" in inspect.signature(network.forward).parameters
        and not any(hasattr(part, _OWN_POSITIONS) for part in network.modules())
        and {type(layer) for layer in DynamicCache(config=config).layers} <= _PLAIN_CACHES
        and kinds <= _MASKS.keys()
        # A configuration may name a window of which its network knows nothing.
        and ("create_masks_for_generate" in defined or {_MASKS[k] for k in kinds} <= defined.keys())
    )


def layer_kinds(config: PreTrainedConfig) -> set[str]:
    """Return the kinds of a network's layers: "full_attention", "sliding_attention" and others.

    Args:
        config: of the network.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds)
    bounded = getattr(config, "sliding_window", None) is not None
    return {"sliding_attention" if bounded else "full_attention"}


Batching = Literal["padded", "same length", "single"]


def batching(
    model: Model, alone: Callable[[], torch.Tensor], padded: Callable[[], torch.Tensor]
) -> Batching:
    """Return which texts may share a batch, padded on the right, without changing an answer.

    Args:
        model: whose network is tried, once.
        alone: computes the network's output for a short text alone.
        padded: computes it for the same text beside a longer one.

    Raises:
        UnsupportedModelError: the network fails on the short text, or answers at random.
    """
    found = _once(model.network, "batching", lambda: _batching(model, alone, padded))
    if found not in get_args(Batching):
        _refuse(model, found)
    batching: Batching = found
    return batching


def _batching(
    model: Model, alone: Callable[[], torch.Tensor], padded: Callable[[], torch.Tensor]
) -> str:
    config = model.network.config.get_text_config()
    fields = config.to_dict()
    if fields.get("hash_seed", 0) is None:
        return "it hashes tokens at random, so that it answers otherwise each time"
    with torch.inference_mode():
        try:
            plain = alone()
        except Exception as error:
            return _why(error)
        if fields.get("expert_capacity"):
            # An expert that is full leaves tokens out, so that a row depends on those beside it.
            return "single"
        try:
            beside = padded()
        except Exception as error:  # such as a classifier that has no token for padding
            _why(error)
            return "single"
    cut = not model.network._supports_attention_backend and any(
        _BLOCKS.search(name) and value and not isinstance(value, (bool, str))
        for name, value in fields.items()
    )
    return "same length" if cut or not _agree(model, plain, beside, _ROUNDING) else "padded"


def refuse_unless_scored(model: Model) -> None:
    """Refuse a causal network whose likelihoods depend on later tokens.

    Args:
        model: whose network is tried, once.

    Raises:
        UnsupportedModelError: naming the architecture.
    """

    def tried() -> str | None:
        ids = trial_text(model)
        try:
            with torch.inference_mode():
                alone = model.network(input_ids=ids[:, :_SHORT]).logits[0, -1]
                followed = logits_at(model, ids.cpu().numpy(), np.array([[_SHORT - 1]]))[0, 0]
        except Exception as error:
            return _why(error)
        if not _agree(model, alone, followed, _FAULT):
            return "its predictions depend on later tokens, so it is not causal"
        return None

    _refuse(model, _once(model.network, "scored", tried))


def refuse_unless_written(model: Model, config: GenerationConfig) -> None:
    """Refuse a network that generates other text with its cache than without.

    Args:
        model: whose network is tried, once.
        config: how texts are generated.

    Raises:
        UnsupportedModelError: naming the architecture.
    """

    def tried() -> str | None:
        network: Any = model.network
        ids = trial_text(model)
        try:
            with torch.inference_mode():
                with_cache, without = (
                    network.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        generation_config=config,
                        max_new_tokens=3,
                        use_cache=cached,
                        output_logits=True,
                        return_dict_in_generate=True,
                    )
                    for cached in (True, False)
                )
        except Exception as error:
            return _why(error)
        if same_steps(model, with_cache.logits, without.logits):
            return None
        return "it writes another text with its cache than without"

    _refuse(model, _once(model.network, "written", tried))


def same_steps(model: Model, ours: Sequence[torch.Tensor], plain: Sequence[torch.Tensor]) -> bool:
    """Return whether the logits of each step are the same but for rounding.

    A row counts as long as the same tokens are generated: after that its texts are two.

    Args:
        model: by whose dtype and quantization rounding is judged.
        ours: the logits of each step, (row, token).
        plain: those to compare with.
    """
    alike = torch.ones(len(ours[0]), dtype=torch.bool, device=ours[0].device)
    for one, other in zip(ours, plain, strict=False):
        if not _agree(model, one[alike], other[alike], _FAULT):
            return False
        alike &= one.argmax(-1) == other.argmax(-1)
    return True


def _refuse(model: Model, reason: str | None) -> None:
    if reason is not None:
        raise UnsupportedModelError(
            f"{model.name} ({type(model.network).__name__}) cannot be used here: {reason}. Choose "
            "a model of another family, such as LLaMA, Qwen, Mistral or Gemma."
        )


def _why(error: Exception) -> str:
    """Say what a trial's error means for the network; raise it again where memory ran out."""
    if is_out_of_memory(error):
        raise error
    said = str(error).strip().splitlines()
    return f"transformers fails on a short text ({type(error).__name__}: {said[0] if said else ''})"


def trial_text(model: Model) -> torch.Tensor:
    """Return ids of a text without special tokens, shape (1, tokens).

    Args:
        model: whose vocabulary is used.
    """
    special = set(model.tokenizer.all_special_ids)
    table: Any = model.network.get_input_embeddings()
    count = len(table.weight)
    plain = [n for n in range(count) if n not in special]
    ids = [plain[-1 - 7 * n % len(plain)] for n in range(_LONG)]
    return torch.tensor([ids], device=model.device)


def _agree(
    model: Model, one: torch.Tensor, other: torch.Tensor, allowed: tuple[float, float]
) -> bool:
    fine = model.dtype in (torch.float32, torch.float64) and model.quantization == "none"
    one, other = one.float(), other.float()
    return bool((one - other).norm() <= allowed[not fine] * one.norm())


def _once(network: PreTrainedModel, name: str, measure: Callable[[], Any]) -> Any:
    """Return a measurement of a network, which is made the first time."""
    known = _known.setdefault(network, {})
    if name not in known:
        with FORWARD_LOCK:  # another pass of this network may have a hook on it
            known[name] = measure()
    return known[name]


def groups(lengths: Sequence[int], how: Batching) -> Iterator[list[int]]:
    """Cut rows into those that may share a batch.

    Args:
        lengths: tokens of each row.
        how: as `batching` decided.

    Yields:
        Indices into `lengths`.

    Example:
        >>> list(groups([3, 5, 3], "same length"))
        [[0, 2], [1]]
    """
    alike: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        key = {"padded": 0, "same length": length, "single": index}[how]
        alike.setdefault(key, []).append(index)
    yield from alike.values()
