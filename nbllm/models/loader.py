"""From a name to a running Model: the one place that calls `from_pretrained`."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nbllm.errors import ModelError, QuantizationError, UnsupportedModelError
from nbllm.models import quantization
from nbllm.models.catalog import DEFAULT
from nbllm.models.configuration import context_length_of, kind_of
from nbllm.models.device import choose_device, choose_dtype
from nbllm.models.memory import device_memory, forecast, readable
from nbllm.models.model import Kind, Model
from nbllm.models.quantization import Quantization
from nbllm.models.quiet import quiet
from nbllm.models.sources import Fetched, fetch

__all__ = ["load", "loaded", "reload"]

_CLASSES: dict[Kind, Any] = {
    "causal": AutoModelForCausalLM,
    "classifier": AutoModelForSequenceClassification,
    "encoder": AutoModel,
}
_SHARE_OF_MEMORY = 0.7  # the rest is for activations, the data and everything else


@dataclass(frozen=True)
class _Plan:
    """All that makes two loads the same."""

    folder: Path
    revision: str
    kind: Kind
    context_length: int  # tokens
    quantize: str
    device: torch.device
    dtype: torch.dtype
    trust_remote_code: bool


@dataclass(eq=False)
class _Shared:
    """One network in memory and those who hold a share of it."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    holders: weakref.WeakSet[Model] = field(default_factory=weakref.WeakSet)
    newest: Model | None = None  # held, so that a model that was not assigned stays usable


_in_memory: dict[_Plan, _Shared] = {}  # in the order of the last load
_lock = RLock()


def load(
    name_or_path: str | Path = DEFAULT,
    *,
    quantize: str = "auto",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Load a causal model, a classifier or a sentence encoder, ready to run.

    `name_or_path` is a name of the shelf, a folder of safetensors, a .gguf file or
    `owner/name` on the Hugging Face hub. `quantize` is "none", "int8", "nf4" or "auto", which
    is decided by memory alone and says why: none if weights and keys and values of a full
    context fit in 70 % of the device's memory, else int8, else nf4. `dtype` is "fp32",
    "bf16", "fp16" or "auto": bf16 where the processor computes in it, else fp32. `revision`
    is a commit, branch or tag of the hub, else the sha256 that the weights must have.

    The same model loaded twice shares its weights; see `Model.unload`.

    Raises UnknownModelError, DownloadError, QuantizationError where there is no kernel for
    `quantize` on the device, and UnsupportedModelError for other kinds of models.

    >>> llm = load("smollm2")  # doctest: +SKIP
    >>> with load("owner/name", quantize="nf4") as model: ...  # doctest: +SKIP
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    if quantize != "auto":
        quantization.check(quantize, where)
    fetched = fetch(name_or_path, revision)
    config = _configuration(fetched, trust_remote_code)
    plan = _Plan(
        folder=fetched.folder,
        revision=fetched.revision,
        kind=kind_of(config, fetched.source),
        context_length=context_length_of(config, fetched),
        quantize=quantization.settle(quantize, config, fetched.source, where),
        device=where,
        dtype=precision,
        trust_remote_code=trust_remote_code,
    )
    if plan.quantize == "auto":
        plan, reason = _fit(plan, config)
        print(f"nbllm: {name_or_path}: {reason}")
    with _lock:
        shared = _in_memory.pop(plan, None) or _read(plan, config)
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
            _give_back=_give_back,
        )
        shared.holders.add(model)
        shared.newest = model
    return model


def loaded() -> list[Model]:
    """The models in memory, one for each network, the one loaded last at the end."""
    with _lock:
        return [shared.newest for shared in _in_memory.values() if shared.newest is not None]


def reload(provenance: Mapping[str, str]) -> Model:
    """The model of a run's record: the one in memory that matches, or loaded again.

    `provenance` is what `Model.provenance()` gave. Raises what `load` raises, and
    UnknownModelError where its source now holds other weights.
    """
    for model in reversed(loaded()):
        own = model.provenance().items()
        if all(provenance[key] == value for key, value in own if key != "name"):
            return model
    source, bits = provenance["source"], provenance["quantization"]
    where, _, name = source.partition(":")
    return load(
        {"hub": name, "pypi": provenance["name"]}.get(where, source),
        # Any other was published so, and comes back by itself.
        quantize=bits if bits in get_args(Quantization) else "auto",
        device=provenance["device"],
        dtype=provenance["dtype"],
        revision=provenance["revision"],
    )


def _give_back(model: Model) -> None:
    """Take one holder off; the network goes when the last one has gone."""
    with _lock:
        held = next((item for item in _in_memory.items() if model in item[1].holders), None)
        if held is None:  # a copy that was made by hand
            return
        plan, shared = held
        shared.holders.discard(model)
        if shared.newest is model:
            shared.newest = next(iter(shared.holders), None)
        if shared.newest is not None:
            return
        del _in_memory[plan], held, shared
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _configuration(fetched: Fetched, trust_remote_code: bool) -> PreTrainedConfig:
    try:
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                fetched.folder, trust_remote_code=trust_remote_code, local_files_only=True
            )
    except (ValueError, OSError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise UnsupportedModelError(
                f"{fetched.source} brings Python code of its own, which nbllm does not run unless "
                "told to. Read that code, then pass trust_remote_code=True."
            ) from error
        raise UnsupportedModelError(
            f"transformers cannot read the config.json of {fetched.source}: "
            f"{str(error).splitlines()[0]}. Check the file, or update transformers."
        ) from error
    return config


def _fit(plan: _Plan, config: PreTrainedConfig) -> tuple[_Plan, str]:
    """The plan with the first quantization that fits its device, and one line of why."""
    with quiet(), torch.device("meta"):
        network = _CLASSES[plan.kind].from_config(config, trust_remote_code=plan.trust_remote_code)
    tokens = plan.context_length if plan.kind == "causal" else 0
    memory = device_memory(plan.device)
    room = f"{_SHARE_OF_MEMORY:.0%} of the {readable(memory)} of {plan.device.type}"
    passed = []
    for choice in get_args(Quantization):
        need = forecast(network, choice, plan.dtype, tokens)
        size = f"{readable(need.weights)} of weights" + (
            f" and {readable(need.kv)} of keys and values" if need.kv else ""
        )
        if need.total > _SHARE_OF_MEMORY * memory:
            passed.append(f"{choice} ({size}) is too large")
        elif problem := quantization.kernel_problem(choice, plan.device):
            passed.append(f"{choice} has no kernel here ({problem})")
        else:
            numbers = str(plan.dtype).removeprefix("torch.")
            what = f"not quantized, in {numbers}" if choice == "none" else choice
            why = f"{'; '.join(passed)}; " if passed else ""
            return replace(plan, quantize=choice), f"{what}: {why}{size} fit in {room}"
    raise ModelError(
        f"This model does not fit in {room}: {'; '.join(passed)}. Take a smaller model or a "
        "device with more memory, or name a quantization to try it all the same."
    )


def _read(plan: _Plan, config: PreTrainedConfig) -> _Shared:
    """Read tokenizer and weights from the folder into memory."""
    local: dict[str, Any] = {
        "trust_remote_code": plan.trust_remote_code,
        "local_files_only": True,
    }
    of_its_own = hasattr(config, "quantization_config")
    bits = None if of_its_own else quantization.config(plan.quantize, plan.dtype)
    on_cpu = plan.device.type == "cpu" and bits is None
    # Weights that are made in inference mode could never be differentiated.
    with quiet(), torch.inference_mode(False):
        tokenizer = AutoTokenizer.from_pretrained(plan.folder, **local)
        try:
            # No attn_implementation: transformers takes sdpa, and eager for the models that
            # cannot have it, such as gemma2 with its soft-cap.
            network, report = _CLASSES[plan.kind].from_pretrained(
                plan.folder,
                config=config,
                dtype=plan.dtype,
                device_map=None if on_cpu else {"": plan.device},
                quantization_config=bits,
                use_safetensors=True,
                output_loading_info=True,
                **local,
            )
        except SafetensorError as error:
            raise ModelError(
                f"The weights in {plan.folder} are damaged ({error}). Remove them and fetch the "
                "model again."
            ) from error
        except ImportError as error:
            raise QuantizationError(
                f"The weights in {plan.folder} are quantized in a way that needs another "
                f"package: {error}"
            ) from error
    _refuse_gaps(report, plan.folder)
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{plan.folder} has no fast tokenizer (tokenizer.json), without which nbllm cannot "
            "tell which characters a token stands for."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = plan.context_length
    return _Shared(network.eval(), tokenizer)


def _refuse_gaps(report: Mapping[str, Any], folder: Path) -> None:
    """Raise where transformers would fill weights that are not in the files with noise."""
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    gaps = sorted({*missing, *(str(key) for key, *_ in report["mismatched_keys"])})
    if gaps:
        shown = ", ".join(gaps[:3]) + (f" and {len(gaps) - 3} more" if len(gaps) > 3 else "")
        raise UnsupportedModelError(
            f"The files in {folder} lack weights that the architecture needs: {shown}. Loading "
            "them would leave random numbers in their place; check that it is the whole model."
        )
