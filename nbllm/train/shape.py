"""The shape of a network that is trained from random weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from nbllm.engine.tokenization import special_token_id
from nbllm.errors import TrainingError
from nbllm.models.silence import quiet
from nbllm.train.job import check_numbers
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["Shape"]


@dataclass(frozen=True)
class Shape:
    """The size of a LLaMA."""

    layers: int
    heads: int
    hidden: int
    vocabulary: int
    context: int

    def check(self) -> None:
        """Check that there can be such a network.

        Raises:
            ArgumentError: A number is out of range.
            TrainingError: The width cannot be split into the heads.
        """
        check_numbers(**asdict(self))
        if self.hidden % self.heads or self.hidden // self.heads % 2:
            raise TrainingError(
                f"hidden={self.hidden} cannot be split into {counted(self.heads, 'head')} of an "
                f"even width, which rotary positions require. Pass a multiple of {2 * self.heads}."
            )

    def network(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
        """Return a network of random weights, in float32."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            # SwiGLU has three matrices where others have two of four times the width.
            intermediate_size=-(-8 * self.hidden // 3 // 32) * 32,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=special_token_id(tokenizer, "bos"),
            eos_token_id=special_token_id(tokenizer, "eos"),
            pad_token_id=special_token_id(tokenizer, "pad"),
        )
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(seed)
            return LlamaForCausalLM(config)

    def bytes(self) -> int:
        """Bytes of weights, gradients and AdamW's means."""
        inner = -(-8 * self.hidden // 3 // 32) * 32
        layer = 4 * self.hidden**2 + 3 * self.hidden * inner + 2 * self.hidden
        return 16 * (self.layers * layer + self.vocabulary * self.hidden + self.hidden)
