"""The text of generated tokens, and the span of each in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from nbllm.engine.prompt import Prompt

__all__ = ["append_tokens"]

_LONGEST = 4  # bytes, and so byte-sized tokens, of one character


def append_tokens(prompt: Prompt, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Append generated tokens to a prompt, exactly these.

    Tokenizing their text again might give others.

    Args:
        prompt: The prompt that they were generated after.
        ids: Their ids.
        tokenizer: The model's.

    Returns:
        The prompt, its text and spans extended. Tokens that are a part of one character have the
        span of all of it; special tokens are no text, and have an empty span.
    """
    special = set(tokenizer.all_special_ids)
    text, spans = prompt.text, list(prompt.spans)
    # Some decoders drop the space before the first token, so they are shown one before it.
    context = [token for token in prompt.ids[-1:] if token not in special]
    open_: list[int] = []  # tokens that are not yet whole characters
    for place, token in enumerate(ids):
        if token in special:
            spans.append((len(text), len(text)))
            context = []
            continue
        open_.append(token)
        known = _decoded(tokenizer, context)
        piece = _decoded(tokenizer, [*context, *open_])[len(known) :]
        more = place + 1 < len(ids) and ids[place + 1] not in special
        if piece.endswith("\ufffd") and more and len(open_) < _LONGEST:
            continue
        spans += [(len(text), len(text) + len(piece))] * len(open_)
        text += piece
        context, open_ = open_, []
    return replace(prompt, ids=(*prompt.ids, *ids), text=text, spans=tuple(spans))


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
