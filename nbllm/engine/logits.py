"""Logits of chosen tokens, whatever a network's own options are."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from nbllm.engine.locks import FORWARD_LOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedModel

    from nbllm.models.model import Model

__all__ = [
    "FineLogits", "head_input", "last_position", "logits_at", "logits_of_states", "onloaded",
    "output_matrix",
]  # fmt: skip

_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def output_matrix(network: PreTrainedModel) -> nn.Module:
    """Return the layer that maps hidden states to logits, of a network that has one."""
    return cast("nn.Module", network.get_output_embeddings())


@contextmanager
def head_input(
    network: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Replace the input of the output matrix while the context is open.

    It holds the forward lock, and leaves passes of other threads alone.

    Args:
        network: with an output matrix.
        change: from the hidden states to those that the matrix gets instead.
    """
    thread = threading.get_ident()

    def replace(_module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        return (change(inputs[0]),) if threading.get_ident() == thread else None

    with FORWARD_LOCK:
        hook = output_matrix(network).register_forward_pre_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def last_position(states: torch.Tensor) -> torch.Tensor:
    """Return the hidden states of the last token alone: (rows, 1, width).

    Args:
        states: Of all tokens, (rows, tokens, width).
    """
    # A strided batch would be multiplied by frozen weights row by row.
    return states[:, -1:].contiguous()


def logits_of_states(model: Model, states: torch.Tensor, token: int) -> torch.Tensor:
    """Return the logits in float32 of inputs of the output matrix, (tokens, vocabulary).

    One token goes through the network, and the states take its place before the output matrix:
    whatever the network does to its logits, such as a soft cap, it does to these too.

    Args:
        model: A causal model.
        states: After the final norm, (tokens, width).
        token: Any token of a text.
    """
    ids = torch.tensor([[token]], device=model.device)
    with torch.inference_mode(), head_input(model.network, lambda _: states[None]):
        logits: torch.Tensor = model.network(input_ids=ids, use_cache=False).logits
    return logits[0].float()


def logits_at(model: Model, ids: NDArray[np.int64], places: NDArray[np.int64]) -> torch.Tensor:
    """Return logits in float32 at some positions of rows of tokens, without a cache or a mask.

    Args:
        model: a causal model.
        ids: shape (rows, tokens).
        places: the positions of each row, shape (rows, read).

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


@contextmanager
def onloaded(module: torch.nn.Module) -> Iterator[bool]:
    """Bring weights that accelerate has offloaded to their device while the context is open.

    Between passes, and for a forward hook too, such weights are on the meta device: any number
    may come out of a product with them, without an error.

    Args:
        module: whose own weights are needed.

    Yields:
        Whether the module's weights are there.
    """
    from accelerate.utils import align_module_device  # type: ignore[import-untyped]

    # Another thread's pass would find the weights taken away.
    with FORWARD_LOCK, align_module_device(module):
        yield all(weight.device.type != "meta" for weight in module.parameters(recurse=False))


class FineLogits:
    """Appends the logits of `tokens` in float32 to the network's own, while the context is open.

    A bf16 logit of 20 is rounded to steps of 1/8, which would put the scores on a coarse grid.
    Whatever the network does to its logits, such as a soft cap, it does to these too. While it is
    open it holds the forward lock, since other threads' passes would get those logits as well.

    The rows of the output matrix are read when this is created, since a matrix that is offloaded is
    not there any more when a hook sees its product.

    Args:
        network: with an output matrix.
        tokens: whose logits are appended.
    """

    def __init__(self, network: PreTrainedModel, tokens: Sequence[int]) -> None:
        self._head = output_matrix(network)
        self._tokens = torch.tensor(tokens)
        self._rows = _rows(self._head, self._tokens)
        self._width = 0  # of the logits before those

    def __enter__(self) -> FineLogits:
        FORWARD_LOCK.__enter__()
        self._hook = self._head.register_forward_hook(self._append)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()
        FORWARD_LOCK.__exit__(*error)

    def _append(
        self, head: torch.nn.Module, inputs: tuple[torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        if self._rows is None:
            fine = self._chosen(logits)
        else:
            weight, bias = self._rows
            states = inputs[0].to(device=weight.device, dtype=weight.dtype)
            fine = torch.nn.functional.linear(states, weight, bias).to(logits.device)
        self._width = logits.shape[-1]
        return torch.cat([logits.float(), fine.float()], dim=-1)

    def split(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's logits, and those of the tokens.

        Args:
            logits: the output of a pass within the context, (..., vocabulary + tokens).
        """
        if logits.shape[-1] == self._width + len(self._tokens):
            return logits[..., : self._width], logits[..., self._width :]
        # A network that cuts its logits to its vocabulary has cut those of the tokens off.
        return logits, self._chosen(logits)

    def _chosen(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[..., self._tokens.to(logits.device)]


def _rows(
    head: torch.nn.Module, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Return some tokens' weights and biases in float64; None where the rows are not plain."""
    # Adapted layers, and those that bitsandbytes quantized, are other ones.
    if type(head) is not torch.nn.Linear:
        return None
    with torch.no_grad(), onloaded(head) as there:
        weight, bias = head.weight, head.bias
        plain = type(weight) is torch.nn.Parameter and weight.dtype in _PLAIN
        if not there or not plain:
            return None
        # Wide enough that the order of a sum, which depends on the batch, does not show.
        wide = torch.float32 if weight.device.type == "mps" else torch.float64
        tokens = tokens.to(weight.device)
        return weight[tokens].to(wide), None if bias is None else bias[tokens].to(wide)
