"""Rankings against what is relevant: what `search` found, and what `recommend` did."""

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
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.retrieval.histories import are_marks, listed, read_histories
from nbllm.frame.retrieval.rankings import best
from nbllm.frame.retrieval.words import WordIndex
from nbllm.frame.running.provenance import find_record, run_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.request import EvaluationRequest

__all__ = ["RankEvaluation", "RankingKind", "are_found_ranks", "are_recommended", "of_ranks"]

# The key of the ranking if there is only one.
_ONLY = None


@dataclass(frozen=True)
class RankingKind:
    """What a verb's rankings are of, and what they are measured by."""

    subject: str  # whose ranking each is, such as "query"
    unit: str  # the same in the plural
    metrics: tuple[str, ...]  # of `RANK_METRICS`
    is_by_words: bool = False  # the baseline is a search by words
    is_of_users: bool = False  # the baseline is what most users liked


@dataclass(frozen=True, eq=False, repr=False)
class RankEvaluation(Evaluation):
    """Rankings against what is relevant. Made by `df.llm.evaluate`.

    One for each query or user that something is relevant to, also those for whom nothing was
    found, which count as 0. Each measure is the mean over them, with the interval of 2,000
    bootstrap draws of them, seeded.
    """

    kind: RankingKind
    subjects: list[Any]  # the queries or users
    k: int  # how many of each ranking count
    plain: list[list[Any]] | None  # the baseline's ranking for each
    candidates: list[int] | None  # how many there were to rank for each

    @property
    def unit(self) -> str:
        """The unit that is judged, in the plural."""
        return self.kind.unit

    @property
    def remark(self) -> str:
        """A footnote to the measures, or an empty string."""
        nothing = sum(not ranking for ranking in self.answers)
        return f"Nothing was found for {nothing:,}, which count as 0." if nothing else ""

    @cached_property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """Each metric of each query or user, 0 to 1, shape (queries,)."""
        return self._values(self.answers)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        plain = None if self.plain is None else self._values(self.plain)
        return tuple(
            Measure(
                RANK_METRICS[metric].format(k=self.k),
                mean_estimate(values),
                self._chance(metric) if plain is None else float(plain[metric].mean()),
                chance=None if plain is None else self._chance(metric),
            )
            for metric, values in self.values.items()
        )

    @property
    def by_query(self) -> Any:
        """Each query or user with its measures, as a frame; sort it to find the failures."""
        named = {RANK_METRICS[m].format(k=self.k): v.tolist() for m, v in self.values.items()}
        return self._frame({self.kind.subject: list(map(str, self.subjects)), **named})

    def _values(self, rankings: Sequence[Sequence[Any]]) -> dict[str, NDArray[np.float64]]:
        pairs = list(zip(rankings, self.right, strict=True))
        return {
            metric: np.array([rank_metric(metric, ranking, to, self.k) for ranking, to in pairs])
            for metric in self.kind.metrics
        }

    def _chance(self, metric: str) -> float | None:
        if self.candidates is None:
            return None
        pairs = zip(self.candidates, self.right, strict=True)
        drawn = [by_chance(metric, many, len(relevant), self.k) for many, relevant in pairs]
        return float(np.mean(drawn))


def of_ranks(judged: EvaluationRequest, kind: RankingKind) -> RankEvaluation:
    """Return the rankings of a frame beside what is relevant to each query or user.

    Args:
        judged: what the verb returned; its truth is query or user to the label of what is
            relevant to it, or several such; or a frame whose first two columns are those; for one
            query or user, the labels alone. By default as many of each ranking count as the
            longest has.
        kind: what the rankings are of.

    Raises:
        ColumnError: no such column.
        FrameError: a truth of another form, labels that `corpus` has not, or k below 1.
    """
    frame, output, corpus, key = judged.frame, judged.output, judged.corpus, judged.key
    subject, history = kind.subject, judged.history
    rankings = _rankings(frame, output, subject, _labels(frame, key))
    names = None if corpus is None else _labels(corpus, key)
    liked = {} if history is None else _liked(history, corpus, names, key)
    relevant = _relevant(judged.truth, subject)
    if set(rankings) <= {_ONLY} and len(relevant) == 1:
        # One ranking and one truth, which may say what the query was.
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
    # What a user liked before is never recommended, so it cannot be missed either.
    left = {one: labels - liked.get(one, set()) for one, labels in relevant.items()}
    subjects = [one for one, labels in left.items() if labels]
    if not subjects:
        raise FrameError(f"the truth names nothing that could be found for a {subject}.")
    k = _depth(judged.k, nw.from_native(frame, eager_only=True)[output].to_list())
    plain, baseline = None, "none" if names is None else "drawing at random"
    if kind.is_of_users and nw.dependencies.is_into_dataframe(history):
        plain, baseline = _popular(subjects, liked, k), "what most users liked"
    column = _searched(frame, output) if kind.is_by_words else None
    if names is not None and column is not None and _ONLY not in subjects:
        plain, baseline = _by_words(subjects, corpus, column, names, k), "BM25, by words alone"
    many = None if names is None else [len(names) - len(liked.get(one, ())) for one in subjects]
    return RankEvaluation(
        frame=frame,
        output=output,
        truth="what is relevant",
        verb=judged.verb,
        answers=[rankings.get(one, []) for one in subjects],
        right=[left[one] for one in subjects],
        positions=[],
        unanswered=0,
        baseline=baseline,
        kind=kind,
        subjects=subjects,
        k=k,
        plain=plain,
        candidates=many,
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
    """Return the labels found for each query or user, best first."""
    data = nw.from_native(frame, eager_only=True)
    column = f"{output}_{subject}"
    of = data[column].to_list() if column in data.columns else [_ONLY] * len(labels)
    found: dict[Any, list[tuple[int, Any]]] = {}
    for one, rank, label in zip(of, data[output].to_list(), labels, strict=True):
        found.setdefault(one, []).append((int(rank), label))
    return {
        one: [label for _, label in sorted(ranks, key=lambda pair: pair[0])]
        for one, ranks in found.items()
    }


def _relevant(truth: Any, subject: str) -> dict[Any, set[Any]]:
    """Return the relevant labels of each query or user; under None if the truth names none."""
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
        pairs = [(one, label) for one, label, *_ in data.iter_rows()]
    elif isinstance(truth, Mapping) or hasattr(truth, "items"):  # pandas' Series has them too
        pairs = list(truth.items())
    else:
        pairs = [(_ONLY, truth)]
    found: dict[Any, set[Any]] = {}
    for one, labels in pairs:
        several = hasattr(labels, "__iter__") and not isinstance(labels, str | bytes)
        some = set(labels) if several else {labels}
        found.setdefault(one, set()).update(x for x in some if not is_missing(x))
    return found


def _liked(
    history: Any, corpus: Any, names: list[Any] | None, key: str | None
) -> dict[Any, set[Any]]:
    """Return the labels that each user liked before."""
    if corpus is not None and names is not None:
        rows = read_histories(corpus, history)
        return {user: {names[row] for row in liked} for user, liked in rows.items()}
    several = nw.dependencies.is_into_dataframe(history)
    given = [] if several or isinstance(history, str) else listed(history)
    if key is not None or isinstance(history, str) or are_marks(given):
        raise FrameError("history= needs the frame that it speaks of. Pass that as corpus=.")
    if not several:
        return {_ONLY: set(given)}
    found: dict[Any, set[Any]] = {}
    for user, label, *_ in nw.from_native(history, eager_only=True).iter_rows():
        found.setdefault(user, set()).add(label)
    return found


def _popular(subjects: Sequence[Any], liked: Mapping[Any, set[Any]], k: int) -> list[list[Any]]:
    """Return for each user what most others liked, without what the user liked."""
    counts = Counter(label for labels in liked.values() for label in labels)
    order = [label for label, _ in sorted(counts.items(), key=lambda x: (-x[1], str(x[0])))]
    return [
        list(islice((label for label in order if label not in liked.get(user, ())), k))
        for user in subjects
    ]


def _searched(frame: Any, output: str) -> str | None:
    """Return the column that was searched by meaning; None if by words alone."""
    if f"{output}_run" not in frame.columns:
        return None
    runs = run_ids(frame, f"{output}_run")
    return str(find_record(runs[0], frame)["columns"][TEXT]) if runs else None


def _by_words(
    queries: Sequence[str], corpus: Any, column: str, names: Sequence[Any], k: int
) -> list[list[Any]]:
    rows = read_rows(corpus, [column])
    index = WordIndex([None if i is None else rows.texts[i][0] for i in rows.position])
    return [[names[row] for row in best(index.scores(query), k)] for query in queries]


def _depth(k: int | None, ranks: Sequence[int]) -> int:
    if k is None:
        return int(max(ranks, default=1))
    return k


def are_recommended(frame: Any, name: str) -> bool:
    """Whether a column holds ranks of items that were recommended, by the columns beside it."""
    return f"{name}_because" in frame.columns and _are_whole(frame, name)


def are_found_ranks(frame: Any, name: str) -> bool:
    """Whether a column holds ranks of rows that were found, by the columns beside it."""
    columns = frame.columns
    found = f"{name}_score" in columns and not are_recommended(frame, name)
    return found and _are_ranks(frame, name)


def _are_whole(frame: Any, name: str) -> bool:
    return bool(nw.from_native(frame, eager_only=True)[name].dtype.is_integer())


def _are_ranks(frame: Any, name: str) -> bool:
    """Whether a column of whole numbers counts what was found, for each query from 1 on."""
    data = nw.from_native(frame, eager_only=True)
    if not _are_whole(frame, name):
        return False
    if f"{name}_run" in data.columns or not len(data):
        return True
    # No run says so where no model was asked. Ratings are whole numbers too, but come again.
    query = f"{name}_query"
    by = [query, name] if query in data.columns else [name]
    return data[name].min() == 1 and len(data.select(by).unique()) == len(data)
