"""OpenVINO GenAI as the engine of a model's texts: whether it can be, and its pipeline.

It reads the GGUF file that the model was converted from, repacked, and computes with weights and
activations in 8 bits. The network in torch stays beside it, for all that is no text.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.models.memory.budget import kv_bytes

if TYPE_CHECKING:
    from types import ModuleType

    from transformers import PreTrainedConfig

    from nbllm.models.memory.plan import Plan

__all__ = [
    "Pipeline",
    "is_installed",
    "open_pipeline",
    "refuse_unless_installed",
    "refuse_unless_plain",
]

_PACKAGE = "openvino-genai"
_GIGABYTE = 2**30
_INSTEAD = "Leave text_engine= out, so that torch writes the texts."

# As OpenVINO calls the dtype in which it computes attention, and keeps keys and values.
_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_BATCH = 16384  # tokens, for whose keys and values there is room at least


@dataclass(frozen=True)
class Pipeline:
    """A model that OpenVINO has read.

    Attributes:
        file: The GGUF file.
        version: OpenVINO GenAI's, as a run's record holds it.
        batching: Its `ContinuousBatchingPipeline`.
    """

    file: Path
    version: str
    batching: Any


def is_installed() -> bool:
    """Return whether OpenVINO GenAI is installed; it is not imported."""
    return importlib.util.find_spec("openvino_genai") is not None


def refuse_unless_installed() -> None:
    """Refuse text_engine="openvino" where it is not there.

    Raises:
        ModelError: OpenVINO GenAI is not installed.
    """
    if not is_installed():
        raise ModelError(
            "text_engine='openvino' needs OpenVINO GenAI, which is not installed. Install it with "
            "pip install 'nbllm[openvino]'."
        )


def refuse_unless_plain(plan: Plan, config: PreTrainedConfig, source: str) -> None:
    """Refuse a model that OpenVINO would compute otherwise than torch does.

    Args:
        plan: of the load.
        config: of the model.
        source: of the model, for messages.

    Raises:
        UnsupportedModelError: it is no causal model, on another device, quantized, has an adapter,
            or stretches its positions.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    problems = {
        f"is {plan.kind}, not a causal model": plan.kind != "causal",
        f"was put on {plan.device}, and OpenVINO writes on the processor": (
            plan.device.type != "cpu" or plan.device_map is not None
        ),
        "has an adapter, which OpenVINO does not read": plan.adapter is not None,
        f"would be quantized to {plan.quantize}, and OpenVINO takes the weights of the GGUF file "
        "as they are, which quantize='none' is nearest to": plan.quantize != "none",
        # Its reader takes no notice of such a scaling, and would write something else in silence.
        "stretches its positions for long texts, which OpenVINO's reader of GGUF leaves out": (
            rope.get("rope_type", "default") != "default"
        ),
    }
    problem = next((text for text, holds in problems.items() if holds), None)
    if problem is not None:
        raise UnsupportedModelError(
            f"text_engine='openvino' cannot be had for {source}, which {problem}. {_INSTEAD}"
        )


def open_pipeline(file: Path | None, plan: Plan, config: PreTrainedConfig, source: str) -> Pipeline:
    """Return a model that OpenVINO has read from a GGUF file, which takes some seconds.

    It computes with as many threads as torch does now. What it computes for a text must not depend
    on the other texts of a batch. So keys and values are not kept in 8 bits, OpenVINO's default,
    where several tokens share a scale; prompts are read whole, since where one is split would
    depend on the room that others leave; and none finds its beginning in the cache, since one
    text of eight was another when it was asked again.

    Args:
        file: the repacked GGUF file; None where the model comes from none.
        plan: of the load.
        config: of the model.
        source: of the model, for messages.

    Raises:
        UnsupportedModelError: there is no file, or OpenVINO does not read it.
    """
    if file is None:
        raise UnsupportedModelError(
            f"text_engine='openvino' reads GGUF files, and {source} is none. Give a .gguf file, "
            f"or 'owner/name/file.gguf' of the hub. {_INSTEAD}"
        )
    with _unobserved():
        import openvino_genai
    scheduling = openvino_genai.SchedulerConfig()
    held = kv_bytes(config, plan.dtype, max(_BATCH, plan.context_length))
    scheduling.cache_size = math.ceil(held / _GIGABYTE)
    scheduling.enable_prefix_caching = False
    scheduling.dynamic_split_fuse = False
    scheduling.max_num_batched_tokens = max(_BATCH, plan.context_length)
    properties = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": _PRECISIONS[plan.dtype],
        "KV_CACHE_PRECISION": _PRECISIONS[plan.dtype],
    }
    try:
        batching = openvino_genai.ContinuousBatchingPipeline(
            str(file), scheduling, "CPU", properties
        )
    except Exception as error:  # whatever its reader raises on what it does not know
        # Behind the line of its source code.
        why = str(error).strip().rpartition("\n")[2]
        raise UnsupportedModelError(
            f"OpenVINO GenAI {_version()} cannot read {source} from GGUF: {why}. {_INSTEAD}"
        ) from error
    return Pipeline(file, f"{_PACKAGE} {_version()}", batching)


def _version() -> str:
    return importlib.metadata.version(_PACKAGE)


@contextmanager
def _unobserved() -> Iterator[None]:
    """Hide openvino-telemetry: importing openvino would report that to Google Analytics.

    openvino then takes a stand-in that sends nothing, as where the package is not installed.
    """
    name = "openvino_telemetry"
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    before = modules.get(name)
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]
        if before is not None:
            modules[name] = before
