"""Adapters such as LoRA: small weights that were trained on top of a model, added to it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import safe_open

from nbllm.checks import shown
from nbllm.errors import ModelError, NbllmError, UnsupportedModelError
from nbllm.models.adapter_modules import check_names, name_modules
from nbllm.models.fetch.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from nbllm.storage.json_file import read_object
from nbllm.wording import counted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["apply", "check"]

# The types of peft whose layers do all of their work inside the network, so that they are there
# in `get_base_model()` too: each gives the logits of peft's own model, which a test compares.
_INSIDE = frozenset(
    {
        "LORA", "ADALORA", "ADAMSS", "BOFT", "IA3", "BEFT", "LILY", "LOHA", "LOKR", "OFT", "VERA",
        "LN_TUNING", "FROD", "PVERA", "FOURIERFT", "GLORA", "HRA", "VBLORA", "UNILORA", "MISS",
        "RANDLORA", "ROAD", "TRAINABLE_TOKENS", "HIRA", "SHIRA", "C3A", "WAVEFT", "OSF", "DELORA",
        "GRALORA", "TINYLORA", "PSOFT", "PEANUT", "SUPERTUNING", "DEFT",
    }
)  # fmt: skip
# The whole matrices that peft saves beside its own once tokens were added.
_WHOLE_EMBEDDINGS = re.compile(
    r"(embed_tokens|lm_head|wte|word_embeddings|embed_in|embed_out)(\.base_layer)?\.weight$"
)
_MOST_LAYERS = 1000
_HIGH_RANK = 4096
# Those that put tokens, or keys and values, before what is read.
_BEFORE_THE_TEXT = frozenset(
    {
        "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE",
    }
)  # fmt: skip


def check(folder: Path, *, merge: bool) -> None:
    """Refuse an adapter that would change nothing, or something else than it was trained to.

    It reads adapter_config.json alone, before any weights.

    Args:
        folder: the adapter's.
        merge: whether it is to be merged into the weights.

    Raises:
        UnsupportedModelError: the adapter acts outside of the network's layers, cannot be merged,
            or peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise UnsupportedModelError(
            "An adapter needs the package peft, which is not installed: pip install peft."
        )
    settings = _settings(folder)
    kind = str(settings.get("peft_type"))
    other = "Load an adapter of another type, such as LoRA, or the model without it."
    if kind in _BEFORE_THE_TEXT:
        raise UnsupportedModelError(
            f"The adapter in {folder} is of type {kind}: it puts trained tokens before each text, "
            f"which nbllm's prompts have no place for, so that it would change nothing. {other}"
        )
    if kind not in _INSIDE:
        raise UnsupportedModelError(
            f"The adapter in {folder} is of type {kind}, which does not do its work inside of the "
            f"network's layers, or is not known to. {other}"
        )
    if settings.get("alora_invocation_tokens"):
        raise UnsupportedModelError(
            f"The adapter in {folder} is an activated LoRA, which begins to act at the tokens "
            f"{shown(settings['alora_invocation_tokens'])}, and nbllm's prompts do not have these. "
            f"{other}"
        )
    if settings.get("megatron_config"):
        raise UnsupportedModelError(
            f"The adapter in {folder} was trained with Megatron, for which peft imports whatever "
            f"module the adapter names. {other}"
        )
    check_names(settings, folder)
    if settings.get("layer_replication"):
        _check_replication(settings, folder)
    if merge and settings.get("layer_replication"):
        raise UnsupportedModelError(
            f"The adapter in {folder} repeats layers, which share their weights, so that it cannot "
            "be merged. Leave merge_adapter out."
        )


def _check_replication(settings: Mapping[str, Any], folder: Path) -> None:
    """Raise UnsupportedModelError where layers are repeated without end, or not as spans."""
    spans = settings["layer_replication"]
    total = 0
    for span in spans if isinstance(spans, list) else [spans]:
        if not isinstance(span, list) or [type(end) for end in span] != [int, int]:
            total = -1
            break
        total += abs(span[1] - span[0])
    if not 0 <= total <= _MOST_LAYERS or isinstance(settings.get("target_modules"), str):
        raise UnsupportedModelError(
            f"The adapter in {folder} repeats layers as {shown(spans)}. nbllm takes spans such as "
            f"[[0, 4], [2, 5]] of at most {counted(_MOST_LAYERS, 'layer')}, with target_modules as "
            "a list."
        )


def apply(network: PreTrainedModel, folder: Path, *, merge: bool) -> PreTrainedModel:
    """Return the network with an adapter in it, computed beside its weights or merged.

    Beside them a quantized model keeps its weights as they are and every pass costs a little
    more; merged they are added once, and quantized weights are rounded anew.
    Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    Args:
        network: which is changed.
        folder: the adapter's.
        merge: add it into the weights.

    Raises:
        UnsupportedModelError: the adapter belongs to another model, or is of a kind that cannot be
            merged.
    """
    from peft import PeftConfig, PeftModel

    settings = _settings(folder)
    named = settings.get("base_model_name_or_path") or "a model that it does not name"
    named = named if isinstance(named, str) and len(named) < 300 else shown(named)
    alien = (
        f"The adapter in {folder} was not made for {type(network).__name__} as it was loaded: "
        f"it was trained on {named}."
    )
    _refuse_other_vocabulary(network, folder, alien)
    _refuse_higher_rank(settings, folder)
    free = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        config = PeftConfig.from_pretrained(str(folder))
        name_modules(config, [name for name, _ in network.named_modules()], folder)
        adapted = PeftModel.from_pretrained(
            network,
            str(folder),
            config=config,
            # Nothing is allocated but what the file holds. Some ways to begin compute with it.
            low_cpu_mem_usage=settings.get("peft_type") == "LORA"
            and settings.get("init_lora_weights") in (None, True, False, "gaussian"),
        )
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except Exception as error:  # whatever peft and its layers raise on odd values
        # Of weights that do not fit, the first line says no more than that there are some.
        said = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise UnsupportedModelError(f"{alien} ({said[:300] or type(error).__name__})") from error
    left = _left_over(folder, adapted)
    if left:
        raise UnsupportedModelError(f"{alien} It has weights for {left[0]}, which is not there.")
    # Other weights on the meta device are those that accelerate has offloaded.
    named_weights = adapted.named_parameters()
    lacking = [name for name, weight in named_weights if weight.is_meta and "lora_" in name]
    if lacking:
        raise UnsupportedModelError(f"{alien} It has no weights for {lacking[0]}.")
    if not merge:
        # What peft freezes torch multiplies by row for row, where rows do not lie side by side:
        # the logits of 32 texts then took 6 s instead of 0.01.
        for weight in free:
            weight.requires_grad_(True)
        # The network itself, with the adapter's layers in place, and not peft's wrapper.
        return cast("PreTrainedModel", adapted.get_base_model())
    try:
        return cast("PreTrainedModel", adapted.merge_and_unload(safe_merge=True))
    except (NotImplementedError, ValueError) as error:
        raise UnsupportedModelError(
            f"The adapter in {folder} ({settings.get('peft_type')}) cannot be merged"
            f"{f': {error}' if str(error) else ''}. Leave merge_adapter out."
        ) from error


def _settings(folder: Path) -> dict[str, Any]:
    return read_object(folder / ADAPTER_CONFIG, error=ModelError)


def _refuse_other_vocabulary(network: PreTrainedModel, folder: Path, alien: str) -> None:
    """Raise UnsupportedModelError for embeddings of another number of tokens than the model's."""
    own = cast("torch.Tensor", network.get_input_embeddings().weight).shape[0]
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # it is no dict
            if not _WHOLE_EMBEDDINGS.search(name):
                continue
            rows = file.get_slice(name).get_shape()[0]
            if rows != own:
                raise UnsupportedModelError(
                    f"{alien} It has {name} for {counted(rows, 'token')}, and the model has "
                    f"{own:,}. Resize the model's embeddings and save it with the tokenizer that "
                    "the adapter was trained with, then load the adapter on that."
                )


def _refuse_higher_rank(settings: Mapping[str, Any], folder: Path) -> None:
    """Raise UnsupportedModelError for a rank that no weight has: peft would fill the memory."""
    rank = settings.get("r")
    # LoKr takes any that is too high for whole matrices.
    if type(rank) is not int or rank <= _HIGH_RANK or settings["peft_type"] == "LOKR":
        return
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    most = max((size for shape in shapes for size in shape), default=0)
    if rank > most:
        raise UnsupportedModelError(
            f"The adapter in {folder} states a rank of {rank:,}, and the longest side of its "
            f"weights is {most:,}. Fetch it again, or ask whoever wrote it."
        )


def _left_over(folder: Path, adapted: Any) -> list[str]:
    """Return tensors of the adapter's file that were used nowhere; peft only warns of them."""
    from peft import get_peft_model_state_dict

    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        stored = set(file.keys())
    # Told to decide by itself, it asks the hub for the vocabulary of the base that is named there.
    state = get_peft_model_state_dict(adapted, save_embedding_layers=True)
    return sorted(stored - set(state))
