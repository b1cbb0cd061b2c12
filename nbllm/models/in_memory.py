"""The models that this process holds: who shares a network, and when its memory is freed."""

from __future__ import annotations

import gc
import os
import secrets
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING

from nbllm.activity.jobs import jobs
from nbllm.activity.processes import DeviceMemory, HeldModel, announce
from nbllm.errors import ModelError
from nbllm.models.memory.budget import held_by_device
from nbllm.models.memory.freeing import give_device_memory_back, give_freed_memory_back

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from nbllm.models.memory.plan import Plan
    from nbllm.models.model import Model
    from nbllm.models.openvino import Pipeline

__all__ = ["hold", "holders", "loaded", "unload"]


@dataclass(eq=False)
class _Shared:
    """One network in memory, and the models that share it."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pipeline: Pipeline | None
    holders: weakref.WeakSet[Model] = field(default_factory=weakref.WeakSet)
    newest: Model | None = None  # held, so that a model that was not assigned stays usable
    key: str = field(default_factory=lambda: secrets.token_hex(4))  # by which others name it


_in_memory: dict[Plan, _Shared] = {}  # in the order of the last load
_lock = RLock()
if hasattr(os, "register_at_fork"):  # whoever holds it is not there in a process that was forked
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def hold(
    plan: Plan,
    read: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase, Pipeline | None]],
    make: Callable[..., Model],
) -> Model:
    """Return a model with a share of the network of a plan, which is read where it is not yet.

    Args:
        plan: decides which network it is.
        read: reads the network, its tokenizer and what else writes its texts into memory.
        make: makes the model of `network`, `tokenizer`, `pipeline` and `_release`.
    """
    with _lock:
        shared = _in_memory.pop(plan, None) or _Shared(*read())
        _in_memory[plan] = shared
        model = make(
            network=shared.network,
            tokenizer=shared.tokenizer,
            pipeline=shared.pipeline,
            _release=_release,
        )
        shared.holders.add(model)
        shared.newest = model
    _announce()
    return model


def loaded() -> list[Model]:
    """Return the models in memory, one per network, the one loaded last at the end."""
    with _lock:
        return [shared.newest for shared in _in_memory.values() if shared.newest is not None]


def holders(model: Model) -> int:
    """Return how many models share a network.

    Args:
        model: one of them.
    """
    with _lock:
        shares = (s.holders for s in _in_memory.values() if model in s.holders)
        return len(next(shares, ()))


def unload(key: str) -> None:
    """Remove a network from memory by the key under which this process announced it.

    All models that share it are unloaded, as by `Model.unload`. JupyterLab's panel has the
    kernel call this.

    Args:
        key: of the network.

    Raises:
        ModelError: there is none of that key, or a run in the background uses it.
    """
    with _lock:
        sharing = [list(s.holders) for s in _in_memory.values() if s.key == key]
    if not sharing:
        raise ModelError(
            f"No model with the key {key!r} is in memory: it was unloaded already, or another "
            "kernel holds it. The panel shows it as it is now."
        )
    names = {model.name for model in sharing[0]}
    for job in jobs():
        if job.state == "running" and job.owner.is_this and job.model in names:
            raise ModelError(
                f"{job.model} answers {job.verb!r} in the background. Cancel that job or wait for "
                "its end, then unload."
            )
    for model in sharing[0]:
        model.unload()


def _release(model: Model) -> None:
    """Remove a model from those that share its network; the last one frees it."""
    if _was_the_last(model):
        gc.collect()
        give_freed_memory_back()
        give_device_memory_back()
    _announce()


def _was_the_last(model: Model) -> bool:
    """Remove a model from those that share its network, and return whether it was the last."""
    with _lock:
        held = next((item for item in _in_memory.items() if model in item[1].holders), None)
        if held is None:  # a copy that was made by hand
            return False
        plan, shared = held
        shared.holders.discard(model)
        if shared.newest is model:
            shared.newest = next(iter(shared.holders), None)
        if shared.newest is not None:
            return False
        del _in_memory[plan]
    return True


def _announce() -> None:
    """Publish the models of this process to the others."""
    with _lock:
        held = [
            _held(shared, shared.newest)
            for shared in _in_memory.values()
            # Another thread may be about to give it back.
            if shared.newest is not None and shared.newest.loaded
        ]
        # To ask a device that holds nothing would cost some of its memory, for a context.
        used = sorted({device for model in held for device in model.bytes_by_device})
        announce(held, [_accelerator(device) for device in used if device.startswith("cuda")])


def _held(shared: _Shared, model: Model) -> HeldModel:
    spread = held_by_device(shared.network)
    return HeldModel(
        key=shared.key,
        name=model.name,
        quantization=model.quantization,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        bytes=sum(spread.values()),
        shares=len(shared.holders),
        bytes_by_device=spread,
    )


def _accelerator(device: str) -> DeviceMemory:
    import torch

    free, total = torch.cuda.mem_get_info(device)
    identity = getattr(torch.cuda.get_device_properties(device), "uuid", device)
    return DeviceMemory(device=device, identity=str(identity), total=total, free=free)
