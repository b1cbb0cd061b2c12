"""Summarization: a text in a few words of the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import index_labels, is_missing, read_rows
from nbllm.frame.new_columns import new_series
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import TEXT, label_parts
from nbllm.frame.prompts.seq2seq import configured_prefixes, refuse_examples, seq2seq_template
from nbllm.frame.running.pieces import condense, condensed
from nbllm.frame.running.run import answer_rows
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Summarize"]

_FIELDS = ("text", "summary")  # of an example

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

# Words of English run to 1.3 tokens; the rest is room to end a sentence.
_TOKENS_PER_WORD = 1.6


@dataclass(frozen=True)
class Options:
    """How long a summary is, and how it reads."""

    max_words: int = option(
        "what the model is asked to keep to, and about where it is cut, at the end of a sentence.",
        40,
    )
    style: str | None = option(
        'how it should read, in words that go on after "Summarize the text": "for a child", "as a '
        'headline".',
        None,
    )
    by: str | Sequence[str] | None = option(
        "one or several columns: then the answer is a frame of one row a group, with these "
        "columns, the group's texts as one, and its summary.",
        None,
    )
    instruction: str | None = option(
        "what to ask, instead of a summary of so many words; to an encoder-decoder, the words that "
        "it was trained to see before a text.",
        None,
    )
    examples: Examples | None = option(
        "(text, summary) pairs to show a causal model; as dicts or a frame, by the names "
        '"text" and "summary".',
        None,
    )


class Summarize(Verb[Options]):
    """Summarize each text, or all texts of a group together.

    A text that does not fit the context is cut where paragraphs or sentences end, the
    pieces are summarized, and then their summaries, for as often as it takes. `explain` and
    `report` know of the last step only; the pieces have runs of their own in the ledger.

    Raises:
        ColumnError: a column is missing or not text, or a new one is in the way.
        FrameError: a style beside an instruction, or a style or examples for an
            encoder-decoder.
        LabelError: an example of another form.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> df.llm.summarize("article", max_words=25)  # doctest: +SKIP
        >>> df.llm.summarize("review", by="product")  # doctest: +SKIP
    """

    name = "summarize"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _FIELDS

    def task(self, model: Model, subject: str, options: Options) -> TextTask:
        style, instruction, max_words = options.style, options.instruction, options.max_words
        require(model, self.name, "causal", "seq2seq")
        if style is not None:
            _check_style(model, instruction)
        room = round(max_words * _TOKENS_PER_WORD) + 8
        if model.kind == "seq2seq":
            refuse_examples(model, self.name, options.examples)
            template = seq2seq_template(model, instruction or _prefix(model))
            return TextTask(self.name, template, max_new_tokens=room, whole_sentences=True)
        manner = f" {style.strip()}" if style else ""
        asked = instruction or (
            f"Summarize the text{manner} in one or two sentences, at most {max_words} words."
        )
        given = None if options.examples is None else read_examples(options.examples, _FIELDS)
        instruct = model.tokenizer.chat_template is not None
        if instruct:
            turns = []
            for text, summary in given or []:
                turns.append(("user", [Part("text", f"{asked}\n\n{text}")]))
                turns.append(("assistant", [Part("text", summary)]))
            turns.append(("user", [Part("text", f"{asked}\n\n"), Part("field", TEXT)]))
            template = chat(model.tokenizer, turns)
        else:
            shown = _EXAMPLES if given is None else given
            template = plain(
                model.tokenizer, label_parts(asked, shown, text="Text", answer="Summary")
            )
        return TextTask(
            verb=self.name,
            template=template,
            max_new_tokens=room,
            stop=None if instruct else "\n",
            whole_sentences=True,
        )

    def frame_of(self, frame: Any, call: Call[Options]) -> Any:
        by = call.options.by
        return frame if by is None else _group_texts(frame, by, call.subject)

    def run(self, frame: Any, call: Call[Options], model: Model | None, monitor: RunMonitor) -> Any:
        assert model is not None
        rows, question = read_rows(frame, [call.subject]), call.question(model)
        if not call.settings.truncate:
            rows = condense(rows, question, lambda: index_labels(frame), call.execution, monitor)
        return answer_rows(
            frame, rows, question, **call.added, execution=call.execution, monitor=monitor
        )

    def texts_read(
        self, record: Mapping[str, Any], texts: tuple[str, ...], model: Model
    ) -> tuple[str, ...]:
        return (condensed(record, texts[0], model),)


VERB = Summarize()


def _check_style(model: Model, instruction: str | None) -> None:
    if instruction is not None:
        raise FrameError("an instruction says the style too. Pass style= or instruction=.")
    if model.kind == "seq2seq":
        raise FrameError(
            f"{model.name} is an encoder-decoder, which summarizes as it was trained to. Leave "
            "style= out, or ask a causal model."
        )


def _prefix(model: Model) -> str:
    """What the encoder was trained to see before a text that is to be summarized."""
    t5 = "t5" in model.network.config.model_type
    return configured_prefixes(model).get("summarization", "summarize: " if t5 else "")


def _group_texts(frame: Any, by: Sequence[str], column: str) -> Any:
    """One row a group, in order of appearance: its keys, and its texts as the paragraphs of one.

    Rows without a key belong to no group; a group without a text has a null.

    Args:
        by: the columns that name a group.
        column: the texts.

    Raises:
        ColumnError: a column is missing, or a value of `column` is not text.
    """
    keys = list(by)
    if column in keys:
        raise ColumnError(
            f"by= names {column!r}, whose texts are to be summarized. Group by another column."
        )
    rows = read_rows(frame, [column])
    if rows.errors:
        raise ColumnError(
            f"row {index_labels(frame)[min(rows.errors)]!r} of {column!r} is "
            f"{rows.errors[min(rows.errors)]}. Make it a text first."
        )
    read_rows(frame, keys, any_type=True)  # says which column is missing
    data = nw.from_native(frame, eager_only=True)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(data.select(keys).rows()):
        if not any(is_missing(part) for part in key):
            groups.setdefault(key, []).append(row)
    texts = [
        "\n\n".join(
            rows.texts[i][0].strip() for row in members if (i := rows.position[row]) is not None
        )
        for members in groups.values()
    ]
    first = nw.maybe_reset_index(data.select(keys)[[members[0] for members in groups.values()]])
    series = new_series(column, [text or None for text in texts], nw.String, data.implementation)
    return first.with_columns(series).to_native()
