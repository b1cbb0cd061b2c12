"""Tensors that say they are on a GPU and are computed on the processor.

What a GPU does otherwise than a processor shows in Python before any kernel runs: tensors of two
devices do not mix, the host waits where it wants a number, and some devices have no float64. So
tensors are marked with a device here, and nothing else is changed about them. While `pretended`
is open, each function of torch checks its tensors as that device would, counts the waits, computes
on the processor, and marks what it returns.

What a function does inside is not seen: there are no kernels to choose between (sdpa, bitsandbytes,
torchao), no graphs, no other rounding and no way to run out of memory. Gradients are computed.
They could not be if the device were pretended to C++ too, as by a subclass with a dispatch of its
own: autograd asks the device for its streams, and aborts on a torch without CUDA.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

import nbllm

__all__ = ["Wait", "Waits", "move", "on_device", "pretended", "spread"]

CPU = torch.device("cpu")
PRETENDED = ("cuda", "mps")
LACK_FLOAT64 = ("mps",)
_ROOT = f"{Path(nbllm.__file__).parents[1]}/"


# Of torch.Event, for a device that is always done.
_EVENT: dict[str, Any] = {
    "record": lambda *_: None,
    "synchronize": lambda: None,
    "query": lambda: True,
    "wait": lambda *_: None,
}


@dataclass(frozen=True)
class Wait:
    """One wait of the host for the device."""

    why: str  # "item", "nonzero", "copy to the host" or "copy to the device"
    where: str  # the innermost line outside of torch, as "nbllm/engine/decoding.py:42"


@dataclass
class Waits:
    """The waits of the host since a context was opened, or since `clear`."""

    seen: list[Wait] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.seen)

    def clear(self) -> None:
        self.seen.clear()

    def within(self, folder: str) -> int:
        """How many there were in files of a folder, such as "nbllm/engine"."""
        return sum(wait.where.startswith(f"{folder}/") for wait in self.seen)

    def __str__(self) -> str:
        counted = Counter(self.seen).most_common()
        return "\n".join(f"{count} × {wait.why} at {wait.where}" for wait, count in counted)


@contextmanager
def pretended(memory: int = 24 * 10**9) -> Iterator[Waits]:
    """While it is open, there are devices of type cuda and mps in this thread.

    Yields the waits of the host.

    Args:
        memory: bytes that each device is said to have, all of them free.
    """
    waits = Waits()
    properties = SimpleNamespace(
        total_memory=memory, name="Pretended", uuid="pretended", major=7, minor=5
    )
    answers = {
        "mem_get_info": (memory, memory),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "get_device_name": "Pretended",
        "get_device_properties": properties,
        "current_device": 0,
        "is_bf16_supported": True,
    }
    of_mps = {
        "recommended_max_memory": memory,
        "current_allocated_memory": 0,
        "driver_allocated_memory": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for backend, told in ((torch.cuda, answers), (torch.mps, of_mps)):
            for name, answer in told.items():
                patch.setattr(backend, name, lambda *_, answer=answer, **__: answer)
        patch.setattr(nn.Parameter, "__new__", _new_parameter)
        # `generate` marks with these how far the device is.
        patch.setattr(torch, "Event", lambda *_, **__: SimpleNamespace(**_EVENT))
        with _Devices(waits):
            yield waits


_unmarked_parameter = nn.Parameter.__new__


def _new_parameter(cls: type, data: Any = None, requires_grad: bool = True) -> Any:
    """A parameter is where its numbers are: it is made past the mode."""
    made = _unmarked_parameter(cls, data, requires_grad)
    return _mark(made, _at(data)) if _is_tensor(data) else made


def on_device(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """A copy of a tensor on a device."""
    return _mark(tensor.detach().clone(), _device(device))


def spread(network: nn.Module, devices: Mapping[str, int]) -> None:
    """Put the parts of a network on GPUs, in place, with accelerate's hooks between them.

    As `from_pretrained` does with a `device_map`.

    Args:
        devices: the number of the GPU of each part, by its name.
    """
    move(network, devices)
    network.hf_device_map = dict(devices)
    dispatch_model(network, dict(devices), main_device=0)


def move(network: nn.Module, where: str | Mapping[str, int]) -> None:
    """Put the parameters and buffers of a network on devices, in place; tied ones stay tied.

    Args:
        where: a device for all, or the number of the GPU of each part, by its name.
    """
    moved: dict[int, torch.Tensor] = {}
    before = []  # held, so that no id is given twice
    for prefix, module in network.named_modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in list(tensors.items()):
                if tensor is None:
                    continue
                if id(tensor) not in moved:
                    before.append(tensor)
                    there = tensor.detach().clone()
                    if isinstance(tensor, nn.Parameter):
                        there = nn.Parameter(there, requires_grad=tensor.requires_grad)
                    path = f"{prefix}.{name}".removeprefix(".")
                    device = where if isinstance(where, str) else _part(where, path)
                    moved[id(tensor)] = _mark(there, _device(device))
                tensors[name] = moved[id(tensor)]


def _part(devices: Mapping[str, int], name: str) -> int:
    """The GPU of the longest part that a name begins with."""
    return devices[max((part for part in devices if f"{name}.".startswith(f"{part}.")), key=len)]


# -- marks -------------------------------------------------------------------------------------


def _device(given: Any) -> torch.device:
    device = torch.device("cuda", given) if isinstance(given, int) else torch.device(given)
    return torch.device(device.type, device.index or 0) if device.type in PRETENDED else device


def _at(tensor: torch.Tensor) -> torch.device:
    found: torch.device = vars(tensor).get("pretended_device", CPU)
    return found


def _mark(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type in LACK_FLOAT64 and tensor.dtype == torch.float64:
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
            "float64. Please use float32 instead."
        )
    if device.type in PRETENDED:
        vars(tensor)["pretended_device"] = device
    return tensor


def _is_tensor(part: Any) -> bool:
    return isinstance(part, torch.Tensor)


# -- one call ----------------------------------------------------------------------------------

_PROPERTIES: dict[Any, Callable[[torch.device], Any]] = {
    torch.Tensor.device.__get__: lambda device: device,
    torch.Tensor.is_cuda.__get__: lambda device: device.type == "cuda",
    torch.Tensor.is_mps.__get__: lambda device: device.type == "mps",
    torch.Tensor.is_cpu.__get__: lambda device: device.type == "cpu",
    torch.Tensor.get_device: lambda device: device.index,
}
_TO = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda}
# Copy numbers of the host, or those of a tensor.
_OF_DATA = {torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor}
# Take from a second tensor no more than what it is like.
_LIKE = {"expand_as", "view_as", "reshape_as", "is_same_size", "result_type", "type_as"}
# What the host cannot go on without until the device has computed it.
_WAITS = {
    **dict.fromkeys(["item", "tolist", "is_nonzero", "equal", "allclose"], "item"),
    **dict.fromkeys(["__int__", "__float__", "__bool__", "__index__", "__contains__"], "item"),
    **dict.fromkeys(["nonzero", "argwhere", "masked_select", "bincount"], "nonzero"),
    **dict.fromkeys(["unique", "unique_consecutive"], "nonzero"),
}


class _Devices(TorchFunctionMode):
    """Computes each function on the processor, as if its tensors were where they say."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self._call(func, args, dict(kwargs or {}))

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _PROPERTIES and _at(args[0]) != CPU:
            return _PROPERTIES[func](_at(args[0]))
        if func in _TO:
            return self._to(func, args, kwargs)
        if func is torch.device and isinstance(args[0], int):
            return _device(args[0])
        tensors = _tensors((args, kwargs))
        asked = None if kwargs.get("device") is None else _device(kwargs["device"])
        if all(_at(tensor) == CPU for tensor in tensors) and (asked or CPU).type not in PRETENDED:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__iter__":
            return iter(self._call(torch.Tensor.unbind, args, {}))
        if func is torch.autograd.grad:
            return _gradients(*args, **kwargs)
        if name in ("numpy", "__array__"):
            raise TypeError(
                f"can't convert {_at(args[0])} device type tensor to numpy. Use Tensor.cpu() to "
                "copy the tensor to host memory first."
            )
        device = asked or self._check(func, name, args, tensors)
        if asked is not None:
            kwargs["device"] = CPU
        if func is torch.histc:  # which a processor does for fractions alone
            args = (args[0].float(), *args[1:])
        result = func(*args, **kwargs)
        if func in _OF_DATA and result.numel():
            data = args[func is torch.Tensor.new_tensor]
            self._copied(_at(data) if _is_tensor(data) else CPU, device)
        given = set(map(id, tensors))

        def mark(part: Any) -> Any:
            made_here = _is_tensor(part) and id(part) not in given
            return _mark(part, device) if made_here else part

        return pytree.tree_map(mark, result)

    def _check(
        self, func: Any, name: str, args: tuple[Any, ...], tensors: list[torch.Tensor]
    ) -> torch.device:
        """Refuse what the devices would; where the result is."""
        if name in ("__getitem__", "__setitem__"):
            self._check_index(args[0], args[1])
            if name == "__setitem__" and _is_tensor(args[2]):
                self._check_value(*args)
            return _at(args[0])
        if name in ("copy_", "__get__", "__set__") or name in _LIKE:
            if name == "copy_":
                self._copied(_at(args[1]), _at(args[0]))
            return _at(tensors[0])
        # A number of the processor, which has no dimension, mixes with any.
        devices = {_at(tensor) for tensor in tensors if tensor.dim() or _at(tensor) != CPU}
        if len(devices) > 1:
            names = " and ".join(sorted(map(str, devices)))
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{names}! (in {name})"
            )
        if name in _WAITS or (name == "where" and len(args) == 1):
            self._wait(_WAITS.get(name, "nonzero"))
        return next(iter(devices))

    def _to(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor = args[0]
        here = _at(tensor)
        there, dtype, flags = _target(func, args, kwargs)
        non_blocking, copy = flags
        if here.type not in PRETENDED and (there is None or there.type not in PRETENDED):
            return func(*args, **kwargs)
        there = there or here
        if not non_blocking:
            self._copied(here, there)
        moved = tensor.to(dtype=dtype or tensor.dtype, copy=copy or here != there)
        return moved if moved is tensor else _mark(moved, there)

    # -- what an index does --------------------------------------------------------------------

    def _check_index(self, tensor: torch.Tensor, index: Any) -> None:
        here = _at(tensor)
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, slice):
                for bound in _tensors(part):
                    if _at(bound) != CPU:
                        self._wait("item")
            elif _is_tensor(part):
                there = _at(part)
                if not part.dim() and part.dtype != torch.bool:
                    if there != CPU:
                        self._wait("item")
                elif there not in (CPU, here):
                    raise RuntimeError(
                        "indices should be either on cpu or on the same device as the indexed "
                        f"tensor ({here})"
                    )
                elif there != here:
                    self._copied(there, here)
                elif part.dtype in (torch.bool, torch.uint8):
                    self._wait("nonzero")
            elif _lists(part):
                self._copied(CPU, here)

    def _check_value(self, tensor: torch.Tensor, index: Any, value: torch.Tensor) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        if not any(_lists(part) or (_is_tensor(part) and part.dim()) for part in parts):
            self._copied(_at(value), _at(tensor))
        elif value.dim():
            self._check(torch.Tensor.index_put_, "index_put_", (), [tensor, value])

    # -- where the host waits ------------------------------------------------------------------

    def _copied(self, here: torch.device, there: torch.device) -> None:
        """A copy between two devices is not waited for, one from or to the processor is."""
        if here != there and CPU in (here, there):
            self._wait("copy to the host" if there == CPU else "copy to the device")

    def _wait(self, why: str) -> None:
        self._waits.seen.append(Wait(why, _where()))


def _tensors(given: Any) -> list[torch.Tensor]:
    found = []
    for part in pytree.tree_leaves(given):
        if isinstance(part, slice):
            found += _tensors((part.start, part.stop, part.step))
        elif _is_tensor(part):
            found.append(part)
    return found


def _lists(part: Any) -> bool:
    """Whether an index is made a tensor, on the processor."""
    return isinstance(part, (list, range)) or (hasattr(part, "__array__") and not _is_tensor(part))


def _target(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.device | None, torch.dtype | None, tuple[bool, bool]]:
    """Where a tensor is to go and as what; whether without a wait, and as a copy in any case."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    flags = [bool(kwargs.get("non_blocking")), bool(kwargs.get("copy"))]
    given = [argument for argument in args[1:] if isinstance(argument, bool)]
    flags[: len(given)] = given
    if func is torch.Tensor.cpu:
        device = CPU
    elif func is torch.Tensor.cuda:
        device = device or "cuda"
    for argument in (*args[1:], kwargs.get("other")):
        if _is_tensor(argument):
            device, dtype = _at(argument), argument.dtype
        elif isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, (str, torch.device, int)) and not isinstance(argument, bool):
            device = argument
    return None if device is None else _device(device), dtype, (flags[0], flags[1])


def _gradients(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """`torch.autograd.grad`: each gradient is where its input is."""
    found = torch.autograd.grad(outputs, inputs, *args, **kwargs)
    inputs = (inputs,) if _is_tensor(inputs) else inputs
    return tuple(
        None if gradient is None else _mark(gradient, _at(tensor))
        for gradient, tensor in zip(found, inputs, strict=True)
    )


def _where() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name != __file__ and "/torch/" not in name:
            break
        frame = frame.f_back
    name = frame.f_code.co_filename.rpartition("site-packages/")[2]
    return f"{name.removeprefix(_ROOT)}:{frame.f_lineno}"
