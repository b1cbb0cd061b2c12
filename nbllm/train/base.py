"""The model that training starts from: a copy that nobody else is using."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nbllm.errors import TooLargeError, TrainingError
from nbllm.models.architecture import CLASSES, skeleton
from nbllm.models.configuration import (
    context_length_of,
    kind_of,
    read_configuration,
    refuse_unsized,
)
from nbllm.models.devices.device import choose_dtype
from nbllm.models.fetch.prepared import Fetched
from nbllm.models.fetch.sources import fetch
from nbllm.models.memory.budget import forecast, free_memory
from nbllm.models.memory.placement import placement
from nbllm.models.memory.plan import Plan
from nbllm.models.memory.planner import refuse_too_large, settle
from nbllm.models.model import Model
from nbllm.models.quantization import schemes as quantization
from nbllm.models.silence import quiet
from nbllm.models.weights import read_weights
from nbllm.train.loop import training_device
from nbllm.wording import byte_size

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["Base", "Lora", "adapted", "find", "head_order", "opened", "with_head"]

# Bytes of each weight that is trained, besides itself: of its gradient, and of AdamW's two means.
_GRADIENT, _MEANS = 4, 8


@dataclass(frozen=True)
class Lora:
    """A low-rank change of every linear layer. Hu et al. 2021, https://arxiv.org/abs/2106.09685."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True)
class Base:
    """A model before its weights are read."""

    name: str  # as `load` takes it
    fetched: Fetched
    config: PreTrainedConfig
    network: PreTrainedModel  # on the meta device
    plan: Plan

    @property
    def kind(self) -> str:
        """Causal, seq2seq, classifier or encoder."""
        return self.plan.kind


def find(
    which: str | Path | Model,
    *,
    quantize: str,
    full_finetune: bool | None,
    device: str | torch.device,
) -> Base:
    """Find a model to train, without reading its weights.

    Args:
        which: A name or folder as `nbllm.load` takes it, or a loaded model.
        quantize: As `nbllm.load` takes it.
        full_finetune: All weights will move, and have to be float32; None stands for True
            unless the model is causal.
        device: As `nbllm.load` takes it.

    Raises:
        ModelError: As `nbllm.load` raises it.
        TrainingError: The model is spread over devices or has an adapter, or the device is a
            GPU other than the first.
    """
    where = training_device(device)
    if isinstance(which, Model):
        if parts := placement(which.network):
            devices = " and ".join(sorted(set(parts.values())))
            raise TrainingError(
                f"{which.name} is spread over {devices}, and one "
                "device alone trains. If the model fits there with its gradients, pass its name, "
                f"model={which.name!r}; else take a smaller one."
            )
        if which.adapter is not None:
            raise TrainingError(
                f"{which.name} has an adapter ({which.adapter}), and training goes on from whole "
                "models alone. Load it with merge_adapter=True, save it, and pass that folder; or "
                "pass the model without its adapter."
            )
        if which.folder is None:
            raise TrainingError(
                f"{which.name} was not loaded from files, so no copy of it can be trained. Pass "
                "the name or folder of a model."
            )
        name = which.name
        fetched = Fetched(
            which.folder, which.source, which.revision, which.licence, which.context_length
        )
    else:
        name, fetched = str(which), fetch(which)
    if quantize != "none":
        quantization.check(quantize, where)
    config = read_configuration(fetched)
    kind = kind_of(config, fetched.source)
    refuse_unsized(config, fetched.source)
    full_finetune = kind != "causal" if full_finetune is None else full_finetune
    network = skeleton(config, kind)
    plan, _ = settle(
        Plan(
            folder=fetched.folder,
            revision=fetched.revision,
            kind=kind,
            context_length=context_length_of(config, fetched),
            quantize=quantize,
            device=where,
            dtype=torch.float32 if full_finetune else choose_dtype("auto", where),
        ),
        config,
        network,
        fetched.source,
    )
    return Base(name, fetched, config, network, plan)


def opened(base: Base) -> Model:
    """Read the model with weights of its own, which are not shared with `nbllm.load`.

    Args:
        base: The model, as `find` returned it.

    Raises:
        TooLargeError: Its weights do not fit.
        ModelError: They cannot be read.
    """
    refuse_too_large(base.plan, base.network)
    network, tokenizer = read_weights(base.plan, base.config, base.network, base.fetched)
    return Model(
        network=network,
        tokenizer=tokenizer,
        kind=base.plan.kind,
        name=base.name,
        source=base.fetched.source,
        revision=base.fetched.revision,
        quantization=base.plan.quantize,
        context_length=base.plan.context_length,
        licence=base.fetched.licence,
        folder=base.fetched.folder,
    )


def standing_bytes(base: Base, lora: Lora | None) -> dict[str, int]:
    """Bytes that training holds all the time: weights, gradients, optimizer."""
    weights = forecast(base.network, base.plan.quantize, base.plan.dtype, 0, base.plan.device)
    moving = base.network.num_parameters() if lora is None else lora_parameters(base.network, lora)
    return {
        "weights": weights.weights + (0 if lora is None else 4 * moving),
        "gradients": _GRADIENT * moving,
        "optimizer": _MEANS * moving,
    }


def refuse_unless_fits(base: Base, lora: Lora | None) -> None:
    """Raise TooLargeError where not even one row can be learned from."""
    parts = standing_bytes(base, lora)
    need, free = sum(parts.values()), free_memory(base.plan.device)
    if need <= free:
        return
    listed = ", ".join(f"{byte_size(size)} of {name}" for name, size in parts.items())
    less = (
        "Take method='lora', which trains few weights, or method='qlora', which packs the others "
        "in 4 bits"
        if lora is None
        else "Take method='qlora', which packs the weights in 4 bits"
        if base.plan.quantize == "none"
        else "Give memory back with unload()"
    )
    raise TooLargeError(
        f"Training {base.name} takes {byte_size(need)} before a single row is read ({listed}), and "
        f"{byte_size(free)} of {base.plan.device.type} memory are free. {less}, or a smaller "
        "model. Nothing was read."
    )


def lora_parameters(network: Any, lora: Lora) -> int:
    """Weights that a low-rank change of every linear layer of the body has."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    sizes = [
        sum(module.weight.shape)
        for module in network.base_model.modules()
        if isinstance(module, (Linear, Conv1D))
    ]
    return lora.rank * sum(sizes)


def adapted(network: PreTrainedModel, lora: Lora, seed: int) -> Any:
    """Wrap a network in peft's, whose own weights stay as they are.

    The change begins as none: A is random and B is zero.

    Args:
        network: The network.
        lora: Rank and scale of the change.
        seed: The seed of A.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(network, config)


def head_order(model: Model, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels in the order of a model's own head, where that has the same ones."""
    own = _head_labels(model)
    return own if sorted(own) == sorted(labels) else labels


def _head_labels(model: Model) -> tuple[str, ...]:
    if model.kind != "classifier":
        return ()
    config: Any = model.network.config
    return tuple(str(config.id2label[n]) for n in range(config.num_labels))


def with_head(model: Model, labels: tuple[str, ...], seed: int) -> PreTrainedModel:
    """Return a classifier on an encoder's weights, with a head that is random yet.

    A classifier with the same labels in the same order keeps its head; others get a new one.

    Args:
        model: An encoder or a classifier.
        labels: The labels, in the order of the head.
        seed: The seed of the head.

    Raises:
        TrainingError: transformers has no classifier of this architecture, or the weights do
            not fit one.
    """
    import copy

    own: Any = model.network.config
    if _head_labels(model) == labels:
        own.problem_type = "single_label_classification"  # also where it gave several a text
        return model.network
    config = copy.deepcopy(own)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: n for n, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            made: PreTrainedModel = CLASSES["classifier"].from_config(config, dtype=model.dtype)
        except ValueError as error:
            raise TrainingError(
                f"transformers has no classifier of the architecture of {model.name} "
                f"({own.model_type}). Take another encoder, or a causal model."
            ) from error
    body = model.network.base_model.state_dict()
    left = made.base_model.load_state_dict(body, strict=False).missing_keys
    if any("pooler" not in key for key in left):
        raise TrainingError(
            f"The weights of {model.name} do not fit a classifier of its architecture: {left[0]} "
            "is missing. Take another encoder."
        )
    made.config.architectures = [type(made).__name__]
    moved: PreTrainedModel = made.to(model.device)  # type: ignore[arg-type]
    return moved
