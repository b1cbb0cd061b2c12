"""Examples laid out as one batch of tensors: which token sees which, and what is predicted where.

Each layout returns the inputs of a network's forward, and `labels`: what its logits predict,
one for each position whose logits are kept, -100 where nothing is. They are not shifted again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from nbllm.engine.padding import pad_rows
from nbllm.engine.sharing import layer_kinds, shares_prefix
from nbllm.train.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["IGNORED", "Blocks", "HeadRows", "Layout", "PaddedRows", "SharedPrefix", "pack"]

IGNORED = -100

Batch = dict[str, Any]


class Layout(Protocol):
    """Lays examples out as a batch."""

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the inputs of the network's forward, and `labels`."""
        ...

    def tokens(self, lengths: Sequence[int]) -> int:
        """Return the number of tokens, padding too, of a batch of examples of these lengths."""
        ...


@dataclass(frozen=True)
class _Rows:
    """Examples padded to the length of the longest."""

    padding: int  # its id

    def tokens(self, lengths: Sequence[int]) -> int:
        """Return the number of tokens of a batch of examples of these lengths."""
        return max(lengths) * len(lengths)


class HeadRows(_Rows):
    """Rows for a classifier, padded on the right."""

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the inputs of the network's forward, and `labels`."""
        ids, seen = pad_rows([example.ids for example in examples], self.padding)
        return {
            "input_ids": ids,
            "attention_mask": seen.long(),
            "labels": torch.tensor([example.label for example in examples]),
        }


class PaddedRows(_Rows):
    """Prompts with their answers, padded on the left, so that all answers end at the same place."""

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the inputs of the network's forward, and `labels`."""
        ids, seen = pad_rows([example.ids for example in examples], self.padding, left=True)
        kept = max(len(example) - example.begin for example in examples) + 1
        labels = torch.full((len(examples), kept), IGNORED)
        for row, example in enumerate(examples):
            answer = example.ids[example.begin :]
            labels[row, kept - 1 - len(answer) : kept - 1] = torch.tensor(answer)
        return {
            "input_ids": ids,
            "attention_mask": seen.long(),
            "position_ids": (seen.cumsum(-1) - 1).clamp(min=0),
            "logits_to_keep": kept,
            "use_cache": False,
            "labels": labels,
        }


@dataclass(frozen=True)
class SharedPrefix:
    """Prompts that start alike, one behind the other in one sequence, after their shared prefix.

    A row sees the shared tokens and itself. So an instruction with its examples is read, and its
    gradient computed, once per batch instead of once per row; the sums are the same.
    """

    length: int  # tokens that are shared

    @staticmethod
    def suits(network: PreTrainedModel) -> bool:
        """Whether the network takes a mask of its own at every layer, and positions."""
        config = network.config
        return (
            getattr(config, "_attn_implementation", None) == "sdpa"
            and shares_prefix(network)
            and layer_kinds(config.get_text_config()) == {"full_attention"}
        )

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the inputs of the network's forward, and `labels`."""
        shared = self.length
        # The last token of an answer is only predicted, and never read.
        parts = [example.ids[shared:-1] for example in examples]
        ids = [*examples[0].ids[:shared], *(token for part in parts for token in part)]
        positions = [*range(shared), *(shared + n for part in parts for n in range(len(part)))]
        row_of = torch.tensor([-1] * shared + [r for r, part in enumerate(parts) for _ in part])
        own = row_of[:, None] == row_of
        mask = (own | (row_of == -1)).tril()
        kept, labels, start = [], [], shared
        for example, part in zip(examples, parts, strict=True):
            for place in range(example.begin, len(example)):
                kept.append(start + place - shared - 1)
                labels.append(example.ids[place])
            start += len(part)
        return {
            "input_ids": torch.tensor([ids]),
            "attention_mask": mask[None, None],
            "position_ids": torch.tensor([positions]),
            "logits_to_keep": torch.tensor(kept),
            "use_cache": False,
            "labels": torch.tensor([labels]),
        }

    def tokens(self, lengths: Sequence[int]) -> int:
        """Return the number of tokens of a batch of examples of these lengths."""
        return self.length + sum(lengths) - (self.length + 1) * len(lengths)


@dataclass(frozen=True)
class Blocks:
    """Blocks of texts that were packed end to end; a text never sees the one before it."""

    first: int  # the token that opens a text

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the inputs of the network's forward, and `labels`."""
        ids = torch.tensor([example.ids for example in examples])
        opens = ids == self.first
        opens[:, 0] = True
        text_of = opens.cumsum(-1)
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        begins = torch.where(opens, positions, 0).cummax(-1).values
        labels = torch.full_like(ids, IGNORED)
        within = text_of[:, 1:] == text_of[:, :-1]
        labels[:, :-1] = torch.where(within, ids[:, 1:], IGNORED)
        mask = (text_of[:, :, None] == text_of[:, None, :]).tril()
        return {
            "input_ids": ids,
            "attention_mask": mask[:, None],
            "position_ids": positions - begins,
            "use_cache": False,
            "labels": labels,
        }

    def tokens(self, lengths: Sequence[int]) -> int:
        """Return the number of tokens of a batch of examples of these lengths."""
        return sum(lengths)


def pack(texts: Sequence[Sequence[int]], context: int) -> Iterator[Example]:
    """Pack texts end to end into blocks of `context` tokens, across the ends of blocks.

    What is left over at the end and fills no block is not used.

    Args:
        texts: The token ids of each text.
        context: Tokens per block.

    Example:
        >>> [block.ids for block in pack([(1, 5, 2), (1, 6, 7, 2)], 3)]
        [(1, 5, 2), (1, 6, 7)]
    """
    block: list[int] = []
    for text in texts:
        block += text
        while len(block) >= context:
            yield Example(tuple(block[:context]), 1)
            block = block[context:]
