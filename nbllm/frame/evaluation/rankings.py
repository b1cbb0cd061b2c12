"""Evaluation of the rankings of `search` and `recommend` against the relevant items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import index_labels, is_missing, read_rows
from nbllm.frame.evaluation.base import Evaluation, mean_estimate
from nbllm.frame.evaluation.rank_metrics import RANK_METRICS, by_chance, rank_metric
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.retrieval.histories import history_values, is_boolean, read_histories
from nbllm.frame.retrieval.rankings import top_rows
from nbllm.frame.retrieval.words import WordIndex
from nbllm.frame.running.provenance import find_record, run_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.request import EvaluationRequest

__all__ = [
    "RankEvaluation",
    "RankingKind",
    "evaluate_rankings",
    "is_recommendation",
    "is_search_result",
]

# The key of the only ranking, if the frame or the truth has no column of queries or users.
_ONLY = None


@dataclass(frozen=True)
class RankingKind:
    """The kind of a verb's rankings, and their metrics and baseline."""

    subject: str  # owner of each ranking: "query" or "user"
    unit: str  # plural of the subject
    metrics: tuple[str, ...]  # keys of `RANK_METRICS`
    bm25_baseline: bool = False
    popularity_baseline: bool = False  # the items that most users liked


@dataclass(frozen=True, eq=False, repr=False)
class RankEvaluation(Evaluation):
    """Evaluation of rankings, as `df.llm.evaluate` returns it.

    It covers every query or user with a relevant item. An empty ranking counts as 0. Each measure
    is a mean with the interval of 2,000 seeded bootstrap resamples of queries or users.
    """

    kind: RankingKind
    subjects: list[Any]  # queries or users
    k: int  # number of items of each ranking that count
    baseline_rankings: list[list[Any]] | None  # one per subject
    candidates: list[int] | None  # number of items that could be ranked, per subject

    @property
    def unit(self) -> str:
        """The unit of evaluation, in the plural."""
        return self.kind.unit

    @property
    def remark(self) -> str:
        """A footnote to the measures, or an empty string."""
        nothing = sum(not ranking for ranking in self.answers)
        return f"Nothing was found for {nothing:,}, which count as 0." if nothing else ""

    @cached_property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """By metric, the value of each query or user, 0 to 1, shape (subjects,)."""
        return self._values(self.answers)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        rankings = self.baseline_rankings
        baseline = None if rankings is None else self._values(rankings)
        return tuple(
            Measure(
                RANK_METRICS[metric].format(k=self.k),
                mean_estimate(values),
                self._chance(metric) if baseline is None else float(baseline[metric].mean()),
                chance=None if baseline is None else self._chance(metric),
            )
            for metric, values in self.values.items()
        )

    @property
    def by_query(self) -> Any:
        """The measures of each query or user, as a frame; sort it to find the failures."""
        columns = {RANK_METRICS[m].format(k=self.k): v.tolist() for m, v in self.values.items()}
        return self._frame({self.kind.subject: list(map(str, self.subjects)), **columns})

    def _values(self, rankings: Sequence[Sequence[Any]]) -> dict[str, NDArray[np.float64]]:
        pairs = list(zip(rankings, self.right, strict=True))
        return {
            metric: np.array([rank_metric(metric, *pair, self.k) for pair in pairs])
            for metric in self.kind.metrics
        }

    def _chance(self, metric: str) -> float | None:
        if self.candidates is None:
            return None
        pairs = zip(self.candidates, self.right, strict=True)
        values = [by_chance(metric, count, len(relevant), self.k) for count, relevant in pairs]
        return float(np.mean(values))


def evaluate_rankings(request: EvaluationRequest, kind: RankingKind) -> RankEvaluation:
    """Return the evaluation of a frame's rankings against the items relevant to each subject.

    Args:
        request: The frame with the rankings. Its truth maps each query or user to one or more
            labels of relevant items, as a mapping or as a frame whose first two columns are
            those; for a single query or user it may be the labels alone. `k` is by default the
            length of the longest ranking.
        kind: The kind of the rankings.

    Raises:
        ColumnError: There is no such column.
        FrameError: The truth has another form, or names labels that `corpus` lacks.
    """
    frame, output, corpus, key = request.frame, request.output, request.corpus, request.key
    subject, history = kind.subject, request.history
    rankings = _rankings(frame, output, subject, _labels(frame, key))
    names = None if corpus is None else _labels(corpus, key)
    liked = {} if history is None else _liked_labels(history, corpus, names, key)
    relevant = _relevant_labels(request.truth, subject)
    if set(rankings) <= {_ONLY} and len(relevant) == 1:
        # The truth may name the query, so its key is the one to use.
        rankings = dict.fromkeys(relevant, next(iter(rankings.values()), []))
        liked = dict.fromkeys(relevant, liked[_ONLY]) if _ONLY in liked else liked
    elif _ONLY in relevant or _ONLY in rankings:
        wanted = "labels by" if _ONLY in relevant else "the labels of one"
        raise FrameError(f"the frame and the truth do not fit: pass {wanted} {subject}.")
    if names is not None:
        known = set(names)
        unknown = [label for labels in relevant.values() for label in labels - known]
        if unknown:
            raise FrameError(
                f"no row of corpus= is labelled {unknown[0]!r}, which the truth names. Labels are "
                "those of its index, or of the column that key= names."
            )
    # An item that the user liked before is never recommended, so it must not count as missed.
    expected = {name: labels - liked.get(name, set()) for name, labels in relevant.items()}
    subjects = [name for name, labels in expected.items() if labels]
    if not subjects:
        raise FrameError(f"the truth names nothing that could be found for a {subject}.")
    k = int(max(request.data[output].to_list(), default=1)) if request.k is None else request.k
    baseline_rankings, baseline = None, "none" if names is None else "drawing at random"
    if kind.popularity_baseline and nw.dependencies.is_into_dataframe(history):
        baseline_rankings = _popularity_rankings(subjects, liked, k)
        baseline = "what most users liked"
    column = _searched_column(frame, output) if kind.bm25_baseline else None
    if names is not None and column is not None and _ONLY not in subjects:
        baseline_rankings = _bm25_rankings(subjects, corpus, column, names, k)
        baseline = "BM25, by words alone"
    candidates = None
    if names is not None:
        candidates = [len(names) - len(liked.get(name, ())) for name in subjects]
    return RankEvaluation(
        frame=frame,
        output=output,
        truth="what is relevant",
        verb=request.verb,
        answers=[rankings.get(name, []) for name in subjects],
        right=[expected[name] for name in subjects],
        positions=[],
        unanswered=0,
        baseline=baseline,
        kind=kind,
        subjects=subjects,
        k=k,
        baseline_rankings=baseline_rankings,
        candidates=candidates,
    )


def _labels(frame: Any, key: str | None) -> list[Any]:
    """Return the label of each row of a frame."""
    data = nw.from_native(frame, eager_only=True)
    if key is None:
        if not hasattr(frame, "index"):
            raise FrameError(
                "polars has no index that says which rows these are. Name the column that does: "
                "key=."
            )
        return list(index_labels(frame))
    if key not in data.columns:
        raise ColumnError(
            f"key={key!r} is no column of the frame, or of corpus=. Name one of both."
        )
    labels: list[Any] = data[key].to_list()
    return labels


def _rankings(frame: Any, output: str, subject: str, labels: Sequence[Any]) -> dict[Any, list[Any]]:
    """Return the ranked labels of each query or user, best first."""
    data = nw.from_native(frame, eager_only=True)
    column = f"{output}_{subject}"
    subjects = data[column].to_list() if column in data.columns else [_ONLY] * len(labels)
    found: dict[Any, list[tuple[int, Any]]] = {}
    for name, rank, label in zip(subjects, data[output].to_list(), labels, strict=True):
        found.setdefault(name, []).append((int(rank), label))
    return {
        name: [label for _, label in sorted(ranks, key=lambda pair: pair[0])]
        for name, ranks in found.items()
    }


def _relevant_labels(truth: Any, subject: str) -> dict[Any, set[Any]]:
    """Return the relevant labels by query or user, or by `_ONLY` if the truth names neither."""
    if isinstance(truth, str):
        raise FrameError(
            f"truth={truth!r} is one string, and a ranking is judged by the labels of what is "
            f"relevant. Pass {{{subject}: [label, ...]}}, a frame of {subject} and label, or a "
            "list of labels."
        )
    pairs: Iterable[tuple[Any, Any]]
    if nw.dependencies.is_into_dataframe(truth):
        data = nw.from_native(truth, eager_only=True)
        if len(data.columns) < 2:
            raise FrameError(
                f"the truth has one column. Its first two are the {subject} and the label."
            )
        pairs = [(name, label) for name, label, *_ in data.iter_rows()]
    elif isinstance(truth, Mapping) or hasattr(truth, "items"):  # a pandas Series
        pairs = list(truth.items())
    else:
        pairs = [(_ONLY, truth)]
    found: dict[Any, set[Any]] = {}
    for name, labels in pairs:
        several = hasattr(labels, "__iter__") and not isinstance(labels, str | bytes)
        values = set(labels) if several else {labels}
        found.setdefault(name, set()).update(x for x in values if not is_missing(x))
    return found


def _liked_labels(
    history: Any, corpus: Any, names: list[Any] | None, key: str | None
) -> dict[Any, set[Any]]:
    """Return the labels of the items that each user liked before."""
    if corpus is not None and names is not None:
        rows = read_histories(corpus, history)
        return {user: {names[row] for row in liked} for user, liked in rows.items()}
    several = nw.dependencies.is_into_dataframe(history)
    values = [] if several or isinstance(history, str) else history_values(history)
    if key is not None or isinstance(history, str) or is_boolean(values):
        raise FrameError("history= needs the frame that it speaks of. Pass that as corpus=.")
    if not several:
        return {_ONLY: set(values)}
    found: dict[Any, set[Any]] = {}
    for user, label, *_ in nw.from_native(history, eager_only=True).iter_rows():
        found.setdefault(user, set()).add(label)
    return found


def _popularity_rankings(
    users: Sequence[Any], liked: Mapping[Any, set[Any]], k: int
) -> list[list[Any]]:
    """Return for each user the items that most users liked, without those the user liked."""
    counts = Counter(label for labels in liked.values() for label in labels)
    order = [label for label, _ in sorted(counts.items(), key=lambda x: (-x[1], str(x[0])))]
    return [
        list(islice((label for label in order if label not in liked.get(user, ())), k))
        for user in users
    ]


def _searched_column(frame: Any, output: str) -> str | None:
    """Return the column that was searched by meaning; None for a search by words alone."""
    if f"{output}_run" not in frame.columns:
        return None
    runs = run_ids(frame, f"{output}_run")
    return next(iter(find_record(runs[0], frame)["columns"].values())) if runs else None


def _bm25_rankings(
    queries: Sequence[str], corpus: Any, column: str, names: Sequence[Any], k: int
) -> list[list[Any]]:
    rows = read_rows(corpus, [column])
    index = WordIndex([None if i is None else rows.texts[i][0] for i in rows.text_indices])
    return [[names[row] for row in top_rows(index.scores(query), k)] for query in queries]


def is_recommendation(frame: Any, name: str) -> bool:
    """Return whether a column holds the ranks of recommended items, judging by its companions."""
    return f"{name}_because" in frame.columns and _is_integer(frame, name)


def is_search_result(frame: Any, name: str) -> bool:
    """Return whether a column holds the ranks of found rows, judging by its companions."""
    scored = f"{name}_score" in frame.columns and not is_recommendation(frame, name)
    return scored and _has_ranks(frame, name)


def _is_integer(frame: Any, name: str) -> bool:
    return bool(nw.from_native(frame, eager_only=True)[name].dtype.is_integer())


def _has_ranks(frame: Any, name: str) -> bool:
    """Return whether a column holds integers that count the rows of each query from 1."""
    data = nw.from_native(frame, eager_only=True)
    if not _is_integer(frame, name):
        return False
    if f"{name}_run" in data.columns or not len(data):
        return True
    # A search by words has no run. Unlike ranks, ratings are integers that repeat.
    query = f"{name}_query"
    by = [query, name] if query in data.columns else [name]
    return data[name].min() == 1 and len(data.select(by).unique()) == len(data)
