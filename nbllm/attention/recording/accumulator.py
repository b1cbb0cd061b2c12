"""The queries and keys of one layer and text, accumulated over its attention calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.masks import Rule, rule_of
from nbllm.attention.recording.storage import Storage
from nbllm.errors import UnsupportedModelError

__all__ = ["Call", "LayerAccumulator", "Shared"]

_CHECKED_ROWS = 16  # of every layer and head


@dataclass(frozen=True, eq=False)
class Call:
    """The inputs and the output of one attention call, for one text of a batch."""

    query: torch.Tensor  # (heads, rows, head_dim), after RoPE
    key: torch.Tensor  # (key_heads, columns, head_dim), with those of earlier calls
    value: torch.Tensor  # (value_heads, columns, value_dim)
    output: torch.Tensor  # (rows, heads, value_dim)
    mask: torch.Tensor | None  # (1 or heads, rows, columns), bool (True: seen) or additive
    bias: torch.Tensor | None  # (heads, rows, columns)
    causal: bool  # how the function masks by itself, or the layer is meant to
    eager: bool  # the function masks nothing by itself
    options: Mapping[str, Any]  # scaling, softcap, sliding_window, s_aux


class Shared:
    """Masks and biases that all layers of a pass share: each is analysed and kept once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: dict[tuple[Any, ...], tuple[torch.Tensor, Any]] = {}

    def rule(self, mask: torch.Tensor, causal: bool) -> Rule | torch.Tensor:
        """The rule that a mask follows; the mask itself where it follows none."""
        key = (*_place(mask), causal)
        if key not in self._kept:
            rule = rule_of(mask, causal)
            self._kept[key] = (mask, self._keep(mask) if rule is None else rule)
        found: Rule | torch.Tensor = self._kept[key][1]
        return found

    def bias(self, bias: torch.Tensor) -> torch.Tensor | None:
        """A bias to keep; None where it adds nothing."""
        key = _place(bias)
        if key not in self._kept:
            self._kept[key] = (bias, self._keep(bias) if bool(bias.any()) else None)
        found: torch.Tensor | None = self._kept[key][1]
        return found

    def clear(self) -> None:
        """Forget the tensors of a pass: their memory is used again by the next."""
        self._kept.clear()

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        tape = self._storage.tape(tensor.shape[1])
        tape.append(tensor)
        return tape.read()


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    # Layers are given views of one tensor, which are other objects on the same numbers.
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


class LayerAccumulator:
    """Accumulates the queries and keys of one layer and text, call by call.

    Args:
        storage: Where they are kept.
        shared: The masks and biases of the pass.
        rows: The most queries that there will be.
        columns: The most keys.
    """

    def __init__(self, storage: Storage, shared: Shared, rows: int, columns: int) -> None:
        self._query = storage.tape(rows)
        self._key = storage.tape(columns)
        self._shared = shared
        self._rules: list[tuple[Rule, int]] = []  # of each call, and how many keys it had
        self._errors: list[torch.Tensor] = []
        self._rest: dict[str, Any] = {}  # of a Layer, beside queries, keys and rule

    def append(self, call: Call) -> None:
        """Append the queries and keys of a call, and measure how well they explain its output.

        Raises:
            UnsupportedModelError: This is a later step of a text, and its mask follows no rule.
        """
        rule = self._rule(call)
        bias = None if call.bias is None else self._shared.bias(call.bias)
        before = self._key.length
        if before and (isinstance(rule, torch.Tensor) or bias is not None):
            raise _unruly()
        scale = call.options.get("scaling")
        sinks = call.options.get("s_aux")
        rest: dict[str, Any] = {
            "scale": call.query.shape[-1] ** -0.5 if scale is None else float(scale),
            "softcap": call.options.get("softcap"),
            "sinks": None if sinks is None else sinks.detach(),
        }
        step = Layer(
            query=call.query,
            key=call.key,
            bias=None if bias is None else call.bias,
            **_masked(rule, call, before),
            **rest,
        )
        self._errors.append(_reconstruction_error(step, call.value, call.output))
        self._query.append(call.query)
        self._key.append(call.key[:, before:])
        if isinstance(rule, torch.Tensor):
            rest["mask"], rule = rule, Rule(causal=False, window=None)
        self._rules.append((rule, call.key.shape[1]))
        if not before:
            self._rest = {"mask": None, "bias": bias} | rest

    def reconstruction_error(self) -> torch.Tensor:
        """The largest relative error of weights · value over all calls: (), on the device."""
        return torch.stack(self._errors).max()

    def layer(self) -> Layer:
        """The layer over all calls.

        Raises:
            UnsupportedModelError: The masks of the calls do not follow one rule.
        """
        causal = {rule.causal for rule, _ in self._rules}
        windows = {rule.window for rule, _ in self._rules} - {None}
        # Of few keys a window hides none.
        unhidden = max((keys for rule, keys in self._rules if rule.window is None), default=0)
        window = windows.pop() if windows else None
        if len(causal) > 1 or windows or (window is not None and unhidden > window):
            raise _unruly()
        query = self._query.read()
        rest = dict(self._rest)
        if rest["sinks"] is not None:
            # A copy, so that a recording does not hold the model's parameters.
            rest["sinks"] = rest["sinks"].to(query.device, copy=True)
        return Layer(query=query, key=self._key.read(), causal=causal.pop(), window=window, **rest)

    def _rule(self, call: Call) -> Rule | torch.Tensor:
        if call.mask is not None:
            return self._shared.rule(call.mask, call.causal)
        if call.eager:
            return Rule(causal=False, window=None)
        return Rule(call.causal, call.options.get("sliding_window"))


def _masked(rule: Rule | torch.Tensor, call: Call, before: int) -> dict[str, Any]:
    """The rule as fields of a Layer; of a later step as a mask: its rows are not the first."""
    if isinstance(rule, torch.Tensor):
        return {"mask": call.mask, "causal": False, "window": None}
    if not before:
        return {"mask": None, "causal": rule.causal, "window": rule.window}
    keys = torch.arange(call.key.shape[1], device=call.key.device)
    return {"mask": rule.mask(keys[before:], keys)[None], "causal": False, "window": None}


def _reconstruction_error(layer: Layer, value: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Relative error of weights · value against the output, on a sample of rows of each head."""
    last, steps = output.shape[0] - 1, _CHECKED_ROWS - 1
    rows: Sequence[int] = range(last + 1)
    if last > steps:
        rows = [last * step // steps for step in range(_CHECKED_ROWS)]
    weights = layer.weights(None, rows)
    explained = weights.reshape(len(value), -1, value.shape[1]) @ value.float()
    returned = taken(output, 0, rows).float().transpose(0, 1)
    missed = explained.view_as(returned).sub_(returned).square().sum()
    return (missed / returned.square().sum().clamp_min(1e-24)).sqrt()


def _unruly() -> UnsupportedModelError:
    return UnsupportedModelError(
        "While it wrote, the mask of this model followed no rule that holds for every step. "
        "Generate the text first, then record it in one pass: record(model, text)."
    )
