"""Adapters such as LoRA: small weights that were trained on top of a model, put into it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import safe_open

from nbllm.errors import UnsupportedModelError
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
# Those that put tokens, or keys and values, before what is read.
_BEFORE_THE_TEXT = frozenset(
    {
        "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE",
    }
)  # fmt: skip


def check(folder: Path, *, merge: bool) -> None:
    """Refuse an adapter that would change nothing, or something else than it was trained to.

    It reads adapter_config.json alone, before any weights.

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
            f"{settings['alora_invocation_tokens']}, and nbllm's prompts do not have these. {other}"
        )
    if merge and settings.get("layer_replication"):
        raise UnsupportedModelError(
            f"The adapter in {folder} repeats layers, which share their weights, so that it cannot "
            "be merged. Leave merge_adapter out."
        )


def apply(network: PreTrainedModel, folder: Path, *, merge: bool) -> PreTrainedModel:
    """The network with the adapter of `folder` in it, computed beside its weights or merged.

    Beside them a quantized model keeps its weights as they are and every pass costs a little
    more; merged they are added once, and quantized weights are rounded anew.
    Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    Raises UnsupportedModelError where the adapter belongs to another model, or is of a kind that
    cannot be merged.
    """
    from peft import PeftModel

    settings = _settings(folder)
    named = settings.get("base_model_name_or_path") or "a model that it does not name"
    alien = (
        f"The adapter in {folder} was not made for {type(network).__name__} as it was loaded: "
        f"it was trained on {named}."
    )
    _refuse_other_vocabulary(network, folder, alien)
    free = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        adapted = PeftModel.from_pretrained(network, str(folder))
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
        # Of weights that do not fit, the first line says no more than that there are some.
        said = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise UnsupportedModelError(f"{alien} ({said})") from error
    left = _left_over(folder, adapted)
    if left:
        raise UnsupportedModelError(f"{alien} It has weights for {left[0]}, which is not there.")
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
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    return found


def _refuse_other_vocabulary(network: PreTrainedModel, folder: Path, alien: str) -> None:
    """Refuse embeddings of another number of tokens, as those of a tokenizer that was added to.

    Raises:
        UnsupportedModelError: the adapter has such.
    """
    own = cast("torch.Tensor", network.get_input_embeddings().weight).shape[0]
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
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


def _left_over(folder: Path, adapted: Any) -> list[str]:
    """Tensors of the adapter's file that went nowhere; peft only warns of them."""
    from peft import get_peft_model_state_dict

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    return sorted(stored - set(get_peft_model_state_dict(adapted)))
