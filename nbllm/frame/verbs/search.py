"""The verb `search`: finds the rows whose text matches a query best, by words, by meaning or both.

By words is BM25. By meaning is the exact cosine of the embeddings. Both are combined by reciprocal
rank fusion, which does not require a common scale (Cormack, Clarke and Büttcher 2009,
https://doi.org/10.1145/1571941.1572114).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import narwhals as nw
import numpy as np

from nbllm.engine.batching import TokenBudget
from nbllm.engine.runner import run
from nbllm.errors import ModelError
from nbllm.frame.calls.models import preview_of
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import Rows, index_labels, read_rows, row_text
from nbllm.frame.evaluation.rankings import RankingKind, evaluate_rankings, is_search_result
from nbllm.frame.new_columns import take_rows
from nbllm.frame.retrieval.rankings import fuse, top_rows
from nbllm.frame.retrieval.words import WordIndex, terms
from nbllm.frame.running.estimate import (
    RunEstimate,
    StepsEstimate,
    estimate_without_model,
)
from nbllm.frame.running.preview import Preview, PreviewStep, StepsPreview
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.running.provenance import attach
from nbllm.frame.tasks.vector import unit_vectors
from nbllm.frame.verbs.embed import embed_rows, embedding_task, estimate_embedding
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

_RANKINGS = RankingKind("query", "queries", ("recall", "mrr", "ndcg"), bm25_baseline=True)
_PREVIEW_QUERIES = 3
_RANKED = {
    "bm25": "By BM25 of the words in common. No model is run.",
    "dense": "By the cosine of row and query.",
    "fused": "By the sum of 1 / (60 + rank) over the ranks by words (BM25) and by meaning "
    "(cosine).",
}


@dataclass(frozen=True)
class Options:
    """The options of `Search`."""

    query: str | Sequence[str] = option(
        "The query, or a list of queries: then the column `<column>_search_query` holds the query "
        "of each row.",
        positional=True,
    )
    k: int = option("The maximum number of rows per query.", 10)
    how: How = option(
        '"bm25": by words, without a model; "dense": by meaning, the cosine of the vectors; '
        '"fused": by both, with reciprocal rank fusion (the score is a sum of 1 / (60 + rank)).',
        "fused",
    )

    @property
    def queries(self) -> list[str]:
        """The queries as a list, also for a single one."""
        return [self.query] if isinstance(self.query, str) else list(self.query)


class Search(Verb[Options]):
    """Find the rows whose text matches a query best.

    Returns these rows, best first, with their index. `<column>_search` holds the rank, and
    `<column>_search_score` the number by which rows are ranked. "bm25" only finds rows that
    share a word with the query; rows without text are never found. The vectors of the texts
    are stored in the ledger, those of the queries are not. A stopped run ranks the rows that
    were embedded until then, for the queries that were embedded.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        FrameError: A query is blank, or k is below 1.
        ModelError: No sentence encoder is loaded, and `how` is not "bm25".
        TextTooLongError: A query does not fit the context of the encoder.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.search("article", "who won the final?", k=3)  # doctest: +SKIP
    """

    name = "search"
    options = Options
    one_question_per_row = False
    evaluation_arguments: ClassVar[tuple[str, ...]] = ("corpus", "key", "k")
    kind: ClassVar[Kind] = "encoder"
    marker = "_score"

    def task(self, model: Model, subject: str, options: Options) -> Task:
        return embedding_task(model)

    def new_columns(self, call: Call[Options]) -> list[str]:
        return _names(call.output)

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
        shown = options.queries[:_PREVIEW_QUERIES]
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
        return is_search_result(frame, name)

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_rankings(request, _RANKINGS)


VERB = Search()


@dataclass(frozen=True)
class Found:
    """The results of a search."""

    ranked: dict[int, list[tuple[int, float]]]  # (row, score), best first, by query number
    record: dict[str, Any] | None  # of the run that embedded the rows


def find(
    rows: Rows,
    labels: Callable[[], Sequence[Any]],
    call: Call[Options],
    model: Model | None,
    monitor: RunMonitor,
) -> Found:
    """Return the best rows for each query of a call.

    Args:
        rows: The texts of the rows.
        labels: Returns the labels of the rows.
        call: The call, with the queries.
        model: A sentence encoder; None to compare words only.
        monitor: Reports the progress, and whether to stop.

    Raises:
        TextTooLongError: A query does not fit the context of the encoder.
    """
    options = call.options
    by_words = by_meaning = None
    query_vectors: dict[int, NDArray[np.float32]] = {}
    if model is not None:
        # Queries come first, since they are few and may raise.
        truncate = call.settings.truncate
        query_vectors = _embed(options.queries, model, truncate=truncate, monitor=monitor)
        by_meaning = embed_rows(
            rows,
            labels,
            call.subject,
            model,
            output=call.output,
            execution=call.execution,
            monitor=monitor,
        )
    if options.how != "dense":  # after the vectors, so that their progress is shown at once
        by_words = WordIndex([None if i is None else rows.texts[i][0] for i in rows.text_indices])
    ranked: dict[int, list[tuple[int, float]]] = {}
    for n, query in enumerate(options.queries):
        if by_meaning is not None and n not in query_vectors:
            continue
        if by_meaning is None and monitor.cancelled:
            break
        scores = []
        if by_words is not None:
            scores.append(by_words.scores(query))
        if by_meaning is not None:
            scores.append(by_meaning.cosines(query_vectors[n]))
        total = fuse(scores) if options.how == "fused" else scores[0]
        ranked[n] = [(row, float(total[row])) for row in top_rows(total, options.k)]
    return Found(ranked, None if by_meaning is None else by_meaning.record)


def _names(into: str) -> list[str]:
    return [into, *(f"{into}_{part}" for part in ("score", "query", "run"))]


def _preview(text: str, encoder: Model, call: Call[Options]) -> Preview:
    task = embedding_task(encoder)
    return preview_of(task, encoder, (text,), truncate=call.settings.truncate)


def _embed(
    texts: Sequence[str], model: Model, *, truncate: bool, monitor: RunMonitor
) -> dict[int, NDArray[np.float32]]:
    """Return the unit vectors of texts by number, shape (dimensions,), up to a cancel.

    Raises:
        TextTooLongError: A text does not fit the context of the encoder.
        ModelError: The encoder fails on a text.
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
