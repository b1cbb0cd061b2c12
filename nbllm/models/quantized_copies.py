"""Quantized weights on disk: a model is quantized once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.errors import DownloadError
from nbllm.escaping import say
from nbllm.models.fetch.cache import cache_folder, require_space
from nbllm.models.fetch.prepared import Fetched, Manifest, is_prepared, prepared
from nbllm.models.memory.plan import Plan
from nbllm.models.quantization.published import stored_bytes
from nbllm.models.silence import quiet
from nbllm.wording import byte_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["copy_of", "keep"]

_FORMAT = 2  # in the folders' names: raise it when something else is written
_KEPT = ("int8", "nf4", "fp4")


def copy_of(plan: Plan) -> Path | None:
    """Return the folder with the quantized weights of a plan, if an earlier load kept them.

    Args:
        plan: of the load.
    """
    folder = _folder(plan)
    return folder if folder is not None and is_prepared(folder) else None


def keep(network: PreTrainedModel, plan: Plan, fetched: Fetched) -> None:
    """Write the quantized weights where `copy_of` finds them, and say so.

    Where the disk has no room for them, that is said and nothing is written.

    Args:
        network: as it was quantized.
        plan: of the load.
        fetched: the model that it comes from.
    """
    folder = _folder(plan)
    if folder is None:
        return

    def make(staging: Path) -> Manifest:
        network.save_pretrained(staging)
        return Manifest(fetched.source, fetched.revision, fetched.licence, fetched.context_length)

    try:
        # A bound: quantized weights are the smaller ones.
        require_space(folder.parent, stored_bytes(plan.folder), "Keeping quantized weights")
        with quiet():
            prepared(folder, make)
    except DownloadError as error:
        say(f"nbllm: the {plan.quantize} weights are not kept for the next load: {error}")
        return
    say(
        f"nbllm: {plan.quantize} weights kept for the next load: "
        f"{byte_size(stored_bytes(folder))} in {folder}"
    )


def _folder(plan: Plan) -> Path | None:
    if plan.published is not None or plan.quantize not in _KEPT:
        return None
    if plan.device_map is not None or plan.trust_remote_code:
        return None
    dtype = str(plan.dtype).removeprefix("torch.")
    # bitsandbytes packs weights for the kind of device that they are quantized on.
    made_on = "" if plan.device.type == "cpu" else f"{plan.device.type}-"
    # Files of one repository share its revision.
    whose = sha256(f"{plan.folder}\n{plan.revision}".encode()).hexdigest()[:12]
    return cache_folder() / f"{plan.quantize}-{dtype}-{made_on}{whose}-v{_FORMAT}"
