"""What a load will do, decided before any weight is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch

from nbllm.errors import QuantizationError, TooLargeError
from nbllm.models import published, quantization
from nbllm.models.memory import Forecast, device_memory, forecast, free_memory, readable
from nbllm.models.model import Kind
from nbllm.models.quantization import Quantization
from nbllm.models.speed import hint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["Plan", "refuse_too_large", "settle"]

_AUTO: tuple[Quantization, ...] = ("none", "int8", "nf4")  # in the order in which they are tried
_SHARE_OF_MEMORY = 0.7  # the rest is for activations, the data and everything else


@dataclass(frozen=True)
class Plan:
    """All that makes two loads the same."""

    folder: Path
    revision: str
    kind: Kind
    context_length: int  # tokens
    quantize: str
    device: torch.device
    dtype: torch.dtype
    device_map: str | tuple[tuple[str, int | str], ...] | None = None
    adapter: Path | None = None
    adapter_revision: str | None = None
    merges: bool = False  # the adapter into the weights
    published: str | None = None  # how the checkpoint came quantized
    trust_remote_code: bool = False

    @property
    def unpacks(self) -> bool:
        """Whether weights that were published quantized are unpacked while reading."""
        return self.published is not None and self.quantize == "none"


def settle(
    plan: Plan, config: PreTrainedConfig, skeleton: PreTrainedModel, source: str
) -> tuple[Plan, str | None]:
    """The plan with its quantization decided, and one line of why where nbllm decided it.

    Raises QuantizationError where the checkpoint is quantized otherwise or the device has no
    kernel for it, and TooLargeError where nothing fits.
    """
    plan = replace(plan, published=published.published(config))
    if plan.published is not None:
        return _as_published(plan, config, source)
    if plan.quantize == "auto":
        return _first_that_fits(plan, skeleton)
    if quantization.keeps_attention(skeleton, plan.quantize, plan.device):
        return plan, (
            f"{plan.quantize}, with attention in {_short(plan.dtype)}, which a model as small as "
            "this needs to keep its answers"
        )
    return plan, None


def _as_published(plan: Plan, config: PreTrainedConfig, source: str) -> tuple[Plan, str | None]:
    assert plan.published is not None
    if plan.quantize == "none":
        published.unpacked(config, source)  # refuses what cannot be
        return plan, f"published as {plan.published}, unpacked into {_short(plan.dtype)} as asked"
    if plan.quantize not in ("auto", plan.published):
        raise QuantizationError(
            f"{source} was published quantized ({plan.published}) and cannot be quantized again to "
            f"{plan.quantize}. Leave quantize out, or take the unquantized model."
        )
    if plan.published in get_args(Quantization):
        quantization.check(plan.published, plan.device)
    elif problem := published.kernel_problem(config, plan.device):
        raise QuantizationError(
            f"{source} was published quantized ({plan.published}), and its weights cannot stay so "
            f"on {plan.device.type} here: {problem}. quantize='none' unpacks them where the format "
            "allows it, which takes several times the memory; or take the unquantized model."
        )
    if plan.published in published.RUN_UNPACKED:
        return replace(plan, quantize="none"), (
            f"published as {plan.published}, which transformers runs only unpacked: into "
            f"{_short(plan.dtype)}"
        )
    return replace(plan, quantize=plan.published), f"{plan.published}, as it was published"


def _first_that_fits(plan: Plan, skeleton: PreTrainedModel) -> tuple[Plan, str]:
    """The plan with the first quantization that fits its device, and one line of why."""
    memory = device_memory(plan.device)
    room = f"{_SHARE_OF_MEMORY:.0%} of the {readable(memory)} of {plan.device.type}"
    passed = []
    for choice in _AUTO:
        need = _need(plan, choice, skeleton)
        if need.total > _SHARE_OF_MEMORY * memory:
            passed.append(f"{choice} ({_size(need)}) is too large")
        elif problem := quantization.kernel_problem(choice, plan.device):
            passed.append(f"{choice} has no kernel here ({problem})")
        else:
            what = f"not quantized, in {_short(plan.dtype)}" if choice == "none" else choice
            why = f"{'; '.join(passed)}; " if passed else ""
            faster = _faster(plan, choice, skeleton)
            return replace(plan, quantize=choice), (
                f"{what}: {why}{_size(need)} fit in {room}{faster}"
            )
    raise TooLargeError(
        f"This model does not fit in {room}: {'; '.join(passed)}. Take a smaller model or a "
        "device with more memory, spread it with device_map='auto', or name a quantization to "
        "try it all the same."
    )


def _faster(plan: Plan, choice: str, skeleton: PreTrainedModel) -> str:
    """What is known to be faster here, for a model that writes; it is not chosen by itself."""
    if plan.kind != "causal":
        return ""
    width = getattr(skeleton.config.get_text_config(), "hidden_size", 0)
    known = hint(choice, plan.device, plan.dtype, width)
    return f". {known}" if known else ""


def refuse_too_large(plan: Plan, skeleton: PreTrainedModel) -> None:
    """Raise TooLargeError where the weights alone exceed the memory that is free now."""
    if plan.device_map is not None:
        return  # accelerate counts, and puts the rest elsewhere
    free = free_memory(plan.device)
    weights = (
        _need(plan, plan.quantize, skeleton).weights
        if plan.published is None or plan.unpacks
        else published.stored_bytes(plan.folder)
    )
    if weights <= free:
        return
    smaller = [
        f"quantize={choice!r} ({readable(need.weights)})"
        for choice in get_args(Quantization)
        if plan.published is None
        and (need := _need(plan, choice, skeleton)).weights <= free
        and quantization.kernel_problem(choice, plan.device) is None
    ]
    raise TooLargeError(
        f"The weights take {readable(weights)} as {plan.quantize} in {_short(plan.dtype)}, and "
        f"{readable(free)} of {plan.device.type} memory are free. "
        + (f"What fits: {', '.join(smaller)}. " if smaller else "No quantization fits. ")
        + "Models that are no longer needed give memory back with unload()."
    )


def _need(plan: Plan, choice: str, skeleton: PreTrainedModel) -> Forecast:
    tokens = plan.context_length if plan.kind == "causal" else 0
    return forecast(skeleton, choice, plan.dtype, tokens, plan.device)


def _size(need: Forecast) -> str:
    caches = f" and {readable(need.kv)} of keys and values" if need.kv else ""
    return f"{readable(need.weights)} of weights{caches}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
