"""LoRA adapters: small weights that were trained on top of a model, put into it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import safe_open

from nbllm.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["apply"]


def apply(network: PreTrainedModel, folder: Path, *, merge: bool) -> PreTrainedModel:
    """The network with the adapter of `folder` in it, computed beside its weights or merged.

    Beside them a quantized model keeps its weights as they are and every pass costs a little
    more; merged they are added once, and quantized weights are rounded anew.
    Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    Raises UnsupportedModelError where the adapter belongs to another model, is of a kind that
    cannot be merged, or peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise UnsupportedModelError(
            "An adapter needs the package peft, which is not installed: pip install peft."
        )
    from peft import PeftModel

    settings: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    named = settings.get("base_model_name_or_path") or "a model that it does not name"
    alien = (
        f"The adapter in {folder} was not made for {type(network).__name__} as it was loaded: "
        f"it was trained on {named}."
    )
    free = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        adapted = PeftModel.from_pretrained(network, str(folder))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UnsupportedModelError(f"{alien} ({str(error).splitlines()[0]})") from error
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
    if not hasattr(adapted, "merge_and_unload"):
        raise UnsupportedModelError(
            f"The adapter in {folder} ({settings.get('peft_type')}) cannot be merged. Leave "
            "merge_adapter out."
        )
    return cast("PreTrainedModel", adapted.merge_and_unload(safe_merge=True))


def _left_over(folder: Path, adapted: Any) -> list[str]:
    """Tensors of the adapter's file that went nowhere; peft only warns of them."""
    from peft import get_peft_model_state_dict

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    return sorted(stored - set(get_peft_model_state_dict(adapted)))
