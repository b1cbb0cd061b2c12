"""A tokenizer trained on a corpus: byte-level BPE, in which any text can be written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nbllm.errors import TrainingError
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["BEGIN", "END", "train_tokenizer"]

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
_BYTES = 256


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, as GPT-2's; a text begins with BOS.

    Sennrich et al. 2016, https://arxiv.org/abs/1508.07909.

    Args:
        texts: The corpus.
        vocabulary: Tokens at most, 259 of which are single bytes and special ones.
        context: The most tokens of a text.

    Raises:
        TrainingError: The vocabulary has no room for every byte.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [BEGIN, END, PAD]
    fewest = _BYTES + len(special)
    if vocabulary < fewest:
        raise TrainingError(
            f"vocabulary={vocabulary} has no room for all {counted(_BYTES, 'byte')} and "
            f"{len(special)} special tokens. Pass {fewest} or more; some thousands do well."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context,
    )
