"""Reads a model's own files: its kind, its sizes and its context length."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from nbllm.checks import shown
from nbllm.errors import ModelError, NbllmError, UnsupportedModelError
from nbllm.models.fetch.prepared import Fetched
from nbllm.models.kind import Kind
from nbllm.models.sizes import largest, stated, text_config
from nbllm.storage.json_file import read_object
from nbllm.wording import said, with_article

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["context_length_of", "kind_of", "read_configuration", "refuse_unsized"]

# What configurations call the tokens that their network takes.
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
# The RoBERTa family numbers positions from the padding's id on, so some are never used.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


def read_configuration(fetched: Fetched, trust_remote_code: bool = False) -> PreTrainedConfig:
    """Return the configuration in a model's folder.

    Args:
        fetched: the model.
        trust_remote_code: whether the checkpoint's own code may run.

    Raises:
        UnsupportedModelError: transformers does not know the architecture, a size is none, or the
            checkpoint brings code of its own and `trust_remote_code` is off.
    """
    from transformers import AutoConfig

    from nbllm.models.silence import quiet

    try:
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                fetched.folder, trust_remote_code=trust_remote_code, local_files_only=True
            )
            _refuse_odd(config, fetched.source)
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except Exception as error:  # whatever the code of 500 architectures raises on odd values
        if "trust_remote_code" in str(error):
            raise UnsupportedModelError(
                f"{fetched.source} brings Python code of its own, which nbllm does not run unless "
                "told to. Read that code, then pass trust_remote_code=True."
            ) from error
        raise UnsupportedModelError(
            f"transformers cannot read the config.json of {fetched.source}: "
            f"{said(error)}. Check the file, or update transformers."
        ) from error
    return config


# Those of which a network has none, or at least one. What configurations of other names have,
# transformers gives by these.
_SIZES = (
    "head_dim", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "vocab_size",
)  # fmt: skip


def _refuse_odd(config: PreTrainedConfig, source: str) -> None:
    """Raise UnsupportedModelError where a configuration states a size that is none."""
    architectures = config.architectures
    named = architectures if isinstance(architectures, (list, tuple, type(None))) else [None]
    if not all(isinstance(name, str) for name in named or ()):
        raise UnsupportedModelError(
            f"the config.json of {source} states architectures={shown(architectures)}, which is no "
            "list of names. Check the file, or load another model."
        )
    for name in _SIZES:
        for size in stated(text_config(config), name):
            if type(size) is not int or size < 0:
                raise UnsupportedModelError(
                    f"the config.json of {source} ({config.model_type}) states "
                    f"{name}={shown(size)}, which is no size. Check the file, or load another "
                    "model."
                )


_NAMELESS = "a model whose config.json names no architecture"


def kind_of(config: PreTrainedConfig, source: str) -> Kind:
    """Return the kind of model that an architecture makes.

    Args:
        config: of the model.
        source: names it in the message.

    Raises:
        UnsupportedModelError: it is of no kind that nbllm runs.
    """
    architecture = (config.architectures or [""])[0]
    if config.is_encoder_decoder and architecture.endswith(
        ("ForConditionalGeneration", "MTModel", "LMHeadModel")
    ):
        return "seq2seq"
    if not config.is_encoder_decoder:
        if architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
        if architecture.endswith("ForSequenceClassification"):
            return "classifier"
        if architecture.endswith("ForQuestionAnswering"):
            return "extractive_qa"
        if architecture.endswith(("ForMaskedLM", "Model")):
            return "encoder"
    raise UnsupportedModelError(
        f"{source} is {with_article(architecture) if architecture else _NAMELESS}, which "
        "nbllm cannot run yet. It runs causal language models (…ForCausalLM), encoder-decoders "
        "(T5, BART, Marian: …ForConditionalGeneration), classifiers (…ForSequenceClassification), "
        "encoders (BertModel, …ForMaskedLM and the like) and extractive question answering "
        "(…ForQuestionAnswering)."
    )


def refuse_unsized(config: PreTrainedConfig, source: str) -> None:
    """Refuse a configuration that does not say how large its network is.

    Args:
        config: of the model.
        source: names it in the message.

    Raises:
        UnsupportedModelError: naming what is missing.
    """
    text = text_config(config)
    missing = [name for name in ("hidden_size", "num_hidden_layers") if not largest(text, name)]
    if missing:
        raise UnsupportedModelError(
            f"the config.json of {source} ({config.model_type}) states no "
            f"{' and no '.join(missing)}, which nbllm needs to plan memory. Check the file, or "
            "load another model."
        )


def context_length_of(config: PreTrainedConfig, fetched: Fetched) -> int:
    """Return the context length in tokens: the least that the model's files state.

    Args:
        config: of the model.
        fetched: the model.

    Raises:
        UnsupportedModelError: that is no length.
    """
    if fetched.context_length is not None:
        return fetched.context_length
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in _POSITIONS)
    positions = next((found for found in named if _is_positive(found)), sys.maxsize)
    if text.model_type in _POSITIONS_AFTER_PADDING and type(text.pad_token_id) is int:
        positions -= text.pad_token_id + 1
    limits = [
        _limit(fetched.folder / "tokenizer_config.json", "model_max_length"),
        _limit(fetched.folder / "sentence_bert_config.json", "max_seq_length"),
    ]
    length = int(min(positions, *limits))
    if length < 1:
        raise UnsupportedModelError(
            f"{fetched.source} can read no token at all: {positions:,} positions are left by its "
            f"config.json, and the limits beside it are {limits}. Check the files."
        )
    return length


def _limit(file: Path, key: str) -> float:
    value = read_object(file, error=ModelError).get(key) if file.is_file() else None
    return value if _is_positive(value) else math.inf


def _is_positive(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
