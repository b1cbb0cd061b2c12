"""Prompts as parts: the text of a task, and the texts of the user's rows.

A prompt is never one string. Markup comes from the model's chat template, text from
the task or the caller, fields from the rows. Each is tokenized on its own, which gives
three things at once: the head is the same tokens for every row, so its KV cache is computed
once; the tokens of a row's text are known exactly; and a special token spelled out in
a review stays text and cannot end the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.engine.tokenization import Tokens, join, shorten, tokenize, tokenizing
from nbllm.errors import TextError, TextTooLongError
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CompiledTemplate", "FieldSpan", "Part", "Prompt", "Template", "answer_ids", "chat", "enclosed",
    "plain", "with_answer",
]  # fmt: skip


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

    @property
    def row_text(self) -> str:
        """The row's own texts, one per line."""
        return "\n".join(
            self.text[self.spans[field.start][0] : self.spans[field.stop - 1][1]]
            for field in self.field_spans
            if field.start < field.stop
        )


def plain(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part]) -> Template:
    """Return a template that the model continues, opened by the tokenizer's BOS where it has one.

    Args:
        tokenizer: of the model.
        parts: the prompt.
    """
    bos = tokenizer.bos_token
    with TOKENIZER_LOCK:
        opens = bos is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return (Part("markup", str(bos)), *parts) if opens else tuple(parts)


def enclosed(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part]) -> Template:
    """Return a template between the tokens that the tokenizer puts around a text, as for encoders.

    Args:
        tokenizer: of the model.
        parts: the text.

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
    """Return a conversation in the model's own chat template, open for the assistant's answer.

    The template is rendered around placeholders, so that nothing from the rows or the
    caller ever passes through it.

    Args:
        tokenizer: of the model, with a chat template.
        turns: (role, parts) of each message.
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
    """A template whose constant parts are tokenized, ready to take rows.

    Args:
        template: the parts.
        tokenizer: of the model.

    Raises:
        TextError: the tokenizer cannot read a constant part.
    """

    def __init__(self, template: Template, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._named: list[str] = []  # the field in each place; one may come twice
        # Alternates constants and fields: constants[0], named[0], constants[1], ...
        self._constants: list[Tokens] = []
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
        """Tokenize rows into prompts.

        Args:
            rows: one string per field, in the order of `fields`.
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
        self._constants.append(join(pieces))
        return lead

    def _read_constant(self, text: str, *, special: bool) -> list[Tokens]:
        try:
            return tokenize(self.tokenizer, [text], special=special)
        except Exception as error:
            raise TextError(
                f"the tokenizer cannot read {text!r:.80}, which every prompt has ({error}). Look "
                "for half a surrogate pair in the instruction, examples or labels."
            ) from error

    def _tokenize_field(self, texts: list[str]) -> list[Tokens | Exception]:
        try:
            return list(tokenize(self.tokenizer, texts, special=False)) if texts else []
        except Exception as error:
            if len(texts) == 1:
                return [TextError(f"the tokenizer cannot read this text ({error})")]
            return [answer for text in texts for answer in self._tokenize_field([text])]

    def _assemble(
        self, fields: list[Tokens | Exception], limit: int, truncate: bool
    ) -> Prompt | Exception:
        values: list[Tokens] = []
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
            values = shorten(values, limit - constant)
        pieces = [self._constants[0]]
        field_spans = []
        position = len(pieces[0].ids)
        for name, value, after in zip(self._named, values, self._constants[1:], strict=True):
            field_spans.append(FieldSpan(name, position, position + len(value.ids)))
            position += len(value.ids) + len(after.ids)
            pieces += [value, after]
        joined = join(pieces)
        return Prompt(
            ids=tuple(joined.ids),
            text=joined.text,
            spans=tuple(joined.spans),
            field_spans=tuple(field_spans),
            prefix_length=len(self._constants[0].ids) if values else 0,
        )


def answer_ids(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> list[list[int]]:
    """Return the tokens of answers as they would continue a prompt.

    Args:
        tokenizer: of the model.
        answers: the texts.

    Raises:
        TextError: the tokenizer cannot read one of them.
    """
    try:
        with tokenizing():
            ids: list[list[int]] = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    except Exception as error:
        raise TextError(
            f"the tokenizer cannot read one of {', '.join(map(repr, answers)):.200} ({error}). "
            "Look for half a surrogate pair in it."
        ) from error
    return ids


def with_answer(prompt: Prompt, answer: str, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Return a prompt followed by its answer, whose tokens are the field `answer`.

    Args:
        prompt: the question.
        answer: the text that was generated after it.
        tokenizer: of the model.
    """
    written = tokenize(tokenizer, [answer], special=False)[0]
    joined = join([Tokens(list(prompt.ids), list(prompt.spans), prompt.text), written])
    return replace(
        prompt,
        ids=tuple(joined.ids),
        text=joined.text,
        spans=tuple(joined.spans),
        field_spans=(*prompt.field_spans, FieldSpan("answer", len(prompt.ids), len(joined.ids))),
    )
