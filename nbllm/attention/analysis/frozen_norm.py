"""A final norm with its scale held: linear in what was added to the residual stream."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from nbllm.attention.recording.residual import FAMILIES, architecture
from nbllm.engine.logits import onloaded
from nbllm.errors import UnsupportedModelError
from nbllm.models.model import Model

__all__ = ["FrozenNorm", "frozen_norm"]


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A norm with its scale held: linear in the stream, but for the bias."""

    factor: torch.Tensor  # (width,): weight / scale
    bias: torch.Tensor  # (width,)
    centred: bool

    def __call__(self, parts: torch.Tensor) -> torch.Tensor:
        """(parts, width) to (parts, width), without the bias."""
        if self.centred:
            parts = parts - parts.mean(-1, keepdim=True)
        return parts * self.factor


def frozen_norm(model: Model, norm: nn.Module, state: torch.Tensor) -> FrozenNorm:
    """Return the norm, RMSNorm or LayerNorm, with the scale that it has at one state.

    It is probed, not taken apart, since their weights differ (Gemma's are added to 1): vectors
    of plus and minus the state's own root mean square have the same scale and no mean.

    Args:
        model: The model, for the message.
        norm: Its final norm.
        state: The state, (width,).

    Raises:
        UnsupportedModelError: The norm is neither.
    """
    with onloaded(norm):
        weights = {name: weight.float() for name, weight in norm.named_parameters()}
    state = state.to(next(iter(weights.values()), state).device)
    # What accelerate hooks on a part would put the weights as they are in the place of these.
    plain = copy.copy(norm)
    for name in ("forward", "_hf_hook"):
        vars(plain).pop(name, None)

    def apply(states: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            normed: torch.Tensor = functional_call(plain, weights, (states[None],))[0]
        return normed

    said = apply(state[None])[0]
    signs = torch.ones_like(state)
    signs[1::2] = -1
    for centred in (False, True):
        moved = state - state.mean() if centred else state
        probe = moved.square().mean().sqrt() * signs
        up, down = apply(torch.stack([probe, -probe]))
        frozen = FrozenNorm((up - down) / (2 * probe), (up + down) / 2, centred)
        gap = (frozen(state[None])[0] + frozen.bias - said).norm() / said.norm()
        if gap <= 1e-5:
            return frozen
    raise UnsupportedModelError(
        f"The final norm of {model.name} ({architecture(model)}), {type(norm).__name__}, is "
        f"neither an RMSNorm nor a LayerNorm. {FAMILIES}"
    )
