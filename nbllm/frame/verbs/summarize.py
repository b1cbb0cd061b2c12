"""The verb `summarize`: summarizes texts, or all texts of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.prompt import plain
from nbllm.engine.structured.prose import Prose
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import index_labels, is_missing, read_rows
from nbllm.frame.new_columns import new_series, write_columns
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import TEXT, chat_template, label_parts
from nbllm.frame.prompts.seq2seq import configured_prefixes, refuse_examples, seq2seq_template
from nbllm.frame.running.pieces import condense, condensed_text
from nbllm.frame.running.run import answer_frame
from nbllm.frame.tasks.claims import evidence_json
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Summarize"]

_EXAMPLE_FIELDS = ("text", "summary")

_EXAMPLES = (
    (
        (
            "The public library in Harlow Bridge will stay open until ten in the evening from "
            "next month, after a trial in the spring drew almost twice as many visitors as "
            "expected. Students and shift workers had asked for longer hours for years. During "
            "the trial two volunteers helped the staff each night, and the council has now "
            "agreed to pay for a permanent evening team of three. The children's section will "
            "still close at six. The extra cost is put at forty thousand pounds a year."
        ),
        (
            "Harlow Bridge library will open until ten in the evening after a successful trial, "
            "with a permanent evening team paid for by the council."
        ),
    ),
    (
        (
            "A rare orchid that had not been seen in the region since 1987 has been found by two "
            "hikers on a slope above Lake Maren. They sent a photograph to the botanical garden, "
            "which confirmed the find a day later. Eleven plants are in flower. The exact place "
            "is being kept secret, because collectors have dug up orchids elsewhere. The garden "
            "has put a fence around the slope and plans to gather seed in the autumn so that the "
            "species can be grown at other sites."
        ),
        (
            "Hikers found eleven plants of an orchid last seen in 1987, and the botanical garden "
            "is guarding the secret site and will gather seed."
        ),
    ),
)

_EVIDENCE, _COUNT = "_evidence", "_count"  # suffixes of columns

# An English word takes 1.3 tokens; the rest is for the end of the last sentence.
_TOKENS_PER_WORD = 1.6


@dataclass(frozen=True)
class Options:
    """The options of `Summarize`."""

    max_words: int = option(
        "The maximum number of words, of which a summary may have a tenth more to end its last "
        "sentence. Each character of Chinese or Japanese is a word.",
        40,
    )
    grounded: bool = option(
        "Whether names (words with a capital letter) and numbers can only be those of the text. "
        "Pass False for a summary in another language than the text's.",
        True,
    )
    style: str | None = option(
        'The style, as a continuation of "Summarize the text": "for a child", "as a headline".',
        None,
    )
    by: str | Sequence[str] | None = option(
        "One or several columns to group by: then the result has one row per group, with these "
        "columns, `<column>` with the group's texts as one, their number as `<column>_count`, and "
        "their summary.",
        None,
    )
    instruction: str | None = option(
        "The instruction to the model, instead of the built-in one; for an encoder-decoder, the "
        "prefix of its training texts.",
        None,
    )
    examples: Examples | None = option(
        "(text, summary) pairs for the prompt of a causal model; or dicts or a frame with the "
        'names "text" and "summary".',
        None,
    )
    evidence: bool = option(
        "Whether to add a column `<column>_summarize_evidence`: each sentence of the summary with "
        "the sentence of the text that is nearest to it by BM25, and the character offsets of "
        "that one, as a JSON list. It is what to look at first, and no proof.",
        False,
    )


class Summarize(Verb[Options]):
    """Summarize each text, or all texts of a group together.

    A text that does not fit the context is split at the ends of paragraphs or sentences. The
    parts are summarized, then their summaries, until one prompt holds the rest. `explain` and
    `report` cover only the last step; the parts have runs of their own in the ledger.

    Raises:
        ColumnError: A column is missing or not text, or a new column would overwrite one.
        FrameError: A style is combined with an instruction, or an encoder-decoder gets a
            style or examples.
        LabelError: An example has another form.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.summarize("article", max_words=25)  # doctest: +SKIP
        >>> df.llm.summarize("review", by="product")  # doctest: +SKIP
    """

    name = "summarize"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def task(self, model: Model, subject: str, options: Options) -> TextTask:
        style, instruction, max_words = options.style, options.instruction, options.max_words
        require(model, self.name, "causal", "seq2seq")
        if style is not None:
            _check_style(model, instruction)
        max_new_tokens = round(max_words * _TOKENS_PER_WORD) + 8
        prose = Prose(max_words, options.grounded)
        if model.kind == "seq2seq":
            refuse_examples(model, self.name, options.examples)
            template = seq2seq_template(model, instruction or _prefix(model))
            return TextTask(self.name, template, max_new_tokens, prose=prose)
        in_style = f" {style.strip()}" if style else ""
        instruction = instruction or (
            f"Summarize the text{in_style} in one or two sentences, at most {max_words} words."
        )
        examples = options.examples
        pairs = None if examples is None else read_examples(examples, _EXAMPLE_FIELDS)
        if model.tokenizer.chat_template is not None:
            template = chat_template(model, f"{instruction}\n\n", pairs or ())
            return TextTask(self.name, template, max_new_tokens, prose=prose)
        shots = _EXAMPLES if pairs is None else pairs
        parts = label_parts(instruction, shots, text="Text", answer="Summary")
        template = plain(model.tokenizer, parts)
        return TextTask(self.name, template, max_new_tokens, stop="\n", prose=prose)

    def not_by_file(self, options: Options) -> str | None:
        return "by" if options.by is not None else "evidence" if options.evidence else None

    def frame_of(self, frame: Any, call: Call[Options]) -> Any:
        by = call.options.by
        return frame if by is None else _group_texts(frame, by, call.subject)

    def run(self, frame: Any, call: Call[Options], model: Model | None, monitor: RunMonitor) -> Any:
        assert model is not None
        rows, question = read_rows(frame, [call.subject]), call.question(model)
        if not call.settings.truncate:
            rows = condense(rows, question, lambda: index_labels(frame), call.execution, monitor)
        answered = answer_frame(
            frame, question, rows=rows, **call.added, execution=call.execution, monitor=monitor
        )
        return _with_evidence(
            answered, call, has_earlier=call.output + self.marker in frame.columns
        )

    def new_columns(self, call: Call[Options]) -> list[str]:
        names = super().new_columns(call)
        return [*names, call.output + _EVIDENCE] if _adds_evidence(call) else names

    def can_read(self, record: Mapping[str, Any]) -> bool:
        return list(record["columns"]) == [TEXT]

    def texts_read(
        self, record: Mapping[str, Any], texts: tuple[str, ...], model: Model
    ) -> tuple[str, ...]:
        return (condensed_text(record, texts[0], model),)


VERB = Summarize()


def _adds_evidence(call: Call[Options]) -> bool:
    return call.options.evidence and "value" in call.settings.keep


def _with_evidence(answered: Any, call: Call[Options], *, has_earlier: bool) -> Any:
    """Return a frame with the evidence of its summaries, or without that of an earlier call.

    Args:
        answered: The frame with the summaries.
        call: The call.
        has_earlier: Whether an earlier call wrote columns of the same names.
    """
    name = call.output + _EVIDENCE
    if not _adds_evidence(call):
        outdated = has_earlier and name in answered.columns
        return write_columns(answered, {}, [name]) if outdated else answered
    data = nw.from_native(answered, eager_only=True)
    pairs = zip(data[call.output].to_list(), data[call.subject].to_list(), strict=True)
    found = [
        None if is_missing(summary) else evidence_json(summary, text) for summary, text in pairs
    ]
    return write_columns(answered, {name: (found, nw.String)})


def _check_style(model: Model, instruction: str | None) -> None:
    if instruction is not None:
        raise FrameError("an instruction says the style too. Pass style= or instruction=.")
    if model.kind == "seq2seq":
        raise FrameError(
            f"{model.name} is an encoder-decoder, which summarizes as it was trained to. Leave "
            "style= out, or ask a causal model."
        )


def _prefix(model: Model) -> str:
    """Return the prefix with which an encoder-decoder was trained to summarize."""
    t5 = "t5" in model.network.config.model_type
    return configured_prefixes(model).get("summarization", "summarize: " if t5 else "")


def _group_texts(frame: Any, by: Sequence[str], column: str) -> Any:
    """Return a frame with a row per group: its keys, its texts as paragraphs, and their number.

    Groups are in order of appearance. Rows without a key are left out; a group without a text has
    a null.

    Args:
        frame: The frame of the call.
        by: The columns to group by.
        column: The column of the texts.

    Raises:
        ColumnError: A column is missing, or a value of `column` is not text.
    """
    keys = list(by)
    if column in keys:
        raise ColumnError(
            f"by= names {column!r}, whose texts are to be summarized. Group by another column."
        )
    if column + _COUNT in keys:
        raise ColumnError(
            f"by= names {column + _COUNT!r}, which is to hold the number of texts. Rename the "
            "column."
        )
    rows = read_rows(frame, [column])
    if rows.errors:
        raise ColumnError(
            f"row {index_labels(frame)[min(rows.errors)]!r} of {column!r} is "
            f"{rows.errors[min(rows.errors)]}. Make it a text first."
        )
    read_rows(frame, keys, any_type=True)  # raises for a missing column
    data = nw.from_native(frame, eager_only=True)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(data.select(keys).rows()):
        if not any(is_missing(part) for part in key):
            groups.setdefault(key, []).append(row)
    texts = [
        [rows.texts[i][0].strip() for row in members if (i := rows.text_indices[row]) is not None]
        for members in groups.values()
    ]
    joined = ["\n\n".join(group) or None for group in texts]
    first = nw.maybe_reset_index(data.select(keys)[[members[0] for members in groups.values()]])
    made = [
        new_series(column, joined, nw.String, data.implementation),
        new_series(column + _COUNT, list(map(len, texts)), nw.Int64, data.implementation),
    ]
    return first.with_columns(*made).to_native()
