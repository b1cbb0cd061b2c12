"""Decides how a model is loaded, before any weight is read."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, get_args

import torch

from nbllm.errors import QuantizationError, TooLargeError, UnsupportedModelError
from nbllm.models.devices.cards import Card, Where, called
from nbllm.models.memory.budget import (
    LOAD_SHARE,
    MemoryNeed,
    device_memory,
    devices_alike,
    experts_of,
    forecast,
    free_memory,
    kv_bytes,
    weight_bytes,
)
from nbllm.models.memory.plan import Plan
from nbllm.models.quantization import published
from nbllm.models.quantization import schemes as quantization
from nbllm.models.quantization.schemes import Quantization
from nbllm.wording import byte_size, counted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["refuse_too_large", "settle"]

# In the order in which they are tried. int8 is the more exact one; but on CUDA bitsandbytes has
# the host wait in each of its layers, to look for outliers, so that it writes slower than nf4.
_AUTO: tuple[Quantization, ...] = ("none", "int8", "nf4")
_AUTO_ON_CUDA: tuple[Quantization, ...] = ("none", "nf4", "int8")
_EXPERTS = (
    "Most of its weights are experts, which no quantization here changes; a checkpoint that was "
    "published quantized is smaller"
)
_WHY_NF4 = "nf4 comes before int8, which is more exact and slower on CUDA"

# Tokens of context: for how many of them there has to be room before weights are quantized, and
# for how many at least before a model is refused. A longer context is lowered to what has room.
_USUAL, _LEAST, _STEP = 8192, 1024, 256
_ENDLESS = 10**9  # what a model takes that states no limit


def settle(
    plan: Plan,
    config: PreTrainedConfig,
    skeleton: PreTrainedModel,
    source: str,
    why_dtype: str | None = None,
    card: Card | None = None,
) -> tuple[Plan, str | None]:
    """Return the plan with its quantization decided, and why, in one line, where nbllm decided it.

    Where weights, keys and values of a usual context fit and those of a full one do not, the plan
    has a shorter context.

    Args:
        plan: of the load.
        config: of the model.
        skeleton: its network on the meta device.
        source: names it in messages.
        why_dtype: why its dtype was chosen, in a sentence, where that has to be said.
        card: plan for this one, which need not be here, instead of the plan's device.

    Raises:
        QuantizationError: the checkpoint is quantized otherwise, or the device has no kernel for
            it.
        TooLargeError: nothing fits.
    """
    where: Where = plan.device if card is None else card
    try:
        plan, reason = _settled(plan, config, skeleton, source, where)
    except (TooLargeError, QuantizationError) as error:
        if why_dtype is None:
            raise
        raise type(error)(f"{error} {why_dtype}") from error
    return plan, ". ".join(part for part in (reason, why_dtype) if part) or None


def _settled(
    plan: Plan, config: PreTrainedConfig, skeleton: PreTrainedModel, source: str, where: Where
) -> tuple[Plan, str | None]:
    plan = replace(plan, published=published.published(config))
    if plan.published is not None:
        return _as_published(plan, config, skeleton, source, where)
    if plan.quantize == "auto" and _offloads(plan):
        return replace(plan, quantize="none"), (
            f"not quantized, in {_short(plan.dtype)}: device_map= puts some of it where quantized "
            "weights cannot be computed with"
        )
    if plan.quantize == "auto":
        return _first_that_fits(plan, skeleton, where)
    if quantization.keeps_attention(skeleton, plan.quantize, where):
        return plan, (
            f"{plan.quantize}, with attention in {_short(plan.dtype)}, which a model as small as "
            "this needs to keep its answers"
        )
    return plan, None


def _offloads(plan: Plan) -> bool:
    """Return whether a map puts weights on disk, or in main memory beside a GPU."""
    if plan.device_map is None or isinstance(plan.device_map, str):
        return False
    places = {place for _, place in plan.device_map}
    return "disk" in places or ("cpu" in places and len(places) > 1)


def _as_published(
    plan: Plan, config: PreTrainedConfig, skeleton: PreTrainedModel, source: str, where: Where
) -> tuple[Plan, str | None]:
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
        quantization.check(plan.published, where, plan.dtype)
    elif problem := published.kernel_problem(config, where):
        raise QuantizationError(
            f"{source} was published quantized ({plan.published}), and its weights cannot stay so "
            f"on {called(where)} here: {problem}. quantize='none' unpacks them where the format "
            "allows it, which takes several times the memory; or take the unquantized model."
        )
    lowered = ""
    if plan.quantize == "auto":
        plan, lowered = _beside_published(plan, skeleton, where)
    if plan.published in published.RUN_UNPACKED:
        return replace(plan, quantize="none"), (
            f"published as {plan.published}, which transformers runs only unpacked: into "
            f"{_short(plan.dtype)}{lowered}"
        )
    reason = f"{plan.published}, as it was published{lowered}"
    return replace(plan, quantize=str(plan.published)), reason


def _beside_published(plan: Plan, skeleton: PreTrainedModel, where: Where) -> tuple[Plan, str]:
    """The plan with a context that fits beside weights that are as they are; a word on it."""
    try:
        kept = "none" if plan.published in published.RUN_UNPACKED else "published"
        weights = weight_bytes(skeleton, kept, plan.dtype, where)
    except UnsupportedModelError:  # which does not say how many bits a weight has
        weights = published.stored_bytes(plan.folder)
    memory, spread = _memory(plan, where), _spread(plan, where)
    memory_of_all = _memory(spread, where) if spread else 0
    least = 0
    if plan.kind == "causal":
        least = kv_bytes(skeleton.config, plan.dtype, min(plan.context_length, _LEAST))
    if weights + least > memory:
        over = ", or spread it with device_map='auto'" if weights + least <= memory_of_all else ""
        raise TooLargeError(
            f"The weights take {byte_size(weights)} as they were published ({plan.published}), and "
            f"{_name(plan, where)} has {byte_size(memory)}. Take a smaller model or a device with "
            f"more memory{over}."
        )
    fitting, lowered = _lowered(plan, skeleton, max(LOAD_SHARE * memory - weights, least))
    if lowered and spread:
        longest = _longest(
            skeleton, plan.dtype, plan.context_length, LOAD_SHARE * memory_of_all - weights
        )
        if longest > fitting.context_length:
            lowered += f" (device_map='auto' has room for {longest:,})"
    return fitting, lowered


@dataclass(frozen=True)
class _Fit:
    """A quantization with which a model fits."""

    plan: Plan
    need: MemoryNeed
    lowered: str  # to which context, if it is; as a part of a sentence
    passed: list[str]  # why others were not taken


def _first_that_fits(plan: Plan, skeleton: PreTrainedModel, where: Where) -> tuple[Plan, str]:
    """The plan with the first quantization that fits its device, and one line of why."""
    room = _room(plan, where)
    fit = _search(plan, skeleton, where)
    if isinstance(fit, _Fit):
        choice = fit.plan.quantize
        what = f"not quantized, in {_short(plan.dtype)}" if choice == "none" else choice
        why = f"{'; '.join(fit.passed)}; " if fit.passed else ""
        more = ""
        if fit.passed or fit.lowered:  # else more devices hold no more of it
            over = _over_all(plan, skeleton, where, (choice, fit.plan.context_length))
            more = f". {over}" if over else ""
        return fit.plan, f"{what}{fit.lowered}: {why}{_size(fit.need)} fit in {room}{more}"
    over = _over_all(plan, skeleton, where)
    sentences = [
        f"This model does not fit in {room}: {'; '.join(fit)}",
        *([_EXPERTS] if any(experts_of(skeleton)) else []),
        *([over] if over else []),
        f"Take a smaller model or a device with more memory{_attempt(plan, skeleton, where)}",
    ]
    raise TooLargeError(". ".join(sentences) + ".")


def _search(plan: Plan, skeleton: PreTrainedModel, where: Where) -> _Fit | list[str]:
    """The first quantization that fits, with as long a context as has room; else why none does."""
    room = LOAD_SHARE * _memory(plan, where)
    takes = plan.context_length if plan.kind == "causal" else 0
    passed: list[str] = []
    for tokens in sorted({min(takes, _USUAL), min(takes, _LEAST)}, reverse=True):
        passed = []
        for choice in _order(where):
            need = forecast(skeleton, choice, plan.dtype, tokens, where)
            if need.total > room:
                passed.append(f"{choice} ({_size(need)}) is too large")
            elif problem := quantization.kernel_problem(choice, where, plan.dtype):
                passed.append(f"{choice} has no kernel here ({problem})")
            else:
                if choice == "nf4" and where.type == "cuda":
                    passed.append(_WHY_NF4)
                fitting, lowered = _lowered(plan, skeleton, room - need.weights)
                if lowered and choice == "none":
                    smaller = forecast(skeleton, "nf4", plan.dtype, 0, where).weights
                    more = _longest(skeleton, plan.dtype, takes, room - smaller)
                    lowered += f" (nf4 has room for {more:,})"
                kept = fitting.context_length if takes else 0
                need = forecast(skeleton, choice, plan.dtype, kept, where)
                return _Fit(replace(fitting, quantize=choice), need, lowered, passed)
    return passed


def _lowered(plan: Plan, skeleton: PreTrainedModel, room: float) -> tuple[Plan, str]:
    """The plan with as long a context as its keys and values have room for, and a word on it."""
    takes = plan.context_length
    longest = _longest(skeleton, plan.dtype, takes, room) if plan.kind == "causal" else takes
    if longest == takes:
        return plan, ""
    of = f" of {takes:,}" if takes < _ENDLESS else ""
    shorter = replace(plan, context_length=longest)
    return shorter, f", context lowered to {counted(longest, 'token')}{of}"


def _longest(skeleton: PreTrainedModel, dtype: torch.dtype, takes: int, room: float) -> int:
    """The most tokens whose keys and values have room: all that a model takes, or whole steps."""
    if kv_bytes(skeleton.config, dtype, takes) <= room:
        return takes
    steps = range(1, -(-takes // _STEP))
    size = partial(kv_bytes, skeleton.config, dtype)
    return _STEP * bisect_right(steps, room, key=lambda step: size(step * _STEP))


def _over_all(
    plan: Plan, skeleton: PreTrainedModel, where: Where, on_one: tuple[str, int] | None = None
) -> str:
    """Say what fits over all devices of that kind; empty for one, or where no more fits.

    `on_one` is the quantization and the context that fit on one of them, if any do.
    """
    spread = _spread(plan, where)
    if spread is None:
        return ""
    fit = _search(spread, skeleton, where)
    if not isinstance(fit, _Fit):
        return f"It does not fit in {_room(spread, where)} either"
    if (fit.plan.quantize, fit.plan.context_length) == on_one:
        return ""
    what = "not quantized" if fit.plan.quantize == "none" else fit.plan.quantize
    return (
        f"With device_map='auto' it fits in {_room(spread, where)}: {what}{fit.lowered}, "
        f"{_size(fit.need)}"
    )


def _attempt(plan: Plan, skeleton: PreTrainedModel, where: Where) -> str:
    """A quantization that takes more than its share of what is free, as a part of a sentence."""
    tokens = min(plan.context_length, _LEAST) if plan.kind == "causal" else 0
    spread = _spread(plan, where)
    for tried in (plan,) if spread is None else (plan, spread):
        share = LOAD_SHARE * _memory(tried, where)
        free = sum(map(free_memory, _devices(tried, where)))
        for choice in _order(where):
            if (
                share < forecast(skeleton, choice, plan.dtype, tokens, where).total <= free
                and quantization.kernel_problem(choice, where, plan.dtype) is None
            ):
                over = " and device_map='auto'" if tried is spread else ""
                return (
                    f", or pass quantize={choice!r}{over} to try it in more than {LOAD_SHARE:.0%} "
                    "of the memory"
                )
    return ""


def _order(where: Where) -> tuple[Quantization, ...]:
    return _AUTO_ON_CUDA if where.type == "cuda" else _AUTO


def _spread(plan: Plan, where: Where) -> Plan | None:
    """The plan over all devices of that kind; None where it is spread, or there is but one."""
    if plan.device_map is not None or len(devices_alike(where)) < 2:
        return None
    return replace(plan, device_map="auto")


def _room(plan: Plan, where: Where) -> str:
    return f"{LOAD_SHARE:.0%} of the {byte_size(_memory(plan, where))} of {_name(plan, where)}"


def _name(plan: Plan, where: Where) -> str:
    """Return the devices that the plan puts the model on, as messages name them."""
    name = where.name if isinstance(where, Card) else where.type
    count = len(_devices(plan, where))
    if count > 1:
        return f"{count} x {name}"
    return name if _spread(plan, where) is None else f"one of {len(devices_alike(where))} x {name}"


def _memory(plan: Plan, where: Where) -> int:
    """Return the bytes that the devices of the plan have together."""
    return sum(map(device_memory, _devices(plan, where)))


def _devices(plan: Plan, where: Where) -> list[Where]:
    if plan.device_map is None:
        return [where]
    if isinstance(plan.device_map, str):
        return devices_alike(where)
    named = {f"cuda:{place}" if isinstance(place, int) else place for _, place in plan.device_map}
    return [torch.device(place) for place in named if place != "disk"]


def refuse_too_large(plan: Plan, skeleton: PreTrainedModel) -> None:
    """Refuse a plan whose weights alone exceed the free memory.

    Args:
        plan: of the load.
        skeleton: its network on the meta device.

    Raises:
        TooLargeError: saying what would fit.
    """
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
        f"quantize={choice!r} ({byte_size(need.weights)})"
        for choice in get_args(Quantization)
        if plan.published is None
        and (need := _need(plan, choice, skeleton)).weights <= free
        and quantization.kernel_problem(choice, plan.device, plan.dtype) is None
    ]
    raise TooLargeError(
        f"The weights take {byte_size(weights)} as {plan.quantize} in {_short(plan.dtype)}, and "
        f"{byte_size(free)} of {plan.device.type} memory are free. "
        + (f"What fits: {', '.join(smaller)}. " if smaller else "No quantization fits. ")
        + "Models that are no longer needed give memory back with unload()."
    )


def _need(plan: Plan, choice: str, skeleton: PreTrainedModel) -> MemoryNeed:
    tokens = plan.context_length if plan.kind == "causal" else 0
    return forecast(skeleton, choice, plan.dtype, tokens, plan.device)


def _size(need: MemoryNeed) -> str:
    caches = f" and {byte_size(need.kv)} of keys and values" if need.kv else ""
    return f"{byte_size(need.weights)} of weights{caches}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
