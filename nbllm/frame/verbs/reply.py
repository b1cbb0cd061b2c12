"""Replies to customers: what a message is about, a draft from sources, and when a person is due.

The draft is compared with its sources by their words. That finds what a model made up in words
of its own, above all numbers, and not what it made up in theirs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import narwhals as nw
import regex

from nbllm._warnings import warn_user
from nbllm.blank import is_blank
from nbllm.checks import shown
from nbllm.errors import FrameError
from nbllm.frame import KEEP
from nbllm.frame.call_checks import stand_in
from nbllm.frame.columns import (
    check_columns,
    index_labels,
    is_missing,
    read_rows,
    refuse_taken,
    write_columns,
)
from nbllm.frame.prompts.arguments import check_labels, listed, require
from nbllm.frame.prompts.examples import FIELDS, Examples, examples_of
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.prompts.reply import MESSAGE, SOURCES, draft, mood, urgency
from nbllm.frame.running.run import answer_frame
from nbllm.frame.verbs.classify import classify
from nbllm.frame.verbs.embed import choose_encoder
from nbllm.frame.verbs.search import search_frame, terms
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.running.progress import Watch
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model, ModelLike

__all__ = [
    "check_reply",
    "find_sources",
    "grounded",
    "read_sources",
    "reply_frame",
    "reply_tasks",
    "strange_numbers",
]

# What says something of a text: not the short words that all texts have.
_CONTENT = regex.compile(r".*\p{N}.*|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]{2}|\S{4,}")

# The cosine from which a source without a word of the message is taken to speak of the same.
_ALIKE = 0.3


def reply_frame(
    frame: Any,
    column: str,
    sources: Any,
    model: Model,
    *,
    intents: Sequence[str] | Mapping[str, str],
    source_column: str | None,
    k: int,
    threshold: float,
    encoder: ModelLike | None,
    output: str,
    instruction: str | None = None,
    examples: Examples | None = None,
    max_new_tokens: int = 96,
    keep: Sequence[str] = KEEP,
    use_ledger: bool = True,
    truncate: bool = False,
    engine: str = "local",
    workers: int | None = None,
    watch: Watch,
) -> Any:
    """The frame with a draft for each message, what it is about, and whether a person is due.

    Each step is a run of its own in the ledger; the run of a row is that of its draft. Stopped
    in one step, it leaves the columns of the later ones null.

    Args:
        sources: texts, or a frame of them.
        source_column: the column of the texts in that frame.
        encoder: finds sources by meaning too; without one they are found by words alone.
        examples: (message, intent) pairs to show.

    Raises:
        UnsupportedModelError: the model is not causal, or the encoder is none.

    What `check_reply` refuses is not checked again.
    """
    require(model, "reply", "causal")
    if encoder is not None:
        encoder = choose_encoder(encoder, "reply with encoder=")
    rows = read_rows(frame, [column])
    texts, labels = read_sources(sources, source_column)
    refuse_taken(frame, [output + suffix for suffix in _COLUMNS], ours=f"{output}_run")
    asked = reply_tasks(model, column, intents, examples)
    # First, since it is quick and may be refused.
    messages_once = [text for (text,) in rows.texts]
    found = find_sources(texts, messages_once, k, encoder, ledger=use_ledger, watch=watch)
    writing = draft(model, instruction=instruction, max_new_tokens=max_new_tokens)
    options = {
        "use_ledger": use_ledger,
        "truncate": truncate,
        "engine": engine,
        "workers": workers,
    }
    steps = _Steps(nw.from_native(frame, eager_only=True).select(column).to_native(), watch)
    steps.stopped = watch.cancelled  # while sources were looked for, which then are not all found
    for suffix, task in asked.items():
        steps.ask(task, model, {TEXT: column}, output + suffix, **options)
    messages = [None if i is None else rows.texts[i][0] for i in rows.position]
    if not steps.stopped:
        context = ["\n".join(texts[n] for n in found.get(m or "", ())) or None for m in messages]
        steps.frame = write_columns(steps.frame, {f"{output}_context": (context, nw.String)})
        both = {SOURCES: f"{output}_context", MESSAGE: column}
        steps.ask(writing, model, both, output, **options)

    answers = []
    for row, message in enumerate(messages):
        cells = {suffix: steps.cell(output + suffix, row) for suffix in _COLUMNS}
        errors = [steps.cell(f"{output}{suffix}_error", row) for suffix in (*asked, "")]
        cells["_error"] = next((error for error in errors if error is not None), None)
        if message is not None and not steps.stopped:
            sources_used = [labels[n] for n in found[message]]
            cells["_sources"] = json.dumps(sources_used, ensure_ascii=False, default=str)
            if cells[""] is not None:
                cells["_score"] = grounded(cells[""], cells["_context"])
            why = _reasons(cells, message, threshold)
            cells |= {"_handover": bool(why), "_reason": "; ".join(why) or None}
        elif cells["_error"] is not None:
            cells |= {"_handover": True, "_reason": _failed(cells["_error"])}
        answers.append(cells)
    wanted = {suffix: kind for suffix, kind in _COLUMNS.items() if kind[0] in keep}
    answered = write_columns(
        frame,
        {output + s: ([row[s] for row in answers], d) for s, (_, d) in wanted.items()},
        {output + s for s in _COLUMNS} if f"{output}_run" in frame.columns else (),
    )
    if hasattr(answered, "attrs"):
        answered.attrs |= steps.frame.attrs
    _warn_of_failures(frame, [row["_error"] for row in answers], output)
    return answered


def check_reply(
    frame: Any,
    column: str,
    sources: Any,
    *,
    intents: Sequence[str] | Mapping[str, str],
    source_column: str | None,
    examples: Examples | None,
    output: str | None = None,
) -> None:
    """Refuse what `reply_frame` could not take, before a model is loaded for it.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: sources without a text.
        LabelError: intents that are no labels, or examples that cannot be read.
    """
    check_columns(frame, [column])
    read_sources(sources, source_column)
    reply_tasks(stand_in("reply"), column, intents, examples)
    if output is not None:
        refuse_taken(frame, [output + suffix for suffix in _COLUMNS], ours=f"{output}_run")


def reply_tasks(
    model: Model,
    column: str,
    intents: Sequence[str] | Mapping[str, str],
    examples: Examples | None,
) -> dict[str, Task]:
    """What is told of each message before a draft, by the suffix of its column.

    Args:
        column: the messages.

    Raises:
        LabelError: intents that are no labels, or examples that cannot be read.
    """
    if examples is not None:
        examples = examples_of(examples, FIELDS["reply"], columns=[column], verb="intent")
    check_labels(list(intents) if isinstance(intents, Mapping) else intents, "intents", "intent")
    return {
        "_intent": classify(model, labels=intents, examples=examples),
        "_sentiment": mood(model),
        "_urgency": urgency(model),
    }


# What is added, by suffix: one of `KEEP` and the narwhals dtype.
_COLUMNS: dict[str, tuple[str, Any]] = {
    "": ("value", nw.String),
    "_score": ("score", nw.Float64),
    "_handover": ("value", nw.Boolean),
    "_reason": ("value", nw.String),
    "_intent": ("value", nw.String),
    "_intent_score": ("score", nw.Float64),
    "_sentiment": ("value", nw.String),
    "_sentiment_score": ("score", nw.Float64),
    "_urgency": ("value", nw.String),
    "_urgency_score": ("score", nw.Float64),
    "_sources": ("value", nw.String),
    "_context": ("value", nw.String),
    "_error": ("error", nw.String),
    "_run": ("run", nw.Categorical),
}


@dataclass
class _Steps:
    """Runs one after the other over one frame, until one is stopped."""

    frame: Any
    watch: Watch
    stopped: bool = False
    _columns: dict[str, list[Any]] = field(default_factory=dict)

    def ask(
        self, task: Task, model: Model, columns: Mapping[str, str], output: str, **options: Any
    ) -> None:
        """Add the answers of one task, unless an earlier one was stopped."""
        if self.stopped:
            return
        with warnings.catch_warnings():
            # Said once at the end, of all steps together.
            warnings.filterwarnings("ignore", message=r"(?s).* ha(s|ve) no answer \(index")
            self.frame = answer_frame(
                self.frame, task, model, columns, output=output, watch=self.watch, **options
            )
        self.stopped = self.watch.stopped
        self._columns.clear()

    def cell(self, name: str, row: int) -> Any:
        """A value of the frame; None where it has none, or no such column."""
        if name not in self.frame.columns:
            return None
        if name not in self._columns:
            values = nw.from_native(self.frame, eager_only=True)[name].to_list()
            self._columns[name] = [None if is_missing(value) else value for value in values]
        return self._columns[name][row]


def grounded(draft: str, sources: str) -> float:
    """The share of a draft's words that stand in its sources, of those that say something.

    Example:
        >>> grounded("Returns take fourteen days.", "A return takes fourteen days.")
        0.5
    """
    said = set(_content(draft))
    return len(said & set(_content(sources))) / len(said) if said else 0.0


def strange_numbers(draft: str, known: str) -> list[str]:
    """The numbers of a draft that are not among what is known, in order.

    Example:
        >>> strange_numbers("In 14 to 30 days.", "It takes 14 days.")
        ['30']
    """
    given = set(regex.findall(r"\p{N}+", known))
    return [n for n in dict.fromkeys(regex.findall(r"\p{N}+", draft)) if n not in given]


def _content(text: str) -> list[str]:
    return [term for term in terms(text) if _CONTENT.fullmatch(term)]


def read_sources(sources: Any, column: str | None) -> tuple[list[str], list[Any]]:
    """The texts of sources and their labels, without those that are blank.

    Args:
        sources: texts, a mapping or Series of label to text, or a frame of texts.
        column: of the texts in that frame, where it has several.

    Raises:
        FrameError: there is no text, or no telling which column holds them.
    """
    if nw.dependencies.is_into_dataframe(sources):
        data = nw.from_native(sources, eager_only=True)
        if column is None:
            named = [n for n in data.columns if data[n].dtype in (nw.String, nw.Object)]
            if len(named) != 1:
                raise FrameError(
                    f"sources has {counted(len(named), 'column')} of text. Say which holds the "
                    "sources: source_column=."
                )
            column = named[0]
        rows = read_rows(sources, [column])
        values = [None if i is None else rows.texts[i][0] for i in rows.position]
        labels = index_labels(sources)
    else:
        labels, values = _labelled(sources)
        odd = [value for value in values if not is_missing(value) and not isinstance(value, str)]
        if odd:
            raise FrameError(
                f"sources= holds {shown(odd[0])}, which is not a text. Pass strings, or a frame of "
                "them."
            )
    found = [
        (value, label)
        for value, label in zip(values, labels, strict=True)
        if isinstance(value, str) and not is_blank(value)
    ]
    if not found:
        raise FrameError("sources has no text. Pass what replies may be made of.")
    return [text for text, _ in found], [label for _, label in found]


def _labelled(sources: Any) -> tuple[Sequence[Any], list[Any]]:
    """Labels and values of sources that are no frame."""
    if isinstance(sources, Mapping):
        return list(sources), list(sources.values())
    values = listed(sources, "sources")
    is_series = nw.dependencies.is_pandas_series(sources)
    return index_labels(sources) if is_series else range(len(values)), values


def find_sources(
    sources: Sequence[str],
    messages: Sequence[str],
    k: int,
    encoder: Model | None,
    *,
    ledger: bool,
    watch: Watch | None = None,
) -> dict[str, list[int]]:
    """Of each message the sources that match, best first.

    Args:
        k: how many at most.
        encoder: finds them by meaning too; without one they are found by words alone.
        ledger: whether to keep the vectors of sources.
        watch: that of the verb's call.
    """
    import pandas

    if not messages:
        return {}
    frame = pandas.DataFrame({TEXT: list(sources)}, dtype=object)
    found: dict[str, list[int]] = {message: [] for message in messages}
    alike: set[str] = set()

    def search(how: Any, k: int) -> Any:
        return search_frame(
            frame, TEXT, messages, k=k, how=how, model=encoder, into="found", use_ledger=ledger,
            truncate=True, watch=watch,
        )  # fmt: skip

    if encoder is not None:
        nearest = search("dense", 1)
        alike = set(nearest["found_query"][nearest["found_score"] >= _ALIKE])
    hits = search("bm25" if encoder is None else "fused", k)
    words = [set(_content(source)) for source in sources]
    for n, message in zip(hits.index, hits["found_query"], strict=True):
        # "the" and "is" stand in all texts and match nothing.
        if message in alike or words[n] & set(_content(message)):
            found[message].append(int(n))
    return found


def _reasons(cells: Mapping[str, Any], message: str, threshold: float) -> list[str]:
    """Why a person should look at a message; empty where nobody has to."""
    if cells["_error"] is not None:
        return [_failed(cells["_error"])]
    why = []
    if cells["_intent_score"] < threshold:
        why.append(f"intent uncertain ({cells['_intent_score']:.2f})")
    if cells["_context"] is None:
        return [*why, "no source matches"]
    if cells["_score"] is None or cells["_score"] < threshold:
        why.append(f"draft shares too little with its sources ({cells['_score'] or 0:.2f})")
    if strange := strange_numbers(cells[""] or "", f"{message}\n{cells['_context']}"):
        why.append(f"draft has numbers that its sources have not: {', '.join(strange)}")
    return why


def _failed(error: str) -> str:
    return f"no answer: {error}"


def _warn_of_failures(frame: Any, errors: Sequence[str | None], output: str) -> None:
    failed = [row for row, error in enumerate(errors) if error is not None]
    if failed:
        labels = index_labels(frame)
        some = ", ".join(repr(labels[row]) for row in failed[:5])
        more = ", ..." if len(failed) > 5 else ""
        warn_user(
            f"reply: {len(failed):,} of {counted(len(errors), 'row has', 'rows have')} no answer "
            f"(index {some}{more}): {errors[failed[0]]} All are in {output}_error.",
        )
