"""Turns a plan into a network and a tokenizer: the one place that calls `from_pretrained`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer

from nbllm.errors import ModelError, QuantizationError, TooLargeError, UnsupportedModelError
from nbllm.models import adapter, quantized_copies
from nbllm.models.architecture import CLASSES, refuse_hollow
from nbllm.models.chat_template import check_chat_template
from nbllm.models.fetch.prepared import Fetched
from nbllm.models.memory.freeing import returning_freed_blocks
from nbllm.models.memory.placement import refuse_unless_computable
from nbllm.models.memory.plan import Plan
from nbllm.models.quantization import published
from nbllm.models.quantization import schemes as quantization
from nbllm.models.silence import quiet
from nbllm.wording import said

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["read_weights"]


def read_weights(
    plan: Plan, config: PreTrainedConfig, skeleton: PreTrainedModel, fetched: Fetched
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read the weights and the tokenizer of a plan into memory.

    Args:
        plan: of the load.
        config: of the model.
        skeleton: the same network on the meta device.
        fetched: where the plan's folder came from.

    Returns:
        The network and its tokenizer.

    Raises:
        ModelError: the weights are damaged.
        QuantizationError: a package is missing.
        UnsupportedModelError: weights are missing, or there is no tokenizer or one of more tokens
            than the network knows.
    """
    local: dict[str, Any] = {"trust_remote_code": plan.trust_remote_code, "local_files_only": True}
    copy = quantized_copies.copy_of(plan)
    options: dict[str, Any] = {"config": config}
    if copy is not None:
        options = {}  # it says of itself how it is quantized
    elif plan.unpacks:
        options["quantization_config"] = published.unpacked(config, fetched.source)
    elif plan.published is None and plan.quantize != "none":
        options["quantization_config"] = quantization.config(
            plan.quantize, plan.dtype, plan.device, skeleton
        )
    sparing = returning_freed_blocks() if plan.device.type == "cpu" else nullcontext()
    # Weights that were made in inference mode could never be differentiated.
    if copy is None:
        refuse_hollow(skeleton, published.stored_bytes(plan.folder), str(plan.folder))
    with quiet(), sparing, torch.inference_mode(False):
        tokenizer = _tokenizer(plan, local)
        _refuse_larger_tokenizer(tokenizer, skeleton, plan.folder)
        try:
            # No attn_implementation: transformers takes sdpa, and eager for the models that
            # cannot have it, such as gemma2 with its soft-cap.
            network, report = CLASSES[plan.kind].from_pretrained(
                copy or plan.folder,
                dtype=plan.dtype,
                device_map=_device_map(plan),
                use_safetensors=True,
                # Those are refused below, by name.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
                **local,
            )
        except SafetensorError as error:
            raise ModelError(
                f"The weights in {plan.folder} are damaged ({error}). Remove them and fetch the "
                "model again."
            ) from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise TooLargeError(
                f"Memory ran out while the weights in {plan.folder} were read. Give memory back "
                "with unload(), or take fewer bits or a smaller model."
            ) from error
        except ImportError as error:
            raise QuantizationError(
                f"The weights in {plan.folder} are quantized in a way that needs another "
                f"package: {error}"
            ) from error
        except Exception as error:  # whatever the code of 500 architectures raises on odd values
            if plan.device_map is not None:
                raise ModelError(
                    f"The model in {plan.folder} cannot be loaded with this device_map: "
                    f"{_first_sentence(error)}. Keep more of it on the devices that compute, or "
                    "take a smaller model."
                ) from error
            raise UnsupportedModelError(
                f"transformers cannot load the model in {plan.folder}: {said(error)}. Check its "
                "config.json and the files beside it."
            ) from error
        _refuse_gaps(report, plan.folder)
        refuse_unless_computable(network, plan)
    if copy is None:
        quantized_copies.keep(network, plan, fetched)
    if plan.adapter is not None:
        with quiet(), torch.inference_mode(False):
            network = adapter.apply(network, plan.adapter, merge=plan.merge_adapter)
    return network.eval(), tokenizer


def _first_sentence(error: Exception) -> str:
    """Of what transformers says; the next ones are about arguments that it would take."""
    return re.split(r"\.\s|\n", str(error).strip())[0].rstrip(".")


def _device_map(plan: Plan) -> Any:
    if plan.device_map is not None:
        return plan.device_map if isinstance(plan.device_map, str) else dict(plan.device_map)
    whole = plan.published is None and plan.quantize == "none"
    return None if whole and plan.device.type == "cpu" else {"": plan.device}


def _tokenizer(plan: Plan, local: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(plan.folder, **local)
        # What special tokens are is looked at only where they are needed.
        tokenizer("a", truncation=True, max_length=1)
        _ = len(tokenizer), tokenizer.special_tokens_map, tokenizer.all_special_ids
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers panics, which is no Exception
        raise UnsupportedModelError(
            f"The tokenizer in {plan.folder} cannot be read: {said(error)}. "
            "Save it beside the weights with `tokenizer.save_pretrained`."
        ) from error
    check_chat_template(tokenizer, plan.folder)
    # A sequence-to-sequence model's tokenizer, such as Marian's, may have no fast form.
    if not tokenizer.is_fast and plan.kind != "seq2seq":
        raise UnsupportedModelError(
            f"{plan.folder} has no fast tokenizer (tokenizer.json), without which nbllm cannot "
            "tell which characters a token stands for."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = plan.context_length
    return tokenizer


def _refuse_larger_tokenizer(
    tokenizer: PreTrainedTokenizerBase, skeleton: PreTrainedModel, folder: Path
) -> None:
    """Raise where a text can have tokens that the network has no embedding for.

    A special token that no prompt holds does no harm: no text is ever read as one. Gemma 3 has
    one for images, which its models of text alone have no row for.
    """
    rows = _embedded_tokens(skeleton)
    if rows is None:
        return
    beyond = {token: n for token, n in tokenizer.get_vocab().items() if n >= rows}
    if not beyond:
        return
    template = str(tokenizer.chat_template or "")
    named = {token for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
    unused = {
        added.content
        for added in tokenizer.added_tokens_decoder.values()
        if added.special and added.content not in named and added.content not in template
    }
    read = sorted(set(beyond) - unused, key=lambda token: beyond[token])
    if read:
        raise UnsupportedModelError(
            f"The tokenizer in {folder} has tokens up to number {max(beyond.values()):,}, such as "
            f"{read[0]!r}, and the model has embeddings for {rows:,} (0 to {rows - 1:,}). Save the "
            "tokenizer that the model was trained with, or resize the model's embeddings to "
            f"{max(beyond.values()) + 1:,} and train them."
        )


def _embedded_tokens(skeleton: PreTrainedModel) -> int | None:
    """How many tokens have an embedding; None where a network has no such table."""
    try:
        weight = getattr(skeleton.get_input_embeddings(), "weight", None)
    except (NotImplementedError, AttributeError):
        return None
    return None if weight is None else int(weight.shape[0])


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
