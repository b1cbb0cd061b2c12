"""The verb `reply`: drafts replies to messages from sources, and flags messages for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import narwhals as nw

from nbllm.frame.calls.models import choose_encoder, preview_of
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import (
    Rows,
    distinct_rows,
    index_labels,
    read_rows,
    row_text,
)
from nbllm.frame.new_columns import write_columns
from nbllm.frame.prompts.arguments import check_labels, require
from nbllm.frame.prompts.examples import Examples, Fields
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.retrieval.handover import failure_reason, handover_reasons
from nbllm.frame.retrieval.sources import content_words, groundedness, read_sources
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate, estimate_rows
from nbllm.frame.running.execute import Question
from nbllm.frame.running.preview import PreviewStep, StepsPreview
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.running.provenance import attach
from nbllm.frame.running.questions import Questions
from nbllm.frame.running.run import warn_of_failures
from nbllm.frame.tasks.customer_service import (
    MESSAGE,
    SENTIMENT_EXAMPLES,
    SOURCES,
    draft_task,
    urgency_task,
)
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

_EXAMPLE_FIELDS = ("message", "intent")

# The minimum cosine of a source that has no content word in common with the message.
_MIN_COSINE = 0.3

# The new columns, by suffix: one of `KEEP`, and the narwhals dtype.
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
    """The options of `Reply`."""

    sources: Any = option(
        "The texts to draft replies from: a list, Series or frame, labelled by its index (by "
        "position in polars and in a list), or a mapping of label to text.",
        positional=True,
    )
    intents: Sequence[str] | Mapping[str, str] = option(
        "The possible topics of a message, as the labels of `classify`."
    )
    source_column: str | None = option(
        "The column of the texts, if `sources` is a frame with several columns.", None
    )
    k: int = option("The maximum number of sources per message.", 2)
    threshold: float = option(
        "The minimum of the intent's probability and of the draft's score, from 0 to 1; below it, "
        "a person should reply. A new threshold computes no new answers.",
        0.5,
    )
    encoder: ModelLike | None = option(
        "A sentence encoder or its name, to find sources also by meaning and not only by words.",
        None,
    )
    instruction: str | None = option(
        "The instruction below sources and message, instead of the built-in one, which requests "
        "one or two sentences.",
        None,
    )
    examples: Examples | None = option(
        "(message, intent) pairs for the prompt of the intent; or dicts or a frame with the names "
        '"message" and "intent".',
        None,
    )
    max_new_tokens: int = option(
        "The maximum number of tokens of a draft, which is cut at the end of a sentence.", 96
    )


class Reply(Verb[Options]):
    """Draft a reply to each message from your sources, and flag messages that need a person.

    The draft is `<column>_reply`. More columns have this name and a suffix: `_intent`,
    `_sentiment` (positive, neutral or negative) and `_urgency` (high or low), each with its
    probability as `_score`; `_sources`, the labels of the sources used, as JSON text, and
    `_context`, their texts; `_score`, the share of the draft's content words that occur in
    the sources; and `_handover`, whether a person should reply, with the `_reason`: the
    intent's probability or the draft's score is below the threshold, no source matches, the
    draft has numbers that are in neither sources nor message, or the row failed.

    Words in common do not make a draft true, and a small model often repeats the message or
    writes about itself: read each draft before you send it.

    Each step is a run of its own in the ledger, and `_run` is that of the draft. If a step is
    stopped, the columns of the later steps are null.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        FrameError: The sources have no text, k is below 1, or the threshold is no probability.
        LabelError: Intents are too few, blank or repeated, or an example has another form.
        UnsupportedModelError: The model is not causal, or `encoder` is no sentence encoder.

    Example:
        >>> faq = ["Orders can be cancelled within an hour.", ...]  # doctest: +SKIP
        >>> df.llm.reply("message", faq, intents=["order", "refund"])  # doctest: +SKIP
    """

    name = "reply"
    options = Options
    one_question_per_row = False
    subject_doc = "The column of the messages."
    setting_docs: ClassVar[Mapping[str, str]] = {
        "model": "A causal model, or its name; by default the one loaded last."
    }

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    @property
    def answers_as(self) -> str:
        return "intent"

    def task(self, model: Model, subject: str, options: Options) -> Task:
        """As `Verb.task`: the task of the first step, the intent."""
        intents = options.intents
        listed = list(intents) if isinstance(intents, Mapping) else intents
        check_labels(listed, "intents", "intent")
        return choose_label(model, labels=intents, examples=options.examples)

    def check_options(self, frame: Any, call: Call[Options]) -> None:
        read_sources(call.options.sources, call.options.source_column)
        self.task_without_model(call)

    def new_columns(self, call: Call[Options]) -> list[str]:
        return [call.output + suffix for suffix in _COLUMNS]

    def run(self, frame: Any, call: Call[Options], model: Model | None, monitor: RunMonitor) -> Any:
        assert model is not None
        require(model, self.name, "causal")
        options, output = call.options, call.output
        rows = read_rows(frame, [call.subject])
        texts, labels = read_sources(options.sources, options.source_column)
        tasks = _tasks(call, model)
        # Sources come first, since the search is quick and may raise.
        found = _find_sources(texts, rows, call, _encoder(options), monitor)
        questions = Questions(
            lambda: index_labels(frame), call.execution, monitor, stopped=monitor.cancelled
        )
        for suffix, task in tasks.items():
            question = Question(task, model, {TEXT: call.subject}, output + suffix)
            questions.run(suffix, question, rows)
        contexts = ["\n".join(texts[n] for n in found.get(i, ())) for i in range(len(rows.texts))]
        drafts, number = _draft_rows(rows, contexts)
        draft = Question(_draft(call, model), model, _draft_columns(call), output)
        questions.run("", draft, drafts, number)

        answers = []
        for row, i in enumerate(rows.text_indices):
            cells = _cells(questions, rows, row)
            if i is not None and not questions.stopped:
                used = [labels[n] for n in found[i]]
                cells["_context"] = contexts[i] or None
                cells["_sources"] = json.dumps(used, ensure_ascii=False, default=str)
                if cells[""] is not None:
                    cells["_score"] = groundedness(cells[""], contexts[i])
                reasons = handover_reasons(cells, rows.texts[i][0], options.threshold)
                cells |= {"_handover": bool(reasons), "_reason": "; ".join(reasons) or None}
            elif cells["_error"] is not None:
                cells |= {"_handover": True, "_reason": failure_reason(cells["_error"])}
            answers.append(cells)
        kept = {s: dtype for s, (part, dtype) in _COLUMNS.items() if part in call.settings.keep}
        answered = write_columns(
            frame,
            {output + s: ([row[s] for row in answers], d) for s, d in kept.items()},
            {output + s for s in _COLUMNS} if f"{output}_run" in frame.columns else (),
        )
        for record in questions.records:
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
        without_ledger = replace(call, settings=replace(call.settings, ledger=False))
        with RunMonitor(self.name, call.output) as monitor:
            found = _find_sources(texts, rows, without_ledger, encoder, monitor)[0]
        how = "by words" if encoder is None else "by words and by meaning"
        listed = "\n".join(f"{labels[n]}: {texts[n]}" for n in found)
        steps.append(PreviewStep(f"sources, found {how}", listed or "none matches"))
        if found:
            context = "\n".join(texts[n] for n in found)
            prompt = preview_of(_draft(call, model), model, (context, message), truncate=truncate)
            steps.append(PreviewStep.of("draft: the prompt", prompt))
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
        # By words only, to run no encoder: the number and length of the sources are similar.
        with RunMonitor(self.name, call.output) as monitor:
            found = _find_sources(texts, rows, call, None, monitor)
        contexts = ["\n".join(texts[n] for n in found.get(i, ())) for i in range(len(rows.texts))]
        draft = Question(_draft(call, model), model, _draft_columns(call), "")
        steps["draft"] = estimate_rows(_draft_rows(rows, contexts)[0], draft, truncate=truncate)
        steps = {name: replace(step, verb=self.name) for name, step in steps.items()}
        return StepsEstimate(self.name, steps)


VERB = Reply()


def _cells(questions: Questions, rows: Rows, row: int) -> dict[str, Any]:
    """Return the cells of a row by suffix, as far as the questions have answered them."""
    i = rows.text_indices[row]
    cells: dict[str, Any] = dict.fromkeys(_COLUMNS)
    if i is None:
        return cells | {"_error": rows.errors.get(row)}
    cells |= {suffix: by.get(i) for suffix, by in questions.answers.items() if suffix in _COLUMNS}
    run = questions.records[-1]["id"] if questions.has_result("", i) else None
    return cells | {"_error": questions.error(i), "_run": run}


def _tasks(call: Call[Options], model: Model) -> dict[str, Task]:
    """Return the tasks that label a message, by the suffix of their column."""
    sentiment = SentimentOptions(neutral=True, examples=SENTIMENT_EXAMPLES)
    return {
        "_intent": call.task(model),
        "_sentiment": Sentiment().task(model, call.subject, sentiment),
        "_urgency": urgency_task(model, call.verb.name),
    }


def _draft(call: Call[Options], model: Model) -> Task:
    options = call.options
    return draft_task(
        model,
        call.verb.name,
        instruction=options.instruction,
        max_new_tokens=options.max_new_tokens,
    )


def _draft_columns(call: Call[Options]) -> dict[str, str]:
    """Return the columns that a draft reads."""
    return {SOURCES: f"{call.output}_context", MESSAGE: call.subject}


def _draft_rows(rows: Rows, contexts: Sequence[str]) -> tuple[Rows, dict[int, int]]:
    """Return the texts for drafts, of messages with sources, and the message of each text.

    Args:
        rows: The messages.
        contexts: The joined sources of each message; empty without any.
    """
    number = dict(enumerate(i for i, context in enumerate(contexts) if context))
    place = {i: n for n, i in number.items()}
    texts: list[tuple[str, ...]] = [(contexts[i], rows.texts[i][0]) for i in place]
    position = [None if i is None else place.get(i) for i in rows.text_indices]
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
    """Return the positions of the sources that match each message, best first.

    Args:
        sources: The texts of the sources.
        rows: The messages.
        call: The call.
        encoder: A sentence encoder; None to find sources by words only.
        monitor: Reports the progress, and whether to stop.
    """
    if not rows.texts:
        return {}
    messages = [message for (message,) in rows.texts]
    texts = distinct_rows([(source,) for source in sources])
    settings = replace(call.settings, truncate=True)

    def find(how: search.How, k: int) -> dict[int, list[tuple[int, float]]]:
        options = search.Options(messages, k, how)
        query = Call(search.VERB, TEXT, options, replace(settings, into="found"))
        model = None if how == "bm25" else encoder
        return search.find(texts, lambda: range(len(sources)), query, model, monitor).ranked

    similar: set[int] = set()
    if encoder is not None:
        nearest = find("dense", 1)
        similar = {n for n, ranked in nearest.items() if any(s >= _MIN_COSINE for _, s in ranked)}
    hits = find("bm25" if encoder is None else "fused", call.options.k)
    words = [set(content_words(source)) for source in sources]
    found: dict[int, list[int]] = {n: [] for n in range(len(messages))}
    for n, ranked in hits.items():
        message_words = set(content_words(messages[n]))
        # A hit may share nothing but words such as "the" and "is".
        found[n] = [row for row, _ in ranked if n in similar or words[row] & message_words]
    return found
