"""Tokenization of single pieces of a prompt, with the characters of each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.errors import TextError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nbllm.models.model import Model

__all__ = [
    "Tokens", "eos_token_ids", "found_spans", "join", "shorten", "special_token_id", "tokenize",
    "tokenizing",
]  # fmt: skip

# How far ahead a token is looked for in a text that the tokenizer has normalized.
_AHEAD = 16


@dataclass(frozen=True)
class Tokens:
    """A tokenized piece of text."""

    ids: list[int]
    spans: list[tuple[int, int]]  # character range in `text` of each token
    text: str


@contextmanager
def tokenizing() -> Iterator[None]:
    """Hold the tokenizer's lock, and turn a panic of the tokenizer into an error.

    It stops expressions of a tokenizer.json that go through a text too often, and panics, which
    is no `Exception` and would end the run of all rows.

    Raises:
        TextError: the tokenizer panicked.
    """
    try:
        with TOKENIZER_LOCK:
            yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TextError(str(error)) from None


def special_token_id(
    tokenizer: PreTrainedTokenizerBase, role: Literal["bos", "eos", "mask", "pad"]
) -> int | None:
    """Return the id of a tokenizer's special token; None where it has none."""
    found: Any = getattr(tokenizer, f"{role}_token_id")
    return None if found is None else int(found)


def eos_token_ids(model: Model) -> tuple[int, ...]:
    """Return the ids of the tokens with which a model ends its output."""
    stated: Any = model.network.generation_config.eos_token_id
    end = special_token_id(model.tokenizer, "eos") if stated is None else stated
    return tuple(token for token in (end if isinstance(end, list) else [end]) if token is not None)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool
) -> list[Tokens]:
    """Tokenize texts without special tokens around them.

    Args:
        tokenizer: of the model.
        texts: the pieces.
        special: whether special tokens that are spelled out in a text are read as such.
    """
    # Whether special tokens are read in a text is a switch of the tokenizer itself, which another
    # run, beside the notebook, may turn in the meantime.
    with tokenizing():
        encoded: Any = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=not special,
            return_offsets_mapping=bool(tokenizer.is_fast),
            return_attention_mask=False,
            verbose=False,
        )
    if not tokenizer.is_fast:
        return [
            Tokens(ids, found_spans(tokenizer.convert_ids_to_tokens(ids), text), text)
            for ids, text in zip(encoded["input_ids"], texts, strict=True)
        ]
    return [
        Tokens(ids, [(int(a), int(b)) for a, b in spans], text)
        for ids, spans, text in zip(
            encoded["input_ids"], encoded["offset_mapping"], texts, strict=True
        )
    ]


def found_spans(tokens: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Return the characters of each token, for tokenizers that do not say; empty where not found.

    Args:
        tokens: as the tokenizer spells them.
        text: of which they are the tokens.

    Example:
        >>> found_spans(["\u2581A", "\u2581film", "."], "A film.")
        [(0, 1), (2, 6), (6, 7)]
    """
    spans = []
    position = 0
    for token in tokens:
        piece = token.replace("\u2581", " ").strip()
        start = text.find(piece, position, position + len(piece) + _AHEAD) if piece else -1
        if start >= 0:
            spans.append((start, start + len(piece)))
            position = start + len(piece)
        else:
            spans.append((position, position))
    return spans


def join(pieces: Sequence[Tokens]) -> Tokens:
    """Return the tokens of pieces one after the other.

    Args:
        pieces: in order.

    Example:
        >>> join([Tokens([5], [(0, 1)], "A"), Tokens([7], [(0, 2)], " b")])
        Tokens(ids=[5, 7], spans=[(0, 1), (1, 3)], text='A b')
    """
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    text = ""
    for piece in pieces:
        ids += piece.ids
        # What stands first, such as the prefix of all rows, is not made anew for each.
        by = len(text)
        spans += [(start + by, stop + by) for start, stop in piece.spans] if by else piece.spans
        text += piece.text
    return Tokens(ids, spans, text)


def shorten(values: list[Tokens], room: int) -> list[Tokens]:
    """Cut the longest piece until all fit: the others are usually titles and names.

    Args:
        values: pieces.
        room: tokens that all of them may have together.
    """
    values = list(values)
    excess = sum(len(v.ids) for v in values) - room
    while excess > 0:
        longest = max(range(len(values)), key=lambda i: len(values[i].ids))
        others = sorted((len(v.ids) for v in values), reverse=True)[1:2] or [0]
        value = values[longest]
        keep = max(len(value.ids) - excess, min(others[0], len(value.ids) - 1), 0)
        excess -= len(value.ids) - keep
        end = value.spans[keep - 1][1] if keep else 0
        values[longest] = Tokens(value.ids[:keep], value.spans[:keep], value.text[:end])
    return values
