"""Logits of chosen tokens, whatever a network's own options are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from nbllm.models.model import Model

__all__ = ["FineLogits", "head_input", "logits_at"]


@contextmanager
def head_input(
    network: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """While it is open, the output matrix is given what `change` makes of its input."""
    hook = network.get_output_embeddings().register_forward_pre_hook(
        lambda _module, inputs: (change(inputs[0]),)
    )
    try:
        yield
    finally:
        hook.remove()


def logits_at(model: Model, ids: NDArray[np.int64], places: NDArray[np.int64]) -> torch.Tensor:
    """Logits in float32 at some places of rows of tokens, without a cache or a mask.

    Args:
        ids: shape (rows, tokens).
        places: shape (rows, read).

    Returns:
        Shape (rows, read, vocabulary).
    """
    network = model.network
    cached = "use_cache" in inspect.signature(network.forward).parameters

    def chosen(states: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(states), device=states.device)[:, None]
        return states[rows, torch.from_numpy(places).to(states.device)]

    with torch.inference_mode(), head_input(network, chosen):
        logits: torch.Tensor = network(
            input_ids=torch.from_numpy(ids).to(model.device),
            **({"use_cache": False} if cached else {}),
        ).logits
    return logits.float()


class FineLogits:
    """While it is open, the network's logits are followed by those of `tokens` in float32.

    A bf16 logit of 20 is rounded to steps of 1/8, which would put the scores on a coarse grid.
    Whatever the network does to its logits, such as a soft cap, it does to these too.
    """

    def __init__(self, network: PreTrainedModel, tokens: torch.Tensor) -> None:
        self._head = network.get_output_embeddings()
        self._tokens = tokens
        self._width = 0  # of the logits before those

    def __enter__(self) -> FineLogits:
        self._hook = self._head.register_forward_hook(self._append)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _append(
        self, head: torch.nn.Module, inputs: tuple[torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        tokens = self._tokens
        if isinstance(head, torch.nn.Linear) and head.weight.is_floating_point():
            # Wide enough that the order of a sum, which depends on the batch, does not show.
            wide = torch.float32 if logits.device.type == "mps" else torch.float64
            bias = None if head.bias is None else head.bias[tokens].to(wide)
            weight = head.weight[tokens].to(wide)
            fine = torch.nn.functional.linear(inputs[0].to(wide), weight, bias).float()
        else:  # a quantized head has no rows to take
            fine = logits[..., tokens].float()
        self._width = logits.shape[-1]
        return torch.cat([logits.float(), fine], dim=-1)

    def split(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's logits, and those of the tokens."""
        if logits.shape[-1] == self._width + len(self._tokens):
            return logits[..., : self._width], logits[..., self._width :]
        # A network that cuts its logits to its vocabulary has cut those of the tokens off.
        return logits, logits[..., self._tokens]
