"""Gradients with respect to the input of a network, whatever dtype its weights have.

Rounding to half precision would drown the completeness gap of an attribution. So weights of
half precision, and quantized ones, are taken as float32 where they are used, one matrix at a
time: the arithmetic of a float32 model, without its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nbllm.attention.recording.hooks import hooked
from nbllm.engine.locks import FORWARD_LOCK, named_work
from nbllm.errors import UnsupportedModelError
from nbllm.models.model import Model

__all__ = ["gradients"]

_HALF = (torch.bfloat16, torch.float16)
# What mixes activations with weights and asks both for one dtype; Conv1D is GPT-2's addmm.
_TAKE_WEIGHTS = (functional.linear, torch.addmm, functional.layer_norm, functional.rms_norm)


@contextmanager
def gradients(model: Model) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Enable gradients with respect to the input, in float32 where weights are half precision.

    It holds the forward lock, and gives it to others before each pass: an attribution takes many
    passes, and minutes.

    Args:
        model: The model.

    Yields:
        A function that makes the context manager of each forward pass.

    Raises:
        UnsupportedModelError: A part of the network passes no gradient on.

    Example:
        >>> with gradients(model) as passing:  # doctest: +SKIP
        ...     with passing():
        ...         answer = score(given)
        ...     torch.autograd.grad(answer, given)
    """
    parts = [part for part in model.network.modules() if not any(part.children())]
    trained = {name for name, weight in model.network.named_parameters() if weight.requires_grad}
    arithmetic = _InFloat32() if model.dtype in _HALF else nullcontext()

    def passing() -> AbstractContextManager[None]:
        FORWARD_LOCK.yield_to_waiting()
        return hooked(after=[(part, _with_gradient) for part in parts])

    with (
        named_work("an explanation of a row"),
        FORWARD_LOCK,
        torch.inference_mode(False),
        torch.enable_grad(),
        arithmetic,
    ):
        _let_train(model, trained, False)
        try:
            yield passing
        finally:
            _let_train(model, trained, True)


def _let_train(model: Model, names: set[str], value: bool) -> None:
    """Set whether these weights require gradients.

    By name: weights that are offloaded are other objects after each pass, and of one in inference
    mode such as can be changed in that mode alone.
    """
    with torch.inference_mode():
        for name, weight in model.network.named_parameters():
            if name in names:
                weight.requires_grad_(value)


class _InFloat32(TorchFunctionMode):
    """Half-precision weights are taken as float32 where they meet float32 activations."""

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        dtypes = {value.dtype for value in given}
        mixed = torch.float32 in dtypes and not dtypes.isdisjoint(_HALF)
        if function not in _TAKE_WEIGHTS or not mixed:
            return function(*args, **kwargs)
        if function is functional.linear:
            return _product(*args, **kwargs)
        return function(
            *map(_whole, args), **{name: _whole(value) for name, value in kwargs.items()}
        )


def _whole(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def _product(
    given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    if _is_quantized(weight):
        with torch.no_grad():
            return functional.linear(given.to(weight.dtype), weight, bias).float()
    product: torch.Tensor = _Product.apply(given, weight)  # type: ignore[no-untyped-call]
    return product if bias is None else product + bias.float()


def _is_quantized(weight: torch.Tensor) -> bool:
    """Whether its numbers are not what it multiplies with, or lie in a type of its own."""
    return type(weight) not in (torch.Tensor, nn.Parameter) or not weight.is_floating_point()


class _Product(torch.autograd.Function):
    """x · Wᵀ in float32, with W kept for the way back as it is."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return given @ weight.float().T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradients[0] @ weight.float(), None


def _with_gradient(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> torch.Tensor | None:
    """Replace the output of a part whose kernel leaves the gradient out.

    Without it the rest of the network would still pass one on, around that part, and the
    scores would be wrong without a sign of it.
    """
    if isinstance(layer, nn.Linear) and _is_quantized(layer.weight):
        whole: torch.Tensor = _Dequantized.apply(inputs[0], layer)  # type: ignore[no-untyped-call]
        return whole
    floating = isinstance(output, torch.Tensor) and output.is_floating_point()
    if inputs and floating and _differentiable(inputs[0]) and not _differentiable(output):
        raise UnsupportedModelError(
            f"No gradient goes back through a part of the network, {type(layer).__name__}. Load "
            "the model with quantize='none'."
        )
    return None


def _differentiable(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


class _Dequantized(torch.autograd.Function):
    """x · Wᵀ + b in float32, with W as the layer multiplies with it.

    Its matrix is what it makes of unit vectors, however its weights are stored.
    """

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
        ctx.layer, ctx.width = layer, given.shape[-1]
        matrix, bias = _matrix(layer, given.shape[-1], given.device)
        return given @ matrix + bias

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        # The way back of a GPU is run in a thread of its own, which has no modes.
        with torch.no_grad(), _InFloat32():
            matrix, _ = _matrix(ctx.layer, ctx.width, gradient.device)
        return gradient @ matrix.T, None


def _matrix(
    layer: nn.Linear, width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer multiplies with, (width, outputs), and what it adds, (outputs,)."""
    units = torch.eye(width, device=device)
    # Not called but by its forward: the hooks of the pass are on the layer.
    bias = layer.forward(torch.zeros_like(units[:1]))[0].float()
    return layer.forward(units).float() - bias, bias
