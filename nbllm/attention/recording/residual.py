"""The residual stream of a causal model: what each layer adds to, and the answer is read off.

No architecture is named here. The final norm is the part whose output the output matrix was
given. Callers check what is found so against the model's own logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nbllm.attention.recording.hooks import hooked
from nbllm.attention.recording.indexing import taken
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.models.model import Model

__all__ = [
    "FAMILIES", "ResidualStream", "architecture", "check_causal", "from_start", "layers_of",
    "residual_stream",
]  # fmt: skip

FAMILIES = "Choose a model of another family, such as LLaMA, Qwen, Mistral or GPT-2."


@dataclass(frozen=True, eq=False)
class ResidualStream:
    """How one forward pass over one text ended."""

    norm: nn.Module  # the last one, whose output the output matrix was given
    states: tuple[torch.Tensor, ...]  # (tokens, width): embeddings, then after each layer
    logits: torch.Tensor  # (positions, vocabulary), float32


def residual_stream(model: Model, ids: Sequence[int], positions: list[int]) -> ResidualStream:
    """Run one forward pass, and return the states of all layers and the logits at some positions.

    Args:
        model: A causal model.
        ids: The token ids of the text.
        positions: The positions whose logits are computed.

    Raises:
        UnsupportedModelError: The model has no output matrix or final norm that can be found, or
            does not return the states of its layers.
    """
    network = model.network
    head = network.get_output_embeddings()
    if head is None:
        raise UnsupportedModelError(
            f"{model.name} ({architecture(model)}) does not name its output matrix. {FAMILIES}"
        )
    candidates: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
    head_inputs: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and _same_form(inputs[0], output):
            candidates.append((module, inputs[0], output))

    def select(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        head_inputs.append(inputs[0])
        return (taken(inputs[0], 1, positions),)

    outside = [
        module
        for name, module in network.named_modules()
        if module is not head and not any(part.isdigit() for part in name.split("."))
    ]
    with (
        torch.inference_mode(),
        hooked(before=[(head, select)], after=[(m, keep) for m in outside]),
    ):
        given = torch.tensor([ids], device=model.device)
        said = network(input_ids=given, use_cache=False, output_hidden_states=True)
    # The last one: a norm may stand inside of a module that only passes its output on. What
    # leaves its input as it is, such as dropout, is no norm.
    norms = [
        (module, before)
        for module, before, after in candidates
        if _same_form(after, head_inputs[0])
        and torch.equal(after, head_inputs[0])
        and not torch.equal(before, after)
    ]
    hidden = said.hidden_states or ()
    layers = network.config.get_text_config().num_hidden_layers
    whole = len(hidden) == layers + 1 and all(_same_form(state, head_inputs[0]) for state in hidden)
    if not norms or not whole:
        what = "the states after its layers" if norms else "a norm before its output matrix"
        raise UnsupportedModelError(
            f"{model.name} ({architecture(model)}) does not show {what}, so its layers cannot "
            f"be read one by one. {FAMILIES}"
        )
    norm, before = norms[-1]
    # transformers gives the last state after the norm.
    states = tuple(state[0] for state in (*hidden[:-1], before))
    return ResidualStream(norm, states, said.logits[0].float().cpu())


def _same_form(one: Any, other: Any) -> bool:
    tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return tensors and one.shape == other.shape and one.dtype == other.dtype


def layers_of(network: nn.Module, count: int) -> list[nn.Module]:
    """Return the layers in order: the first list of `count` modules; empty if there is none."""
    lists = (module for module in network.modules() if isinstance(module, nn.ModuleList))
    return next((list(modules) for modules in lists if len(modules) == count), [])


def check_causal(model: Model, function: str) -> None:
    """Check that a model is causal.

    Args:
        model: The model.
        function: The function that requires it, for the message.

    Raises:
        UnsupportedModelError: It is of another kind.
    """
    if model.kind != "causal":
        raise UnsupportedModelError(
            f"{model.name} is of kind {model.kind}, and {function} requires a causal model, which "
            "predicts a next token. Load one, such as nbllm.load()."
        )


def from_start(positions: Sequence[int], count: int) -> list[int]:
    """Positions counted from the start of a text, where negative ones count from its end.

    Args:
        positions: Of tokens.
        count: The number of tokens of the text.

    Raises:
        SelectionError: The text has no such token.
    """
    for position in positions:
        if not -count <= position < count:
            raise SelectionError(
                f"token {position} is not in this text, which has tokens 0 to {count - 1}. "
                "Choose one of those."
            )
    return [position % count for position in positions]


def architecture(model: Model) -> str:
    """The name of the network's class."""
    return type(model.network).__name__
