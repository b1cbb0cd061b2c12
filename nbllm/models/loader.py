"""From a name to a running Model, and which models are in memory."""

from __future__ import annotations

import gc
import json
import os
import secrets
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, get_args

import torch

from nbllm.activity.jobs import jobs
from nbllm.activity.processes import DeviceMemory, HeldModel, announce
from nbllm.checks import check_flag, check_text, reads, shown
from nbllm.errors import ArgumentError, ModelError
from nbllm.escaping import say
from nbllm.models.adapter import check as check_adapter
from nbllm.models.architecture import skeleton
from nbllm.models.configuration import (
    context_length_of,
    kind_of,
    read_configuration,
    refuse_unsized,
)
from nbllm.models.devices.device import choose_dtype, reason_of_dtype
from nbllm.models.fetch.catalog import DEFAULT
from nbllm.models.fetch.sources import fetch, fetch_adapter
from nbllm.models.memory.budget import (
    give_device_memory_back,
    give_freed_memory_back,
    held_by_device,
)
from nbllm.models.memory.placement import (
    input_device,
    place_all,
    read_device_map,
    refuse_quantized_on_disk,
)
from nbllm.models.memory.plan import Plan
from nbllm.models.memory.planner import refuse_too_large, settle
from nbllm.models.model import Model, ModelLike
from nbllm.models.quantization import schemes as quantization
from nbllm.models.quantization.schemes import Quantization
from nbllm.models.weights import read

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "check_named",
    "choose",
    "held_as",
    "holders",
    "load",
    "loaded",
    "reload",
    "resolve",
    "unload",
]


@dataclass(eq=False)
class _Shared:
    """One network in memory and those who hold a share of it."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    holders: weakref.WeakSet[Model] = field(default_factory=weakref.WeakSet)
    newest: Model | None = None  # held, so that a model that was not assigned stays usable
    key: str = field(default_factory=lambda: secrets.token_hex(4))  # by which others name it


_in_memory: dict[Plan, _Shared] = {}  # in the order of the last load
_lock = RLock()
if hasattr(os, "register_at_fork"):  # whoever holds it is not there in a process that was forked
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


@reads(
    revision=check_text,
    adapter_revision=check_text,
    merge_adapter=check_flag,
    accept_license=check_flag,
    trust_remote_code=check_flag,
)
def load(
    name_or_path: str | Path = DEFAULT,
    *,
    quantize: str = "auto",
    device: str | torch.device = "auto",
    device_map: str | Mapping[str, int | str] | None = None,
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    adapter: str | Path | None = None,
    adapter_revision: str | None = None,
    merge_adapter: bool = False,
    accept_license: bool = False,
    trust_remote_code: bool = False,
) -> Model:
    """Load a causal model, an encoder-decoder, a classifier, a sentence encoder, or a reader.

    A reader answers questions with words of a text (…ForQuestionAnswering).

    Args:
        name_or_path: a name of the shelf, a folder of safetensors, a .gguf file, or
            `owner/name` on the Hugging Face hub.
        quantize: "none"; "int8", "nf4" or "fp4" (bitsandbytes); "int4" or "int8wo" (torchao);
            or "auto", which is decided by memory alone and says why: none if weights and keys
            and values of 8,192 tokens fit in 70 % of the device's memory, else int8, else nf4;
            on CUDA, where int8 is slower, nf4 before int8. Where a longer context that the model
            takes has no room, it is lowered, which the line says. A checkpoint that was published
            quantized stays as it is; "none" unpacks it. Below 500 million parameters, nf4 and fp4
            leave attention whole, and say so.
        device: "auto" is a GPU where there is one.
        device_map: spreads the layers over several GPUs, the processor and the disk, as
            accelerate does: "auto", "balanced", "sequential", or module name to device. Answers
            are those of the whole model; a map that cannot give them is refused. Quantized weights
            are not offloaded to the processor or the disk.
        dtype: "fp32", "bf16", "fp16" or "auto": bf16 where the device computes in it, and
            with int4; else fp16 on a GPU, for families of models that keep within its range;
            else fp32. Quantized layers compute in it too.
        revision: a commit, branch or tag of the hub, else the sha256 of the weights.
        adapter: a LoRA adapter on top, or another of peft's that works inside of the layers: a
            folder, or `owner/name` on the hub.
        adapter_revision: as `revision`, of the adapter.
        merge_adapter: add the adapter into the weights, which makes it cost nothing.
        accept_license: say yes to a licence that asks to be accepted.
        trust_remote_code: run Python code that the checkpoint brings with it.

    The same model loaded twice shares its weights; see `Model.unload`.

    Raises:
        UnknownModelError: there is nothing by that name.
        DownloadError: the network, the index, the hub or the disk failed.
        LicenceError: its licence has to be accepted first.
        QuantizationError: there is no kernel for `quantize` on the device.
        TooLargeError: it does not fit in memory; nothing was read.
        UnsupportedModelError: it is of another kind, incomplete, or would run code.

    Example:
        >>> llm = load("smollm2")  # doctest: +SKIP
        >>> with load("owner/name", quantize="nf4") as model: ...  # doctest: +SKIP
    """
    if isinstance(name_or_path, Model):
        raise ArgumentError(
            f"{name_or_path.name} is a model already. Use it as it is, or load its name."
        )
    check_named("name_or_path", name_or_path)
    if merge_adapter and adapter is None:
        raise ModelError("merge_adapter=True merges an adapter, and none was given as adapter=.")
    places = read_device_map(device_map)
    where = input_device(places, device)
    # Before anything is fetched; what "auto" comes to may depend on the model too.
    precision = choose_dtype(dtype, where, quantize)
    if not isinstance(quantize, str) or quantize != "auto":
        quantization.check(quantize, where, precision)
    fetched = fetch(name_or_path, revision, accept_license=accept_license)
    added = None if adapter is None else fetch_adapter(adapter, adapter_revision)
    if added is not None:
        check_adapter(added.folder, merge=merge_adapter)
    config = read_configuration(fetched, trust_remote_code)
    kind = kind_of(config, fetched.source)
    refuse_unsized(config, fetched.source)
    precision = choose_dtype(dtype, where, quantize, config)
    network = skeleton(config, kind, trust_remote_code)
    why_dtype = reason_of_dtype(where, config) if dtype == "auto" else None
    places = place_all(places, network)
    plan, reason = settle(
        Plan(
            folder=fetched.folder,
            revision=fetched.revision,
            kind=kind,
            context_length=context_length_of(config, fetched),
            quantize=quantize,
            device=where,
            dtype=precision,
            device_map=places,
            adapter=None if added is None else added.folder,
            adapter_revision=None if added is None else added.revision,
            merge_adapter=merge_adapter,
            trust_remote_code=trust_remote_code,
        ),
        config,
        network,
        fetched.source,
        why_dtype,
    )
    if reason is not None:
        say(f"nbllm: {name_or_path}: {reason}")
    with _lock:
        shared = _in_memory.pop(plan, None)
        if shared is None:
            refuse_quantized_on_disk(plan)
            refuse_too_large(plan, network)
            shared = _Shared(*read(plan, config, network, fetched))
        _in_memory[plan] = shared
        model = Model(
            network=shared.network,
            tokenizer=shared.tokenizer,
            kind=plan.kind,
            name=str(name_or_path),
            source=fetched.source,
            revision=fetched.revision,
            quantization=plan.quantize,
            context_length=plan.context_length,
            licence=fetched.licence,
            folder=fetched.folder,
            adapter=None if added is None else added.source,
            adapter_revision=plan.adapter_revision,
            adapter_folder=plan.adapter,
            merged=merge_adapter,
            _release=_release,
        )
        shared.holders.add(model)
        shared.newest = model
    _announce()
    return model


def loaded() -> list[Model]:
    """The models in memory, one for each network, the one loaded last at the end."""
    with _lock:
        return [shared.newest for shared in _in_memory.values() if shared.newest is not None]


def choose(model: ModelLike | None = None) -> Model:
    """The model given, else the one loaded last that can be asked, else the default one.

    Raises what `resolve` raises.
    """
    if model is not None:
        return resolve(model)
    # A sentence encoder is loaded beside the model that answers, for search and the like.
    able = [candidate for candidate in loaded() if candidate.kind != "encoder"]
    return (able or [load()])[-1]


def resolve(model: ModelLike) -> Model:
    """A model by itself or by its name: the one loaded last by that name, else loaded now.

    Raises:
        ArgumentError: it is neither a model nor a name.
        NbllmError: whatever `load` raises.
    """
    if isinstance(model, Model):
        return model
    check_named("model", model)
    called = [known for known in loaded() if known.name == str(model)]
    return called[-1] if called else load(model)


def check_named(argument: str, model: Any) -> None:
    """Refuse what is neither a model nor may be the name of one, before anything is loaded.

    Raises:
        ArgumentError: naming the argument.
    """
    if isinstance(model, Model) or (isinstance(model, (str, Path)) and str(model).strip()):
        return
    raise ArgumentError(
        f"{argument}={shown(model)} is neither a model nor the name of one. Pass what nbllm.load() "
        f"returned, or what it takes, such as {DEFAULT!r}."
    )


def unload(key: str) -> None:
    """Take a network out of memory by the key under which this process announced it.

    All models that share it are unloaded, as by `Model.unload`. JupyterLab's panel has the
    kernel call this.

    Raises ModelError where there is none of that key, or a run in the background uses it.
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


def holders(model: Model) -> int:
    """How many models share the network of `model`, itself among them."""
    with _lock:
        shares = (s.holders for s in _in_memory.values() if model in s.holders)
        return len(next(shares, ()))


def reload(provenance: Mapping[str, str]) -> Model:
    """The model of a run's record: the one in memory that matches, or loaded again.

    `provenance` is what `Model.provenance()` gave. Raises what `load` raises, and
    UnknownModelError where its source now holds other weights.
    """
    held = held_as(provenance)
    if held is not None:
        return held
    bits = provenance["quantization"]
    return load(
        _name_in(provenance["source"], provenance["name"]),
        # Any other was published so, and comes back by itself.
        quantize=bits if bits in get_args(Quantization) else "auto",
        device=provenance["device"],
        device_map=json.loads(provenance["device_map"]) if "device_map" in provenance else None,
        dtype=provenance["dtype"],
        revision=provenance["revision"],
        adapter=_name_in(provenance["adapter"]) if "adapter" in provenance else None,
        adapter_revision=provenance.get("adapter_revision"),
        merge_adapter=provenance.get("adapter_merged") == "yes",
    )


def held_as(provenance: Mapping[str, str]) -> Model | None:
    """The model in memory of a run's record; None where there is none.

    Args:
        provenance: as `reload` takes it.
    """
    wanted = {key: value for key, value in provenance.items() if key != "name"}
    for model in reversed(loaded()):
        if {key: v for key, v in model.provenance().items() if key != "name"} == wanted:
            return model
    return None


def _name_in(source: str, of_catalog: str = "") -> str:
    """What `load` is given to have this source again."""
    where, _, name = source.partition(":")
    return {"hub": name, "pypi": of_catalog}.get(where, source)


def _release(model: Model) -> None:
    """Take one holder off; the network goes when the last one has gone."""
    if _was_the_last(model):
        gc.collect()
        give_freed_memory_back()
        give_device_memory_back()
    _announce()


def _was_the_last(model: Model) -> bool:
    """Take one holder off, and say whether its network is to be freed now."""
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
    """Tell the other processes what this one holds now."""
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
    free, total = torch.cuda.mem_get_info(device)
    identity = getattr(torch.cuda.get_device_properties(device), "uuid", device)
    return DeviceMemory(device=device, identity=str(identity), total=total, free=free)
