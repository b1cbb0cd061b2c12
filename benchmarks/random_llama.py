"""A LLaMA of random weights, written as a checkpoint that `nbllm.load` takes.

Speed and memory do not depend on what the weights are, so none need be downloaded. They are
drawn on the device and written layer by layer, each a shard of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from nbllm.data.catalog import SHIPPED_FOLDER

__all__ = ["LLAMA_8B", "Shape", "tokenizer", "write"]

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPREAD = 0.02  # standard deviation of the weights


@dataclass(frozen=True)
class Shape:
    """The sizes of a LLaMA, with an output matrix of its own."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    context: int  # tokens

    @property
    def key_width(self) -> int:
        """The width of all keys of a token."""
        return self.hidden // self.heads * self.key_heads

    @property
    def layer_weights(self) -> int:
        """Weights in the matrices of one layer."""
        attention = 2 * self.hidden * (self.hidden + self.key_width)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def flops(self) -> int:
        """Floating-point operations that the layers' matrices take for one token.

        The attention's own products are left out, and the output matrix, through which only
        the last token goes.
        """
        return 2 * self.layers * self.layer_weights

    def config(self) -> LlamaConfig:
        """What transformers builds it from."""
        return LlamaConfig(
            architectures=["LlamaForCausalLM"],
            dtype="bfloat16",
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )


LLAMA_8B = Shape(
    vocabulary=128_256,
    hidden=4096,
    intermediate=14_336,
    layers=32,
    heads=32,
    key_heads=8,
    context=8192,
)


def write(folder: Path, shape: Shape, device: torch.device) -> int:
    """Write a checkpoint in bf16, with config and tokenizer, and return the bytes of weights.

    It never ends a text by itself, so that as many tokens are written as are asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer(shape)
    words.save_pretrained(folder)
    shape.config().save_pretrained(folder)
    generator = torch.Generator(device).manual_seed(0)
    places: dict[str, str] = {}
    for number, shard in enumerate(_shards(shape, len(words), generator)):
        file = f"model-{number:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return size


def _shards(
    shape: Shape, readable: int, generator: torch.Generator
) -> Iterator[dict[str, torch.Tensor]]:
    def draw(*size: int) -> torch.Tensor:
        drawn = torch.empty(size, dtype=torch.bfloat16, device=generator.device)
        return drawn.normal_(0, _SPREAD, generator=generator)

    def ones() -> torch.Tensor:
        return torch.ones(shape.hidden, dtype=torch.bfloat16)

    yield {
        "model.embed_tokens.weight": draw(shape.vocabulary, shape.hidden),
        "model.norm.weight": ones(),
    }
    head = draw(shape.vocabulary, shape.hidden)
    # Tokens that end a text, and those that the tokenizer has no text for, are never the
    # likeliest. Not zero: products with zeros take less power, and so less time.
    head[: len(_SPECIAL)] *= 0.01
    head[readable:] *= 0.01
    yield {"lm_head.weight": head}
    for layer in range(shape.layers):
        name = f"model.layers.{layer}"
        yield {
            f"{name}.input_layernorm.weight": ones(),
            f"{name}.post_attention_layernorm.weight": ones(),
            f"{name}.self_attn.q_proj.weight": draw(shape.hidden, shape.hidden),
            f"{name}.self_attn.k_proj.weight": draw(shape.key_width, shape.hidden),
            f"{name}.self_attn.v_proj.weight": draw(shape.key_width, shape.hidden),
            f"{name}.self_attn.o_proj.weight": draw(shape.hidden, shape.hidden),
            f"{name}.mlp.gate_proj.weight": draw(shape.intermediate, shape.hidden),
            f"{name}.mlp.up_proj.weight": draw(shape.intermediate, shape.hidden),
            f"{name}.mlp.down_proj.weight": draw(shape.hidden, shape.intermediate),
        }


def tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the texts that come with nbllm: about as many tokens as a real one."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(shape.vocabulary, 8192),
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [
        json.loads(line)["text"]
        for name in ("articles", "messages", "reviews")
        for line in (SHIPPED_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    words.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=_SPECIAL[0],
        bos_token=_SPECIAL[1],
        eos_token=_SPECIAL[2],
        chat_template=_CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=shape.context,
    )
