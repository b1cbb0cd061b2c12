"""Tokenization of texts for one model, and the ids of the answers that it may give."""

from __future__ import annotations

from typing import Any

from nbllm.checks import shown
from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.engine.prompt import Prompt
from nbllm.engine.tokenization import found_spans
from nbllm.errors import (
    ArgumentError,
    LabelError,
    SelectionError,
    TextError,
    TextTooLongError,
    UnsupportedModelError,
)
from nbllm.models.model import Model
from nbllm.wording import counted

__all__ = [
    "answer_id", "check_one_answer", "encode_prompt", "is_special", "token_id", "token_texts",
]  # fmt: skip


def encode_prompt(model: Model, text: str | Prompt, *, as_target: bool = False) -> Prompt:
    """Tokenize a text, with the tokenizer's special tokens.

    Args:
        model: The model whose tokenizer and context length count.
        text: The text; a Prompt is taken as it is.
        as_target: Tokenize it in the language that an encoder-decoder writes.

    Raises:
        TextError: The text has no tokens.
        TextTooLongError: It does not fit the model's context.
    """
    prompt = text if isinstance(text, Prompt) else _tokenize(model, text, as_target)
    count = len(prompt.ids)
    if count == 0:
        raise TextError("There is no text to read: it has no tokens. Give one that has words.")
    if count > model.context_length:
        raise TextTooLongError(
            f"The text has {counted(count, 'token')}, and {model.name} reads at most "
            f"{model.context_length:,}. Shorten it by "
            f"{counted(count - model.context_length, 'token')}."
        )
    return prompt


def token_texts(model: Model, prompt: Prompt) -> tuple[str, ...]:
    """The readable text of each token of a prompt; special tokens by their name."""
    return tuple(
        prompt.text[start:stop] or _written(model, token, special)
        for token, (start, stop), special in zip(
            prompt.ids, prompt.spans, is_special(model, prompt), strict=True
        )
    )


def is_special(model: Model, prompt: Prompt) -> tuple[bool, ...]:
    """Of each token of a prompt, whether it is special: added by the tokenizer or chat template."""
    special = set(model.tokenizer.all_special_ids)
    return tuple(token in special for token in prompt.ids)


def token_id(model: Model, token: int | str) -> int:
    """The id of a token.

    Args:
        model: The model whose vocabulary it is of.
        token: Its id, or a text that is one token. In most vocabularies a word that follows
            another begins with its space: " good".

    Raises:
        SelectionError: The id is outside of the vocabulary, or the text is several tokens.
    """
    if isinstance(token, str):
        with TOKENIZER_LOCK:
            ids = model.tokenizer(token, add_special_tokens=False).input_ids
        if len(ids) != 1:
            pieces = ", ".join(repr(model.tokenizer.decode([piece])) for piece in ids)
            raise SelectionError(
                f"{token!r} is {counted(len(ids), 'token')} of "
                f"{model.name}{': ' if ids else ''}{pieces}. Give a text that is one token, such "
                "as the first of its tokens, or an id."
            )
        return int(ids[0])
    size = model.network.config.get_text_config().vocab_size
    if not 0 <= token < size:
        raise SelectionError(
            f"token {token} is not in the vocabulary of {model.name}, which has ids 0 to "
            f"{size - 1:,}. Choose one of those."
        )
    return int(token)


def answer_id(model: Model, answer: int | str) -> int:
    """The id of a causal model's token, or the number of a classifier's class.

    Args:
        model: A causal model or a classifier.
        answer: The token, as for `token_id`; or the class, by its number or its name.

    Raises:
        SelectionError: The model has no such token or class.
        LabelError: It has no class of that name.
    """
    if model.kind == "causal":
        return token_id(model, answer)
    labels = model.network.config.id2label or {}
    names = {int(number): str(name) for number, name in labels.items()}
    if isinstance(answer, str):
        if answer not in names.values():
            raise LabelError(
                f"{model.name} has no class {answer!r}. Give one of "
                f"{', '.join(map(repr, names.values()))}."
            )
        return next(number for number, name in names.items() if name == answer)
    if answer not in names:
        raise SelectionError(
            f"class {answer} is not one of {model.name}, which has 0 to {len(names) - 1}. Choose "
            "one of those."
        )
    return answer


def check_one_answer(model: Model, function: str) -> None:
    """Check that a model answers a text with one token or class.

    Args:
        model: The model.
        function: The function that requires it, for the message.

    Raises:
        UnsupportedModelError: It is an encoder, an encoder-decoder or the like.
    """
    if model.kind not in ("causal", "classifier"):
        raise UnsupportedModelError(
            f"{model.name} is of kind {model.kind}, and {function} requires a model with one "
            "answer: a causal model or a classifier. Load one, such as nbllm.load()."
        )


def _tokenize(model: Model, text: str, as_target: bool) -> Prompt:
    if not isinstance(text, str):
        raise ArgumentError(
            f"text={shown(text)} is neither a string nor a Prompt. Pass one of them."
        )
    # Half of a surrogate pair, as pandas may read it from a broken file, is no text.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    tokenizer = model.tokenizer
    side: dict[str, Any] = {"text_target": text} if as_target else {"text": text}
    with TOKENIZER_LOCK:
        coded = tokenizer(**side, return_offsets_mapping=bool(tokenizer.is_fast), verbose=False)
    ids = tuple(coded["input_ids"])
    if tokenizer.is_fast:
        spans = [(start, stop) for start, stop in coded["offset_mapping"]]
    else:
        spans = found_spans(tokenizer.convert_ids_to_tokens(list(ids)), text)
    return Prompt(ids=ids, text=text, spans=tuple(spans), field_spans=())


def _written(model: Model, token: int, special: bool) -> str:
    if special:
        return str(model.tokenizer.convert_ids_to_tokens(token))
    return str(model.tokenizer.decode([token]))
