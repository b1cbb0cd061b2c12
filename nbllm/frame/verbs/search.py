"""Search: the rows whose text fits a query best, by words, by meaning, or by both.

By words is BM25. By meaning is the cosine of the embeddings, exact. Both together is reciprocal
rank fusion, which needs no scale in common (Cormack, Clarke and Büttcher 2009,
https://doi.org/10.1145/1571941.1572114).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import narwhals as nw
import numpy as np

from nbllm.engine.batching import TokenBudget
from nbllm.engine.runner import run
from nbllm.errors import ModelError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb, choose_encoder, preview_of
from nbllm.frame.columns import Rows, check_columns, index_labels, read_rows, row_text
from nbllm.frame.evaluation.rankings import RankingKind, are_found_ranks, of_ranks
from nbllm.frame.new_columns import refuse_taken, take_rows
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.retrieval.rankings import best, fuse
from nbllm.frame.retrieval.words import WordIndex, terms
from nbllm.frame.running.estimate import (
    RunEstimate,
    StepsEstimate,
    estimate_run,
    estimate_without_model,
)
from nbllm.frame.running.execute import Question
from nbllm.frame.running.preview import Preview, PreviewStep, StepsPreview
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.running.provenance import attach
from nbllm.frame.tasks.vector import unit_vectors
from nbllm.frame.verbs.embed import embed_rows, embedding_task
from nbllm.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.tasks.base import Task
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Search"]

How = Literal["fused", "dense", "bm25"]

_RANKINGS = RankingKind("query", "queries", ("recall", "mrr", "ndcg"), is_by_words=True)
_SHOWN = 3  # queries that a preview writes out
_RANKED = {
    "bm25": "By BM25 of the words in common. No model is asked.",
    "dense": "By the cosine of row and query.",
    "fused": "By the sum of 1 / (60 + rank) over the ranks by words (BM25) and by meaning "
    "(cosine).",
}


@dataclass(frozen=True)
class Options:
    """What is looked for, and how."""

    query: str | Sequence[str] = option(
        "what to look for, or a list of such: then `<column>_search_query` says for which of them "
        "a row was found.",
        positional=True,
    )
    k: int = option("how many rows a query.", 10)
    how: How = option(
        '"bm25" by words, which asks no model; "dense" by meaning, the cosine of the vectors; '
        '"fused" by both, with reciprocal rank fusion (its score is a sum of 1 / (60 + rank)).',
        "fused",
    )

    @property
    def queries(self) -> list[str]:
        """One query or several as a list."""
        return [self.query] if isinstance(self.query, str) else list(self.query)


class Search(Verb[Options]):
    """Find the rows whose text fits a query best.

    It returns those rows, best first, with their index, their rank as `<column>_search`
    and what they are ranked by as `<column>_search_score`. A row that has none of the
    query's words is not found by "bm25", and one without text is never found. The texts'
    vectors are kept in the ledger, those of the queries are not. Stopped, it ranks what was
    embedded until then, for the queries that were.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: a query without text, or k below 1.
        ModelError: no sentence encoder is loaded, and `how` is not "bm25".
        TextTooLongError: a query that does not fit the encoder.

    Example:
        >>> df.llm.search("article", "who won the final?", k=3)  # doctest: +SKIP
    """

    name = "search"
    options = Options
    one_question_per_row = False
    evaluation_arguments: ClassVar[tuple[str, ...]] = ("corpus", "key", "k")
    kind: ClassVar[Kind] = "encoder"

    def task(self, model: Model, subject: str, options: Options) -> Task:
        return embedding_task(model)

    def check(self, frame: Any, call: Call[Options], *, adds: bool = True) -> None:
        check_columns(frame, [call.subject])
        if adds:
            refuse_taken(frame, _names(call.output), ours=f"{call.output}_score")

    def model_of(self, call: Call[Options]) -> Model | None:
        return None if call.options.how == "bm25" else call.model()

    def run(self, frame: Any, call: Call[Options], model: Model | None, monitor: RunMonitor) -> Any:
        into, keep, queries = call.output, call.settings.keep, call.options.queries
        rows = read_rows(frame, [call.subject])
        found = find(rows, lambda: index_labels(frame), call, model, monitor)
        hits = [
            (row, rank, score, queries[n])
            for n, ranked in found.ranked.items()
            for rank, (row, score) in enumerate(ranked, start=1)
        ]
        columns: dict[str, tuple[list[Any], Any]] = {}
        if "value" in keep:
            columns[into] = ([hit[1] for hit in hits], nw.Int64)
        if "score" in keep:
            columns[f"{into}_score"] = ([hit[2] for hit in hits], nw.Float64)
        if not isinstance(call.options.query, str):
            columns[f"{into}_query"] = ([hit[3] for hit in hits], nw.String)
        if found.record is not None and "run" in keep:
            columns[f"{into}_run"] = ([found.record["id"]] * len(hits), nw.Categorical)
        taken = take_rows(frame, [hit[0] for hit in hits], columns, drop=_names(into))
        if found.record is not None:
            attach(taken, found.record)
        return taken

    def preview(self, frame: Any, call: Call[Options], row: Any) -> StepsPreview:
        text, options = row_text(frame, call.subject, row), call.options
        shown = options.queries[:_SHOWN]
        steps = []
        if options.how != "dense":
            words = ", ".join(dict.fromkeys(terms(text)))
            steps.append(PreviewStep("by words: what counts of the row", words or "nothing"))
            steps += [
                PreviewStep(
                    f"by words: what counts of {query!r}", ", ".join(terms(query)) or "nothing"
                )
                for query in shown
            ]
        if options.how != "bm25":
            encoder = call.model()

            def embedded(what: str, text: str) -> PreviewStep:
                title = f"by meaning: {what}, embedded by {encoder.name}"
                return PreviewStep.of(title, _preview(text, encoder, call))

            steps.append(embedded("the row", text))
            steps += [embedded("a query", query) for query in shown]
        many = f"The first {counted(options.k, 'row')}" + (
            f" of each of {counted(len(options.queries), 'query', 'queries')}"
            * (len(options.queries) > 1)
        )
        steps.append(PreviewStep("ranking", f"{_RANKED[options.how]} {many}, best first."))
        return StepsPreview(self.name, tuple(steps))

    def estimate(self, frame: Any, call: Call[Options]) -> RunEstimate | StepsEstimate:
        options = call.options

        def rank(texts: Sequence[str]) -> None:
            index = WordIndex(texts)
            for query in options.queries:
                index.scores(query)

        by_words = (
            None
            if options.how == "dense"
            else estimate_without_model(self.name, frame, call.subject, rank)
        )
        if options.how == "bm25" and by_words is not None:
            return by_words
        by_meaning = estimate_embedding(self.name, frame, call)
        if by_words is None:
            return by_meaning
        return StepsEstimate(self.name, {"by words": by_words, "by meaning": by_meaning})

    def recognizes(self, frame: Any, name: str) -> bool:
        return are_found_ranks(frame, name)

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        return of_ranks(judged, _RANKINGS)


VERB = Search()


@dataclass(frozen=True)
class Found:
    """For each query, by its number, the rows that were found and their scores, best first."""

    ranked: dict[int, list[tuple[int, float]]]
    record: dict[str, Any] | None  # of the run that embedded the rows


def find(
    rows: Rows,
    labels: Callable[[], Sequence[Any]],
    call: Call[Options],
    model: Model | None,
    monitor: RunMonitor,
) -> Found:
    """Rank rows for each query of a call.

    Args:
        rows: their texts.
        labels: their labels.
        model: a sentence encoder; None where words alone are compared.
    """
    options = call.options
    by_words = by_meaning = None
    asked: dict[int, NDArray[np.float32]] = {}
    if model is not None:
        # First, since it is quick and may be refused.
        asked = _embed(options.queries, model, truncate=call.settings.truncate, monitor=monitor)
        by_meaning = embed_rows(
            rows,
            labels,
            call.subject,
            model,
            output=call.output,
            execution=call.execution,
            monitor=monitor,
        )
    if options.how != "dense":  # after the vectors, whose progress is shown
        by_words = WordIndex([None if i is None else rows.texts[i][0] for i in rows.position])
    ranked: dict[int, list[tuple[int, float]]] = {}
    for n, query in enumerate(options.queries):
        if by_meaning is not None and n not in asked:
            continue
        if by_meaning is None and monitor.cancelled:
            break
        scores = []
        if by_words is not None:
            scores.append(by_words.scores(query))
        if by_meaning is not None:
            scores.append(by_meaning.cosines(asked[n]))
        total = fuse(scores) if options.how == "fused" else scores[0]
        ranked[n] = [(row, float(total[row])) for row in best(total, options.k)]
    return Found(ranked, None if by_meaning is None else by_meaning.record)


def estimate_embedding(verb: str, frame: Any, call: Call[Any]) -> RunEstimate:
    """Return what embedding the rows takes; queries and cosines are not counted, being quick."""
    encoder = choose_encoder(call.settings.model, verb)
    question = Question(embedding_task(encoder), encoder, {TEXT: call.subject}, "")
    estimate = estimate_run(frame, question, truncate=call.settings.truncate)
    return replace(estimate, verb=verb)


def _names(into: str) -> list[str]:
    return [into, *(f"{into}_{part}" for part in ("score", "query", "run"))]


def _preview(text: str, encoder: Model, call: Call[Options]) -> Preview:
    task = embedding_task(encoder)
    return preview_of(task, encoder, (text,), truncate=call.settings.truncate)


def _embed(
    texts: Sequence[str], model: Model, *, truncate: bool, monitor: RunMonitor
) -> dict[int, NDArray[np.float32]]:
    """Vectors of length 1, shape (dimensions,), by text; of those before a cancel.

    Raises:
        TextTooLongError: a text does not fit the encoder.
        ModelError: the encoder fails on a text.
    """
    task = embedding_task(model)
    bound = task.bind(model, model.context_length)
    prompts = []
    for prompt in bound.encode([(text,) for text in texts], truncate=truncate):
        if isinstance(prompt, Exception):
            raise prompt
        prompts.append(prompt)
    vectors: dict[int, Any] = {}
    for done in run(prompts, bound, budget=TokenBudget.of(model, decodes=False)):
        if done.errors:
            raise ModelError(f"a text could not be embedded: {next(iter(done.errors.values()))}")
        answers = list(done.answers.values())
        vectors |= dict(zip(done.answers, task.decode(answers, None)[0], strict=True))
        if monitor.cancelled:
            break
    return dict(zip(vectors, unit_vectors(list(vectors.values())), strict=True))
