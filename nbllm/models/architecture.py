"""The transformers class of each kind of model, and its network without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nbllm.errors import UnsupportedModelError
from nbllm.models.kind import Kind
from nbllm.models.silence import quiet
from nbllm.wording import counted, said, with_article

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForQuestionAnswering,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        modeling_utils,  # noqa: F401
    )

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["CLASSES", "refuse_hollow", "skeleton"]

_MOST_IN_A_BYTE = 16  # weights; those of one bit are eight

CLASSES: dict[Kind, Any] = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "classifier": AutoModelForSequenceClassification,
    "encoder": AutoModel,
    "extractive_qa": AutoModelForQuestionAnswering,
}


def skeleton(
    config: PreTrainedConfig, kind: Kind, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Return the network on the meta device: every shape is known and nothing is allocated.

    Args:
        config: of the model.
        kind: decides its class.
        trust_remote_code: whether the checkpoint's own code may run.

    Raises:
        UnsupportedModelError: transformers cannot build it from this configuration.
    """
    try:
        with quiet(), torch.device("meta"):
            network: PreTrainedModel = CLASSES[kind].from_config(
                config, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # whatever the code of 500 architectures raises on odd values
        raise UnsupportedModelError(
            f"transformers cannot build {with_article(kind)} model from this config.json "
            f"({config.model_type}): {said(error)}. Check the file, or update transformers."
        ) from error
    return network


def refuse_hollow(network: PreTrainedModel, held: int, where: str) -> None:
    """Refuse a network that its files cannot hold, in whose place random weights would be made.

    Args:
        network: on the meta device.
        held: bytes of the files.
        where: what the message calls them.

    Raises:
        UnsupportedModelError: it has more weights than that many bytes can.
    """
    weights = network.num_parameters()
    if weights > _MOST_IN_A_BYTE * held:
        raise UnsupportedModelError(
            f"{where} states a network of {counted(weights, 'weight')}, and its files have only "
            f"{counted(held, 'byte')}. Check that it is the whole model."
        )
