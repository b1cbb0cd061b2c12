"""Prompts as parts: what nbllm wrote, and what the user's rows say.

A prompt is never one string. Markup comes from the model's chat template, text from
the task or the caller, fields from the rows. Each is tokenized on its own, which gives
three things at once: the head is the same tokens for every row, so its KV is computed
once; the tokens of a row's text are known exactly; and a special token spelled out in
a review stays text and cannot end the turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.errors import TextError, TextTooLongError
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CompiledTemplate",
    "FieldSpan",
    "Part",
    "Prompt",
    "Template",
    "answer_ids",
    "chat",
    "enclosed",
    "found_spans",
    "plain",
    "with_answer",
]

# How far ahead a token is looked for in a text that the tokenizer has normalized.
_AHEAD = 16


@dataclass(frozen=True)
class Part:
    """One piece of a template.

    `markup` may hold special tokens; `text` never does, whoever wrote it; the value of a
    `field` is the name of a column.
    """

    kind: Literal["markup", "text", "field"]
    value: str


Template = tuple[Part, ...]


@dataclass(frozen=True)
class FieldSpan:
    """A run of tokens that came from one field: `ids[start:stop]`."""

    field: str
    start: int
    stop: int


@dataclass(frozen=True)
class Prompt:
    """One row's prompt, tokenized."""

    ids: tuple[int, ...]
    text: str  # all of it, as the model sees it
    spans: tuple[tuple[int, int], ...]  # character range in `text` of each token
    field_spans: tuple[FieldSpan, ...]  # where the row's own texts lie
    prefix_length: int = 0  # leading tokens that every row of the run shares


@dataclass(frozen=True)
class _Tokens:
    ids: list[int]
    spans: list[tuple[int, int]]
    text: str


def plain(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part]) -> Template:
    """A template that the model continues, opened by the tokenizer's BOS where it has one."""
    bos = tokenizer.bos_token
    with TOKENIZER_LOCK:
        opens = bos is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return (Part("markup", str(bos)), *parts) if opens else tuple(parts)


def enclosed(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part]) -> Template:
    """A template between the tokens that the tokenizer puts around a text, as encoders want it.

    Example:
        >>> enclosed(t5.tokenizer, [Part("field", "text")])  # doctest: +SKIP
        (Part(kind='field', value='text'), Part(kind='markup', value='</s>'))
    """
    with TOKENIZER_LOCK:
        whole = tokenizer("a").input_ids
    (bare,) = answer_ids(tokenizer, ["a"])
    front = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
    before, after = (
        [Part("markup", token) for token in tokenizer.convert_ids_to_tokens(ids)]
        for ids in (whole[:front], whole[front + len(bare) :])
    )
    return (*before, *parts, *after)


def chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[str, Sequence[Part]]]
) -> Template:
    """Turns of (role, parts) in the model's own chat template, open for the assistant's answer.

    The template is rendered around placeholders, so that nothing from the rows or the
    caller ever passes through it.
    """
    parts: list[Part] = []
    messages = []
    for role, content in turns:
        placeholders = []
        for part in content:
            placeholders.append(f"\ue000{len(parts)}\ue001")
            parts.append(part)
        messages.append({"role": role, "content": "".join(placeholders)})
    rendered = str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    )
    template: list[Part] = []
    for piece in rendered.split("\ue000"):
        number, closed, rest = piece.partition("\ue001")
        if closed:
            template.append(parts[int(number)])
        markup = rest if closed else piece
        if markup:
            template.append(Part("markup", markup))
    return tuple(template)


class CompiledTemplate:
    """A template whose constant parts are tokenized, ready to take rows."""

    def __init__(self, template: Template, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._named: list[str] = []  # the field in each place; one may come twice
        # Alternates constants and fields: constants[0], named[0], constants[1], ...
        self._constants: list[_Tokens] = []
        self._leads: list[str] = []
        constant: list[Part] = []
        for part in template:
            if part.kind != "field":
                constant.append(part)
                continue
            lead = self._close(constant, before_field=True)
            self._leads.append(lead)
            self._named.append(part.value)
            constant = []
        self._close(constant, before_field=False)

    @property
    def fields(self) -> list[str]:
        """The names of the fields, each once, in the order in which they first come."""
        return list(dict.fromkeys(self._named))

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The tokens that every prompt starts with."""
        return tuple(self._constants[0].ids)

    @property
    def own_length(self) -> int:
        """Tokens of every prompt that are not a row's: instruction, examples and markup."""
        return sum(len(constant.ids) for constant in self._constants)

    def encode(
        self, rows: Sequence[Sequence[str]], *, limit: int, truncate: bool = False
    ) -> list[Prompt | Exception]:
        """Tokenize rows into prompts; a row that cannot be is its exception.

        Args:
            rows: one string a field, in the order of `fields`.
            limit: tokens that a prompt may have.
            truncate: cut the end of a row's longest field to fit, instead of failing it.

        Returns:
            As many as rows: a `Prompt`, or the exception that the row raised
            (`TextTooLongError` where it does not fit).
        """
        place = {name: n for n, name in enumerate(self.fields)}
        columns = [
            self._tokenize_field([lead + row[place[name]] for row in rows])
            for lead, name in zip(self._leads, self._named, strict=True)
        ]
        return [
            self._assemble([column[r] for column in columns], limit, truncate)
            for r in range(len(rows))
        ]

    def _close(self, parts: list[Part], *, before_field: bool) -> str:
        """Tokenize a run of constant parts; return the space that belongs to the next field.

        BPE vocabularies hold " good", not " " and "good": a space in front of a field has to
        be tokenized with it.
        """
        lead = ""
        if before_field and parts and parts[-1].value.endswith(" ") and parts[-1].kind == "text":
            parts = [*parts[:-1], Part("text", parts[-1].value[:-1])]
            lead = " "
        pieces = []
        for kind, run in groupby(parts, key=lambda part: part.kind):
            text = "".join(part.value for part in run)
            if text:
                pieces += self._read_constant(text, special=kind == "markup")
        self._constants.append(_join(pieces))
        return lead

    def _read_constant(self, text: str, *, special: bool) -> list[_Tokens]:
        try:
            return _tokenize(self.tokenizer, [text], special=special)
        except Exception as error:
            raise TextError(
                f"the tokenizer cannot read {text!r:.80}, which every prompt has ({error}). Look "
                "for half a surrogate pair in the instruction, examples or labels."
            ) from error

    def _tokenize_field(self, texts: list[str]) -> list[_Tokens | Exception]:
        try:
            return list(_tokenize(self.tokenizer, texts, special=False)) if texts else []
        except Exception as error:
            if len(texts) == 1:
                return [TextError(f"the tokenizer cannot read this text ({error})")]
            return [answer for text in texts for answer in self._tokenize_field([text])]

    def _assemble(
        self, fields: list[_Tokens | Exception], limit: int, truncate: bool
    ) -> Prompt | Exception:
        values: list[_Tokens] = []
        for value in fields:
            if isinstance(value, Exception):
                return value
            values.append(value)
        constant = self.own_length
        total = constant + sum(len(v.ids) for v in values)
        if total > limit:
            if not truncate:
                return TextTooLongError(
                    f"the prompt has {counted(total, 'token')} and the model takes {limit:,} here; "
                    "pass truncate=True to cut the text, or split it"
                )
            if constant >= limit:
                return TextTooLongError(
                    f"the instruction and examples alone have {counted(constant, 'token')} of the "
                    f"{limit:,} that the model takes here; shorten them"
                )
            values = _shorten(values, limit - constant)
        pieces = [self._constants[0]]
        field_spans = []
        position = len(pieces[0].ids)
        for name, value, after in zip(self._named, values, self._constants[1:], strict=True):
            field_spans.append(FieldSpan(name, position, position + len(value.ids)))
            position += len(value.ids) + len(after.ids)
            pieces += [value, after]
        joined = _join(pieces)
        return Prompt(
            ids=tuple(joined.ids),
            text=joined.text,
            spans=tuple(joined.spans),
            field_spans=tuple(field_spans),
            prefix_length=len(self._constants[0].ids) if values else 0,
        )


def answer_ids(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> list[list[int]]:
    """The tokens of answers as they would continue a prompt.

    Raises:
        TextError: the tokenizer cannot read one of them.
    """
    try:
        with _tokenizing():
            ids: list[list[int]] = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    except Exception as error:
        raise TextError(
            f"the tokenizer cannot read one of {', '.join(map(repr, answers)):.200} ({error}). "
            "Look for half a surrogate pair in it."
        ) from error
    return ids


def with_answer(prompt: Prompt, answer: str, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """The prompt with the text that was written after it, marked as the field `answer`."""
    written = _tokenize(tokenizer, [answer], special=False)[0]
    joined = _join([_Tokens(list(prompt.ids), list(prompt.spans), prompt.text), written])
    return replace(
        prompt,
        ids=tuple(joined.ids),
        text=joined.text,
        spans=tuple(joined.spans),
        field_spans=(*prompt.field_spans, FieldSpan("answer", len(prompt.ids), len(joined.ids))),
    )


@contextmanager
def _tokenizing() -> Iterator[None]:
    """Turn a panic of the tokenizer into an error.

    It stops expressions of a tokenizer.json that go through a text too often, and panics, which
    is no `Exception` and would end the run of all rows.
    """
    try:
        with TOKENIZER_LOCK:
            yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TextError(str(error)) from None


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool
) -> list[_Tokens]:
    # Whether special tokens are read in a text is a switch of the tokenizer itself, which another
    # run, beside the notebook, may turn in the meantime.
    with _tokenizing():
        encoded: Any = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=not special,
            return_offsets_mapping=tokenizer.is_fast,
            return_attention_mask=False,
            verbose=False,
        )
    if not tokenizer.is_fast:
        return [
            _Tokens(ids, found_spans(tokenizer.convert_ids_to_tokens(ids), text), text)
            for ids, text in zip(encoded["input_ids"], texts, strict=True)
        ]
    return [
        _Tokens(ids, [(int(a), int(b)) for a, b in spans], text)
        for ids, spans, text in zip(
            encoded["input_ids"], encoded["offset_mapping"], texts, strict=True
        )
    ]


def found_spans(tokens: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Where tokens lie in their text, for tokenizers that do not say; empty where not found."""
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


def _join(pieces: Sequence[_Tokens]) -> _Tokens:
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    text = ""
    for piece in pieces:
        ids += piece.ids
        # What stands first, such as the prefix of all rows, is not made anew for each.
        spans += _moved(piece.spans, len(text)) if text else piece.spans
        text += piece.text
    return _Tokens(ids, spans, text)


def _moved(spans: Sequence[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    return [(start + by, stop + by) for start, stop in spans]


def _shorten(values: list[_Tokens], room: int) -> list[_Tokens]:
    """Cut the longest field until all fit: the others are usually titles and names."""
    values = list(values)
    excess = sum(len(v.ids) for v in values) - room
    while excess > 0:
        longest = max(range(len(values)), key=lambda i: len(values[i].ids))
        others = sorted((len(v.ids) for v in values), reverse=True)[1:2] or [0]
        value = values[longest]
        keep = max(len(value.ids) - excess, min(others[0], len(value.ids) - 1), 0)
        excess -= len(value.ids) - keep
        end = value.spans[keep - 1][1] if keep else 0
        values[longest] = _Tokens(value.ids[:keep], value.spans[:keep], value.text[:end])
    return values
