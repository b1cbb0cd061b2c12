"""Replies to customers: what a message is about, a draft from sources, and when a person is due."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import narwhals as nw

from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb, choose_encoder, placeholder_model, preview_of
from nbllm.frame.columns import (
    Rows,
    check_columns,
    distinct_rows,
    index_labels,
    read_rows,
    row_text,
)
from nbllm.frame.new_columns import refuse_taken, write_columns
from nbllm.frame.prompts.arguments import check_labels, require
from nbllm.frame.prompts.examples import Examples, Fields
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.retrieval.handover import failed_reason, handover_reasons
from nbllm.frame.retrieval.sources import content_words, grounded, read_sources
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate, estimate_rows
from nbllm.frame.running.execute import Question
from nbllm.frame.running.preview import PreviewStep, StepsPreview
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.running.provenance import attach
from nbllm.frame.running.questions import Questions
from nbllm.frame.running.run import warn_of_failures
from nbllm.frame.tasks.customer_service import MESSAGE, MOODS, SOURCES, draft, urgency
from nbllm.frame.verbs import search
from nbllm.frame.verbs.classify import choose_label
from nbllm.frame.verbs.embed import embedding_task
from nbllm.frame.verbs.sentiment import Options as SentimentOptions
from nbllm.frame.verbs.sentiment import Sentiment
from nbllm.models.model import ModelLike

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Reply"]

_FIELDS = ("message", "intent")  # of an example

# The cosine from which a source without a word of the message is taken to speak of the same.
_ALIKE = 0.3

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


@dataclass(frozen=True)
class Options:
    """From what a reply is made, and what is told of a message."""

    sources: Any = option(
        "what a reply may be made of: texts, or a frame or Series of them, whose labels are those "
        "of its index (positions in polars and in a list); or label to text.",
        positional=True,
    )
    intents: Sequence[str] | Mapping[str, str] = option(
        "what a message may be about, as the labels of `classify`."
    )
    source_column: str | None = option(
        "the column of the texts in a frame of sources with several.", None
    )
    k: int = option("how many sources a message.", 2)
    threshold: float = option("from 0 to 1; moving it costs no new answers.", 0.5)
    encoder: ModelLike | None = option(
        "a sentence encoder or its name, to find sources by meaning too and not by words alone.",
        None,
    )
    instruction: str | None = option(
        "what to ask, below source and message, instead of an answer in one or two sentences.", None
    )
    examples: Examples | None = option(
        "(message, intent) pairs to show the model; as dicts or a frame, by the names "
        '"message" and "intent".',
        None,
    )
    max_new_tokens: int = option("where a draft is cut, at the end of a sentence.", 96)


class Reply(Verb[Options]):
    """Draft a reply to each message from your sources, and say where a person should.

    Beside the draft come `_intent`, `_sentiment` (positive, neutral or negative) and
    `_urgency` (high or low), each with its probability as `_score`; `_sources`, the labels
    of the sources used as JSON text, and `_context`, their texts; `_score`, the share of
    the draft's words that stand in them; and `_handover` with its `_reason`: the intent's
    probability or the draft's score is below the threshold, no source matches, the draft
    has numbers that neither sources nor message have, or the row failed. Words in common
    are not the truth, and a small model often repeats the message or speaks of itself:
    read a draft before it goes out.

    Each step is a run of its own in the ledger; the run of a row is that of its draft. Stopped
    in one step, it leaves the columns of the later ones null.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: sources without a text, k below 1, or a threshold that is no probability.
        LabelError: intents that are too few, blank or repeated, or an example of another form.
        UnsupportedModelError: the model is not causal, or the encoder is none.

    Example:
        >>> faq = ["Orders can be cancelled within an hour.", ...]  # doctest: +SKIP
        >>> df.llm.reply("message", faq, intents=["order", "refund"])  # doctest: +SKIP
    """

    name = "reply"
    options = Options
    one_question_per_row = False
    subject_doc = "the messages."
    setting_docs: ClassVar[Mapping[str, str]] = {
        "model": "a causal model, or its name; by default the one loaded last."
    }

    def example_fields(self, options: Options) -> Fields:
        return _FIELDS

    @property
    def answers_as(self) -> str:
        return "intent"

    def task(self, model: Model, subject: str, options: Options) -> Task:
        """Return the first of the questions: what a message is about."""
        intents = options.intents
        listed = list(intents) if isinstance(intents, Mapping) else intents
        check_labels(listed, "intents", "intent")
        return choose_label(model, labels=intents, examples=options.examples)

    def check(self, frame: Any, call: Call[Options], *, adds: bool = True) -> None:
        check_columns(frame, [call.subject])
        read_sources(call.options.sources, call.options.source_column)
        call.task(placeholder_model(self.kind))
        if adds:
            names = [call.output + suffix for suffix in _COLUMNS]
            refuse_taken(frame, names, ours=f"{call.output}_run")

    def run(self, frame: Any, call: Call[Options], model: Model | None, monitor: RunMonitor) -> Any:
        assert model is not None
        require(model, self.name, "causal")
        options, output = call.options, call.output
        rows = read_rows(frame, [call.subject])
        texts, labels = read_sources(options.sources, options.source_column)
        tasks = _tasks(call, model)
        # First, since it is quick and may be refused.
        found = _find_sources(texts, rows, call, _encoder(options), monitor)
        asked = Questions(
            lambda: index_labels(frame), call.execution, monitor, stopped=monitor.cancelled
        )
        for suffix, task in tasks.items():
            question = Question(task, model, {TEXT: call.subject}, output + suffix)
            asked.ask(suffix, question, rows)
        contexts = ["\n".join(texts[n] for n in found.get(i, ())) for i in range(len(rows.texts))]
        drafted, number = _drafted(rows, contexts)
        asked.ask("", Question(_draft(call, model), model, _both(call), output), drafted, number)

        answers = []
        for row, i in enumerate(rows.position):
            cells = _cells(asked, rows, row)
            if i is not None and not asked.stopped:
                used = [labels[n] for n in found[i]]
                cells["_context"] = contexts[i] or None
                cells["_sources"] = json.dumps(used, ensure_ascii=False, default=str)
                if cells[""] is not None:
                    cells["_score"] = grounded(cells[""], contexts[i])
                why = handover_reasons(cells, rows.texts[i][0], options.threshold)
                cells |= {"_handover": bool(why), "_reason": "; ".join(why) or None}
            elif cells["_error"] is not None:
                cells |= {"_handover": True, "_reason": failed_reason(cells["_error"])}
            answers.append(cells)
        wanted = {s: dtype for s, (part, dtype) in _COLUMNS.items() if part in call.settings.keep}
        answered = write_columns(
            frame,
            {output + s: ([row[s] for row in answers], d) for s, d in wanted.items()},
            {output + s for s in _COLUMNS} if f"{output}_run" in frame.columns else (),
        )
        for record in asked.records:
            attach(answered, record)
        failed = [row for row, cells in enumerate(answers) if cells["_error"] is not None]
        if failed:
            first = answers[failed[0]]["_error"]
            warn_of_failures(
                index_labels(frame), self.name, failed, first, column=f"{output}_error"
            )
        return answered

    def preview(self, frame: Any, call: Call[Options], row: Any) -> StepsPreview:
        self.check(frame, call, adds=False)
        options, truncate = call.options, call.settings.truncate
        message = row_text(frame, call.subject, row)
        model = call.model()
        tasks = _tasks(call, model)
        encoder = _encoder(options)
        texts, labels = read_sources(options.sources, options.source_column)
        steps = [
            PreviewStep.of(
                f"{suffix[1:]}: the model's likelihood of each label",
                preview_of(task, model, (message,), truncate=truncate),
            )
            for suffix, task in tasks.items()
        ]
        rows = Rows([(message,)], [0], {})
        quiet = replace(call, settings=replace(call.settings, ledger=False))
        with RunMonitor(self.name, call.output) as monitor:
            found = _find_sources(texts, rows, quiet, encoder, monitor)[0]
        how = "by words" if encoder is None else "by words and by meaning"
        listed = "\n".join(f"{labels[n]}: {texts[n]}" for n in found)
        steps.append(PreviewStep(f"sources, found {how}", listed or "none matches"))
        if found:
            context = "\n".join(texts[n] for n in found)
            prompt = preview_of(_draft(call, model), model, (context, message), truncate=truncate)
            steps.append(PreviewStep.of("draft: what the model goes on from", prompt))
        else:
            steps.append(PreviewStep("draft", "none, and a person is due"))
        return StepsPreview(self.name, tuple(steps))

    def estimate(self, frame: Any, call: Call[Options]) -> StepsEstimate:
        self.check(frame, call, adds=False)
        options, truncate = call.options, call.settings.truncate
        rows = read_rows(frame, [call.subject])
        texts, _ = read_sources(options.sources, options.source_column)
        model = call.model()
        steps: dict[str, RunEstimate] = {}
        if (encoder := _encoder(options)) is not None:
            finding = Question(embedding_task(encoder), encoder, {TEXT: TEXT}, "")
            steps["sources"] = estimate_rows(
                distinct_rows([(t,) for t in texts]), finding, truncate=True
            )
        for suffix, task in _tasks(call, model).items():
            question = Question(task, model, {TEXT: call.subject}, "")
            steps[suffix[1:]] = estimate_rows(rows, question, truncate=truncate)
        # By words alone, which asks no encoder: about as many and as long as those of both.
        with RunMonitor(self.name, call.output) as monitor:
            found = _find_sources(texts, rows, call, None, monitor)
        contexts = ["\n".join(texts[n] for n in found.get(i, ())) for i in range(len(rows.texts))]
        writing = Question(_draft(call, model), model, _both(call), "")
        steps["draft"] = estimate_rows(_drafted(rows, contexts)[0], writing, truncate=truncate)
        named = {name: replace(one, verb=self.name) for name, one in steps.items()}
        return StepsEstimate(self.name, named)


VERB = Reply()


def _cells(asked: Questions, rows: Rows, row: int) -> dict[str, Any]:
    """What the columns of a row hold, by suffix."""
    i = rows.position[row]
    cells: dict[str, Any] = dict.fromkeys(_COLUMNS)
    if i is None:
        return cells | {"_error": rows.errors.get(row)}
    cells |= {suffix: by.get(i) for suffix, by in asked.answers.items() if suffix in _COLUMNS}
    run = asked.records[-1]["id"] if asked.was_asked("", i) else None
    return cells | {"_error": asked.error(i), "_run": run}


def _tasks(call: Call[Options], model: Model) -> dict[str, Task]:
    """What is told of each message before a draft, by the suffix of its column."""
    mood = SentimentOptions(neutral=True, examples=MOODS)
    return {
        "_intent": call.task(model),
        "_sentiment": Sentiment().task(model, call.subject, mood),
        "_urgency": urgency(model, call.verb.name),
    }


def _draft(call: Call[Options], model: Model) -> Task:
    options = call.options
    return draft(
        model,
        call.verb.name,
        instruction=options.instruction,
        max_new_tokens=options.max_new_tokens,
    )


def _both(call: Call[Options]) -> dict[str, str]:
    """The columns that a draft is made from."""
    return {SOURCES: f"{call.output}_context", MESSAGE: call.subject}


def _drafted(rows: Rows, contexts: Sequence[str]) -> tuple[Rows, dict[int, int]]:
    """What is read for the drafts, where there are sources, and of which message each is."""
    number = dict(enumerate(i for i, context in enumerate(contexts) if context))
    place = {i: n for n, i in number.items()}
    texts: list[tuple[str, ...]] = [(contexts[i], rows.texts[i][0]) for i in place]
    position = [None if i is None else place.get(i) for i in rows.position]
    return Rows(texts, position, rows.errors), number


def _encoder(options: Options) -> Model | None:
    if options.encoder is None:
        return None
    return choose_encoder(options.encoder, f"{Reply.name} with encoder=")


def _find_sources(
    sources: Sequence[str],
    rows: Rows,
    call: Call[Options],
    encoder: Model | None,
    monitor: RunMonitor,
) -> dict[int, list[int]]:
    """For each message the sources that match, best first.

    Args:
        encoder: finds them by meaning too; without one they are found by words alone.
    """
    if not rows.texts:
        return {}
    messages = [message for (message,) in rows.texts]
    texts = distinct_rows([(source,) for source in sources])
    settings = replace(call.settings, truncate=True)

    def find(how: search.How, k: int) -> dict[int, list[tuple[int, float]]]:
        options = search.Options(messages, k, how)
        asked = Call(search.VERB, TEXT, options, replace(settings, into="found"))
        model = None if how == "bm25" else encoder
        return search.find(texts, lambda: range(len(sources)), asked, model, monitor).ranked

    alike: set[int] = set()
    if encoder is not None:
        nearest = find("dense", 1)
        alike = {n for n, ranked in nearest.items() if any(s >= _ALIKE for _, s in ranked)}
    hits = find("bm25" if encoder is None else "fused", call.options.k)
    words = [set(content_words(source)) for source in sources]
    found: dict[int, list[int]] = {n: [] for n in range(len(messages))}
    for n, ranked in hits.items():
        said = set(content_words(messages[n]))
        # "the" and "is" stand in all texts and match nothing.
        found[n] = [row for row, _ in ranked if n in alike or words[row] & said]
    return found
