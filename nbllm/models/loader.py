"""From a name to a running Model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nbllm.checks import check_choice, check_flag, check_text, reads, shown
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
from nbllm.models.fetch.sources import fetch, fetch_adapter, fetch_for_openvino
from nbllm.models.in_memory import hold, loaded
from nbllm.models.memory.placement import (
    input_device,
    place_all,
    read_device_map,
    refuse_quantized_on_disk,
)
from nbllm.models.memory.plan import Plan
from nbllm.models.memory.planner import refuse_too_large, settle
from nbllm.models.model import Model, ModelLike
from nbllm.models.openvino import (
    Pipeline,
    open_pipeline,
    refuse_unless_installed,
    refuse_unless_plain,
)
from nbllm.models.quantization import schemes as quantization
from nbllm.models.quantization.schemes import Quantization
from nbllm.models.weights import read_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["check_named", "choose", "held_as", "load", "reload", "resolve"]


_TEXT_ENGINES = ("torch", "openvino")


@reads(
    revision=check_text,
    adapter_revision=check_text,
    merge_adapter=check_flag,
    accept_license=check_flag,
    trust_remote_code=check_flag,
    text_engine=partial(check_choice, known=_TEXT_ENGINES),
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
    text_engine: str = "torch",
) -> Model:
    """Load a model: causal, encoder-decoder, classifier, sentence encoder or extractive QA.

    The same model loaded twice shares its weights; see `Model.unload`.

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
        accept_license: accept a licence that asks for it.
        trust_remote_code: run Python code that the checkpoint brings with it.
        text_engine: what writes texts: "torch", or "openvino" for OpenVINO GenAI, which is faster
            on a processor, rounds otherwise and cannot hold a text to a schema or to the words of
            its source (`pip install 'nbllm[openvino]'`). It takes causal models from a GGUF file.

    Returns:
        The model, ready to be asked.

    Raises:
        UnknownModelError: there is nothing by that name.
        DownloadError: the network, the index, the hub or the disk failed.
        LicenceError: its licence has to be accepted first.
        QuantizationError: there is no kernel for `quantize` on the device.
        TooLargeError: it does not fit in memory; nothing was read.
        UnsupportedModelError: it is of another kind, incomplete, or would run code; or
            `text_engine` cannot read it.

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
    repacked = None
    if text_engine == "openvino":
        refuse_unless_installed()
        repacked = fetch_for_openvino(name_or_path, revision, accept_license=accept_license)
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
            text_engine=text_engine,
        ),
        config,
        network,
        fetched.source,
        why_dtype,
    )
    if reason is not None:
        say(f"nbllm: {name_or_path}: {reason}")

    if text_engine == "openvino":
        refuse_unless_plain(plan, config, fetched.source)

    def read_new() -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Pipeline | None]:
        refuse_quantized_on_disk(plan)
        refuse_too_large(plan, network)
        by_openvino = text_engine == "openvino"
        pipeline = open_pipeline(repacked, plan, config, fetched.source) if by_openvino else None
        return *read_weights(plan, config, network, fetched), pipeline

    make = partial(
        Model,
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
    )
    return hold(plan, read_new, make)


def choose(model: ModelLike | None = None) -> Model:
    """Return the model given, else the one loaded last that can be asked, else the default one.

    Args:
        model: a model or its name.

    Raises:
        NbllmError: as `resolve` does.
    """
    if model is not None:
        return resolve(model)
    # A sentence encoder is loaded beside the model that answers, for search and the like.
    able = [candidate for candidate in loaded() if candidate.kind != "encoder"]
    return (able or [load()])[-1]


def resolve(model: ModelLike) -> Model:
    """Return a model that is given itself or by its name: loaded last by that name, else now.

    Args:
        model: a model or its name.

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
    """Refuse a value that is neither a model nor may name one, before anything is loaded.

    Args:
        argument: its name, for the message.
        model: the value.

    Raises:
        ArgumentError: naming the argument.
    """
    if isinstance(model, Model) or (isinstance(model, (str, Path)) and str(model).strip()):
        return
    raise ArgumentError(
        f"{argument}={shown(model)} is neither a model nor the name of one. Pass what nbllm.load() "
        f"returned, or what it takes, such as {DEFAULT!r}."
    )


def reload(provenance: Mapping[str, str]) -> Model:
    """Return the model of a run's record: the one in memory that matches, or loaded again.

    Args:
        provenance: as `Model.provenance` returned it.

    Raises:
        UnknownModelError: its source now holds other weights.
        NbllmError: whatever else `load` raises.
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
        text_engine="openvino" if "text_engine" in provenance else "torch",
    )


def held_as(provenance: Mapping[str, str]) -> Model | None:
    """Return the model in memory of a run's record; None where there is none.

    Args:
        provenance: as `reload` takes it.
    """
    wanted = {key: value for key, value in provenance.items() if key != "name"}
    for model in reversed(loaded()):
        if {key: v for key, v in model.provenance().items() if key != "name"} == wanted:
            return model
    return None


def _name_in(source: str, of_catalog: str = "") -> str:
    """Return the name by which `load` finds a source again."""
    where, _, name = source.partition(":")
    return {"hub": name, "pypi": of_catalog}.get(where, source)
