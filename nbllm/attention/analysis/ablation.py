"""Ablation of heads: each is taken out in turn, and the answer computed again.

A head is taken out of the output of the attention function that the model runs, before the
output projection. So no architecture is named here. The rows of a batch are the same text with
one head each taken out, and a last row has them all, against which the others are compared: the
numbers of a pass depend on its shape, visibly so in half precision.

The layers below the heads of a batch have the same output as in the first batch, and are not
run again: half of the work, when all heads are tried.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import nn

from nbllm.attention.analysis.activation_cache import ActivationCache
from nbllm.attention.recording.interception import intercept_attention
from nbllm.attention.recording.recording import RecordingKind
from nbllm.attention.recording.rounding import rounding_tolerance
from nbllm.attention.recording.text import answer_id, check_one_answer, encode_prompt
from nbllm.attention.recording.validation import check_layer_calls, depths_of
from nbllm.checks import check_choice, check_integers, check_token, reads
from nbllm.engine.logits import head_input, last_position
from nbllm.engine.prompt import Prompt
from nbllm.errors import SelectionError
from nbllm.models.loader import resolve
from nbllm.models.model import Model, ModelLike

__all__ = ["head_importance"]

Replacement = Literal["zero", "mean"]

_TOKENS = 1024  # that go through the network at a time


@reads(target=check_token, layers=check_integers)
def head_importance(
    model: ModelLike,
    text: str | Prompt,
    *,
    target: int | str | None = None,
    replacement: Replacement = "zero",
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return how much less likely an answer becomes without each head.

    The output of the head before the output projection is replaced by zeros, or by its "mean" over
    the tokens of the text, which keeps what it adds whatever the token (Michel et al. 2019,
    "Are Sixteen Heads Really Better than One?").

    Args:
        model: A causal model or a classifier, or what `nbllm.load` takes.
        text: The text to read, or a Prompt.
        target: Of a causal model the id of a token after the last one of the text, or a text
            that is one token; of a classifier the number or the name of a class. By default
            the model's own answer.
        replacement: "zero" or "mean".
        layers: Numbers of the layers whose heads are tried; all by default.

    Returns:
        A frame with one row per head and the columns layer, head, importance (the fall of the
        logarithm of the answer's probability, in nats; below 0 where the head spoke against it) and
        logit_drop (the fall of its logit). `attrs["target"]` is the number of the answer.

    Raises:
        UnsupportedModelError: The model has no such answer (an encoder, an encoder-decoder), or
            computes attention outside of transformers' AttentionInterface.
        SelectionError: The model has no such token, class or layer.
        LabelError: It has no class of that name.
        TextError: The text has no tokens, or too many.

    Example:
        >>> heads = head_importance(llm, "The capital of France is")  # doctest: +SKIP
        >>> heads.nlargest(5, "importance")  # doctest: +SKIP
    """
    model = resolve(model)
    check_one_answer(model, "head_importance")
    check_choice("replacement", replacement, get_args(Replacement))
    chosen = None if target is None else answer_id(model, target)
    prompt = encode_prompt(model, text)
    ((kind, depth),) = depths_of(model).items()
    numbers = _numbers(model, depth, layers)
    heads = model.network.config.get_text_config().num_attention_heads
    places = list(itertools.product(numbers, range(heads)))
    found = []
    size = max(1, _TOKENS // len(prompt.ids) - 1)
    cache = ActivationCache(model.network, depth)
    whole = None
    tolerance = rounding_tolerance(model.dtype, model.device)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        logits = _answers(model, prompt, part, kind, replacement, cache)
        if whole is None:
            whole = logits[-1]
        # Some layers read more than the last output below.
        elif float((logits[-1] - whole).norm() / whole.norm()) > tolerance:
            cache.clear()
            logits = _answers(model, prompt, part, kind, replacement, cache)
        if chosen is None:
            chosen = int(logits[-1].argmax())
        both = torch.stack([logits.log_softmax(-1)[:, chosen], logits[:, chosen]], dim=1)
        found.append((both[-1] - both[:-1]).cpu().numpy())
    falls = np.concatenate(found)
    frame = pd.DataFrame(places, columns=["layer", "head"])
    frame["importance"], frame["logit_drop"] = falls[:, 0], falls[:, 1]
    frame.attrs["target"] = chosen
    return frame


def _numbers(model: Model, depth: int, layers: Sequence[int] | None) -> list[int]:
    if layers is not None and not len(layers):
        raise SelectionError("layers names no layer. Give at least one, or None for all.")
    for number in layers or ():
        if not 0 <= number < depth:
            raise SelectionError(
                f"layer {number} is not in {model.name}, which has layers 0 to {depth - 1}. "
                "Choose some of those."
            )
    return list(range(depth)) if layers is None else list(layers)


def _answers(
    model: Model,
    prompt: Prompt,
    places: list[tuple[int, int]],
    kind: RecordingKind,
    replacement: Replacement,
    cache: ActivationCache,
) -> torch.Tensor:
    """Logits without each (layer, head) in turn, and in the last row with all: (rows, answers).

    The output of the layers below these is taken from the cache, or else put there.
    """
    network = model.network
    skipped = cache.available(min(layer for layer, _ in places))
    ids = torch.tensor([prompt.ids], device=model.device).expand(len(places) + 1, -1)
    calls: Counter[RecordingKind] = Counter({kind: skipped} if skipped else {})

    def ablate(
        result: Any, eager: bool, module: nn.Module, query: torch.Tensor, *rest: Any
    ) -> None:
        for row, (layer, head) in enumerate(places):
            if layer == calls[kind]:
                gathered = result[0][row, :, head]  # (tokens, value_dim)
                if replacement == "zero":
                    gathered.zero_()
                else:
                    gathered.copy_(gathered.float().mean(0))
        calls[kind] += 1

    layers = cache.skip(skipped, len(ids)) if skipped else cache.fill(-1)
    with torch.inference_mode(), intercept_attention(network, ablate), layers:
        if model.kind == "classifier":
            logits: torch.Tensor = network(input_ids=ids).logits
        else:
            with head_input(network, last_position):
                logits = network(input_ids=ids, use_cache=False).logits[:, -1]
    check_layer_calls(model, calls, depths_of(model))
    return logits.float()
