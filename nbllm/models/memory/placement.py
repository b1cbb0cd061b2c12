"""The places of the parts of a network that is spread over devices, or kept on disk in part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from nbllm.checks import near, shown
from nbllm.errors import ArgumentError, ModelError, QuantizationError, UnsupportedModelError
from nbllm.models.devices.device import choose_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nbllm.models.memory.plan import Plan

__all__ = [
    "Places", "devices_of", "input_device", "is_offloaded", "is_spread", "kept_for_hooks",
    "place_all", "placement", "read_device_map", "refuse_quantized_on_disk",
    "refuse_unless_computable",
]  # fmt: skip

# The number of a CUDA device, "cpu", "mps" or "disk"; and a name by which accelerate makes the map
# itself, or modules with their places.
Place = int | str
Places = str | tuple[tuple[str, Place], ...] | None

_DISK = "disk"
_AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")


def read_device_map(device_map: Any) -> Places:
    """Return a `device_map=` with each place written in one way.

    Args:
        device_map: as `load` takes it.

    Raises:
        ArgumentError: it is no map.
        ModelError: it names a device that is not on this machine.
    """
    if device_map is None or device_map in _AUTOMATIC:
        return device_map  # type: ignore[no-any-return]
    if not isinstance(device_map, Mapping) or not all(isinstance(key, str) for key in device_map):
        raise ArgumentError(
            f"device_map={shown(device_map)} is neither one of {', '.join(_AUTOMATIC)} nor a "
            "mapping of modules to devices, such as {'model': 0, 'lm_head': 'disk'}. For a single "
            "device pass device=."
        )
    return tuple((module, _place(place)) for module, place in device_map.items())


def _place(place: Any) -> Place:
    if place == _DISK:
        return _DISK
    if isinstance(place, int) and not isinstance(place, bool) and place >= 0:
        place = f"cuda:{place}"
    named = isinstance(place, (str, torch.device))
    # "auto" is a device, but no place; the meta device has no numbers.
    device = choose_device(place) if named and str(place) not in ("auto", "meta") else None
    if device is None:
        raise ArgumentError(
            f"device_map puts a module on {shown(place)}, which is no place. Give the number of a "
            "GPU, a device such as 'cpu', or 'disk'."
        )
    return device.type if device.index is None else int(device.index)


def input_device(places: Places, device: str | torch.device) -> torch.device:
    """Return the device that tokens go to: `device`, or the first GPU of a mapping, else the CPU.

    Args:
        places: as `read_device_map` returns them.
        device: as `load` takes it.

    Raises:
        ModelError: `device` is not on this machine, or of another type than those of the mapping.
    """
    if places is None or isinstance(places, str):
        return choose_device(device)
    computing = [place for _, place in places if place not in ("cpu", _DISK)]
    numbers = [place for place in computing if isinstance(place, int)]
    first = f"cuda:{min(numbers)}" if numbers else str(next(iter(computing), "cpu"))
    found = torch.device(first)
    if device != "auto" and choose_device(device).type != found.type:
        raise ModelError(
            f"device={str(device)!r} and device_map= do not agree: with this map {first} computes. "
            "Leave device out."
        )
    return found


def place_all(places: Places, skeleton: PreTrainedModel) -> Places:
    """Return a mapping with a place for the largest modules that lie in one, none inside another.

    accelerate takes no module inside another that has a place too, and forgets about weights that
    were given one by their own name. A mapping of a single device is none at all.

    Args:
        places: as `read_device_map` returns them.
        skeleton: the network on the meta device.

    Raises:
        ModelError: it names a module that there is not, leaves weights without a place, or tears
            one weight with two names apart.
    """
    if places is None or isinstance(places, str):
        return places
    asked = dict(places)
    modules = {name for name, _ in skeleton.named_modules()}
    known = modules | {name for name, _ in _tensors(skeleton)}
    if strange := [name for name in asked if name not in known]:
        raise ModelError(
            f"device_map= names {strange[0]!r}, and {type(skeleton).__name__} has no such module. "
            f"{near(strange[0], sorted(known))}Its largest are "
            f"{', '.join(name for name, _ in skeleton.named_children())}."
        )
    found = {name: _of(name, asked) for name, _ in _tensors(skeleton)}
    if left := [name for name, place in found.items() if place is None]:
        raise ModelError(
            f"device_map= gives no place to {left[0]}"
            f"{f' and {len(left) - 1:,} more' if len(left) > 1 else ''}. Name a module that holds "
            "it, or '' for all the rest."
        )
    names: dict[int, list[str]] = {}
    for name, weight in skeleton.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    for tied in names.values():
        if len({found[name] == _DISK for name in tied}) > 1:
            raise ModelError(
                f"{' and '.join(tied)} are one weight under {len(tied)} names, and device_map= "
                "puts it on disk under one and not under another. Give all the same place."
            )
    parts = _by_module(found)
    return None if len(parts) == 1 and _DISK not in parts.values() else tuple(parts.items())


def refuse_quantized_on_disk(plan: Plan) -> None:
    """Refuse a mapping that puts quantized weights on disk, before anything is read.

    Args:
        plan: of the load.

    Raises:
        QuantizationError: it does.
    """
    mapped = isinstance(plan.device_map, tuple) and _DISK in dict(plan.device_map).values()
    if mapped and _is_quantized(plan):
        raise QuantizationError(
            "Quantized weights cannot be computed with from disk. Leave 'disk' out of device_map=, "
            "or load a model that was not published quantized, with quantize='none'."
        )


def refuse_unless_computable(network: PreTrainedModel, plan: Plan) -> None:
    """Refuse a network of which some weights would be arbitrary numbers.

    A weight on the meta device that no hook of accelerate's fills stays there, and what is computed
    with it is whatever lies in memory, without an error.

    Args:
        network: as it was read.
        plan: of the load.

    Raises:
        ModelError: naming a weight that no hook brings back.
        QuantizationError: quantized weights were offloaded.
        UnsupportedModelError: an adapter is to go on weights that are offloaded.
    """
    if not is_offloaded(network):
        return
    if lost := next(_lost(network), None):
        raise ModelError(
            f"device_map= offloads {lost} in a way that would not bring it back to compute with. "
            f"Give all weights of the module {lost.rpartition('.')[0]!r} the same place."
        )
    if _is_quantized(plan):
        raise QuantizationError(
            "There is not enough memory on the devices for all of the model, and quantized weights "
            "cannot be offloaded. Give memory back with unload(), or take fewer bits or a smaller "
            "model."
        )
    if plan.adapter is not None:
        raise UnsupportedModelError(
            "An adapter goes on weights that are in memory, and device_map= offloads some of "
            "them. Load it where the model fits, or merge it into the model once "
            "(merge_adapter=True, then network.save_pretrained) and load that folder."
        )


def _is_quantized(plan: Plan) -> bool:
    return plan.published is not None or plan.quantize != "none"


def is_spread(network: PreTrainedModel) -> bool:
    """Return whether accelerate moves weights or activations while the network computes.

    Args:
        network: of a loaded model.
    """
    return getattr(network, "_hf_hook", None) is not None


def is_offloaded(network: PreTrainedModel) -> bool:
    """Return whether some weights are on disk or in main memory, and not where they are used.

    Args:
        network: of a loaded model.
    """
    return any(tensor.device.type == "meta" for _, tensor in _tensors(network))


def placement(network: PreTrainedModel) -> dict[str, str]:
    """Return the places of the parts of a network; nothing where it lies on one device.

    Parts are named by the largest modules that lie in one place, so that one spread has one name,
    however the map was written that made it.

    Args:
        network: of a loaded model.

    Example:
        >>> placement(llm.network)  # doctest: +SKIP
        {'lm_head': 'disk', 'model': 'cuda:0'}
    """
    places: dict[str, Any] | None = getattr(network, "hf_device_map", None)
    if not places or not is_spread(network):
        return {}
    stated = {name: _of(name, places) for name, _ in _tensors(network)}
    parts = _by_module(
        {name: f"cuda:{n}" if isinstance(n, int) else str(n) for name, n in stated.items()}
    )
    if len(parts) == 1 and _DISK not in parts.values():
        return {}
    return {name: str(parts[name]) for name in sorted(parts)}


def devices_of(places: Mapping[str, str], otherwise: str) -> str:
    """Return the devices of a `placement` in words.

    Args:
        places: as `placement` returns them.
        otherwise: is returned where there are none.

    Example:
        >>> devices_of({"lm_head": "disk", "model": "cuda:0"}, "cuda")
        'cuda:0 and disk'
    """
    return " and ".join(sorted(set(places.values()))) or otherwise


def kept_for_hooks(network: PreTrainedModel) -> Iterator[torch.Tensor]:
    """Yield the weights in main memory that hooks bring to the device that computes; none on disk.

    Args:
        network: of a loaded model.
    """
    maps = {id(kept): kept for kept in map(_weights_of, network.modules()) if kept is not None}
    for kept in maps.values():
        yield from getattr(kept, "state_dict", kept).values()


def _weights_of(module: torch.nn.Module) -> Any:
    """Return where the hook of a module finds what is offloaded; None without such a hook."""
    found = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
    return getattr(found, "dataset", found)  # one for all modules, with their names before


def _by_module(places: Mapping[str, Place]) -> dict[str, Place]:
    """Return the same with whole modules instead of their tensors, where these are in one place."""
    if len(set(places.values())) == 1:
        return {"": next(iter(places.values()))}
    parts: dict[str, dict[str, Place]] = {}
    for name, place in places.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = place
    return {
        f"{first}.{rest}".rstrip("."): place
        for first, part in parts.items()
        for rest, place in _by_module(part).items()
    }


def _of(name: str, places: Mapping[str, Any]) -> Any:
    """Return the place of the innermost module that holds a tensor; None where there is none."""
    while name not in places and name:
        name = name.rpartition(".")[0]
    return places.get(name)


def _tensors(network: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def _lost(network: PreTrainedModel) -> Iterator[str]:
    """Yield the tensors on the meta device that no hook of accelerate's fills."""
    from accelerate.utils import has_offloaded_params  # type: ignore[import-untyped]

    for module_name, module in network.named_modules():
        own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        away = [name for name, tensor in own if tensor.device.type == "meta"]
        if not away:
            continue
        hook: Any = module._hf_hook if has_offloaded_params(module) else None
        kept = set() if hook is None else set(hook.weights_map)
        for name in away:
            whole = f"{module_name}.{name}".lstrip(".")
            if whole not in kept and name not in kept:
                yield whole
