"""How good the answers of a frame are, against a column that has the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.checks import shown
from nbllm.errors import ColumnError, FrameError, LabelError
from nbllm.frame.columns import is_missing
from nbllm.frame.evaluation import render
from nbllm.frame.evaluation.text_metrics import METRICS, corpus_metric, first_sentences, row_metric
from nbllm.frame.evaluation.truth import refuse_unknown, right_answers
from nbllm.frame.outputs import choose_output
from nbllm.frame.prompts.arguments import listed
from nbllm.frame.running.provenance import find_record, last_attached, run_ids
from nbllm.stats import (
    Bin,
    Estimate,
    bootstrap,
    bootstrap_counts,
    calibration_error,
    label_scores,
    proportion,
    reliability,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = [
    "CONFIDENCE",
    "SEED",
    "Evaluation",
    "LabelEvaluation",
    "Measure",
    "TextEvaluation",
    "evaluate",
    "mean_estimate",
]

CONFIDENCE = 0.95  # of intervals
SEED = 0  # of the draws that they are made of
# What is measured of a verb's texts where nothing is asked for.
_DEFAULT = {"translate": ("bleu", "chrf"), "answer": ("exact", "token_f1")}
_ROUGE = ("rouge1", "rouge2", "rougeL")
_METRICS_ARE_OF_TEXTS = "metrics= is for answers that are texts. Leave it out."


@dataclass(frozen=True)
class Measure:
    """One line of the summary."""

    name: str
    value: Estimate
    baseline: float | None = None
    label: str | None = None  # that it is about, where it is about one
    chance: float | None = None  # what drawing at random gives on average


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Answers against the truth. Made by `df.llm.evaluate`.

    Rows without a truth or without an answer are left out, and counted.
    """

    frame: Any
    output: str
    truth: str
    verb: str
    answers: list[Any]  # of the rows that have both
    right: list[Any]
    positions: list[int]  # of those rows in the frame
    unanswered: int  # rows with a truth and no answer
    baseline: str  # what the answers are put beside

    @property
    def unit(self) -> str:
        """What is judged, in the plural."""
        return "rows"

    @property
    def remark(self) -> str:
        """What else a reader of the measures should know; empty where nothing."""
        return ""

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """All that was measured, in reading order."""
        raise NotImplementedError

    @property
    def summary(self) -> Any:
        """The measures as a frame: value, 95 % interval and baseline, by measure and label.

        Where something may be drawn at random, `chance` is what that gives on average.
        """
        lines = [(m.name, m.label, *m.value, m.baseline, m.chance) for m in self.measures]
        names = ["measure", "label", "value", "low", "high", "baseline", "chance"]
        if all(measure.chance is None for measure in self.measures):
            names.pop()
        columns = [[line[n] for line in lines] for n in range(len(names))]
        return self._frame(dict(zip(names, columns, strict=True)))

    @property
    def count(self) -> int:
        """Rows that have both."""
        return len(self.answers)

    def _taken(self, positions: Sequence[int], frame: Any = None) -> Any:
        """These rows of the frame, or of another."""
        frame = self.frame if frame is None else frame
        found = nw.from_native(frame, eager_only=True)[list(positions)].to_native()
        if hasattr(found, "attrs"):
            found.attrs = dict(frame.attrs)
        return found

    def _frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        schema: dict[str, Any] = dict.fromkeys(("measure", "label", "truth"), nw.String)
        schema |= dict.fromkeys(("baseline", "chance"), nw.Float64)
        backend = nw.from_native(self.frame, eager_only=True).implementation
        series = [
            nw.new_series(name, values, schema.get(name), backend=backend)
            for name, values in columns.items()
        ]
        return nw.DataFrame.from_dict({s.name: s for s in series}, backend=backend).to_native()

    def __repr__(self) -> str:
        return render.text(self)

    def _repr_html_(self) -> str:
        return render.html(self)


@dataclass(frozen=True, eq=False, repr=False)
class LabelEvaluation(Evaluation):
    """Labels against the truth. Made by `df.llm.evaluate`.

    Accuracy has Wilson's interval, all else that of 2,000 bootstrap draws, seeded. The baseline
    gives every row the most frequent true label.
    """

    score: NDArray[np.float64] | None  # probability of each answer, shape (rows,)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All that are true of a row or answered, in alphabetical order."""
        return tuple(sorted({*self.answers, *self.right}))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Rows by true label and answer, shape (labels, labels)."""
        return self._counts(self.answers)

    @property
    def confusion(self) -> Any:
        """The counts as a frame: a row for each true label, a column for each answer."""
        columns = {label: self.counts[:, n].tolist() for n, label in enumerate(self.labels)}
        return self._frame({"truth": list(self.labels), **columns})

    @property
    def bins(self) -> list[Bin]:
        """The reliability of the score; empty where there is none."""
        return [] if self.score is None else reliability(self.score, self.hits)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each answer is right, shape (rows,)."""
        return np.array([a == b for a, b in zip(self.answers, self.right, strict=True)])

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """All that was measured, in reading order."""
        hits, score = self.hits, self.score
        most = max(self.labels, key=self.right.count)
        plain = label_scores(self._counts([most] * len(self.right)))
        found = bootstrap_counts(label_scores, self.counts, CONFIDENCE, SEED)
        accuracy = proportion(int(hits.sum()), len(hits), CONFIDENCE)
        measures = [
            Measure("accuracy", accuracy, float(plain[0])),
            Measure("macro-F1", found[1], float(plain[1])),
        ]
        if score is not None:
            measures.append(
                Measure(
                    "calibration error",
                    bootstrap(
                        lambda rows: calibration_error(score[rows], hits[rows]),
                        len(hits),
                        CONFIDENCE,
                        SEED,
                    ),
                )
            )
        names = [(m, label) for m in ("precision", "recall", "F1") for label in self.labels]
        by_label = [
            Measure(name, value, float(base), label)
            for (name, label), value, base in zip(names, found[2:], plain[2:], strict=True)
        ]
        order = [self.labels.index(m.label or "") for m in by_label]
        return (*measures, *(by_label[n] for n in np.argsort(order, kind="stable")))

    def rows(self, *, truth: str | None = None, answer: str | None = None) -> Any:
        """The rows of the frame with this true label, or this answer, or both.

        Example:
            >>> found.rows(truth="positive", answer="negative")  # doctest: +SKIP
        """
        for label in (truth, answer):
            if label is not None and label not in self.labels:
                raise LabelError(f"no row has {label!r}. There are {', '.join(self.labels)}.")
        triples = zip(self.positions, self.right, self.answers, strict=True)
        chosen = [
            position
            for position, right, given in triples
            if truth in (None, right) and answer in (None, given)
        ]
        return self._taken(chosen)

    def plot(self) -> Figure:
        """The confusion matrix, and how often the score is right, where there is one."""
        return render.label_plot(self)

    def _counts(self, answers: Sequence[str]) -> NDArray[np.int64]:
        place = {label: n for n, label in enumerate(self.labels)}
        counts = np.zeros((len(place), len(place)), dtype=np.int64)
        np.add.at(counts, ([place[a] for a in self.right], [place[a] for a in answers]), 1)
        return counts


@dataclass(frozen=True, eq=False, repr=False)
class TextEvaluation(Evaluation):
    """Texts against the truth. Made by `df.llm.evaluate`.

    Measures of a row have the interval of 2,000 bootstrap draws, seeded; BLEU and chrF, which
    are of all rows together, that of sacrebleu.
    """

    metrics: tuple[str, ...]
    plain: list[str] | None  # the baseline's text for each row

    @cached_property
    def by_row(self) -> dict[str, NDArray[np.float64]]:
        """Each metric that a row has, 0 to 1, shape (rows,)."""
        return self._by_row(self.answers)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """All that was measured, in reading order."""
        plain = {} if self.plain is None else self._by_row(self.plain)
        found = []
        for metric in self.metrics:
            name = METRICS[metric]
            if metric in self.by_row:
                value = mean_estimate(self.by_row[metric])
                base = float(plain[metric].mean()) if plain else None
            else:
                value = corpus_metric(metric, self.answers, self.right, interval=True)
                base = (
                    None
                    if self.plain is None
                    else corpus_metric(metric, self.plain, self.right, interval=False).value
                )
            found.append(Measure(name, value, base))
        return tuple(found)

    def plot(self) -> Figure:
        """Each measure with its interval, and its baseline."""
        return render.measures_plot(self)

    def _by_row(self, answers: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        made = {metric: row_metric(metric) for metric in self.metrics}
        return {
            metric: np.array([one(a, b) for a, b in zip(answers, self.right, strict=True)])
            for metric, one in made.items()
            if one is not None
        }


def mean_estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean, with the interval of drawing rows again.

    Args:
        values: shape (rows,).
    """
    return bootstrap(lambda rows: float(values[rows].mean()), len(values), CONFIDENCE, SEED)


def evaluate(
    frame: Any,
    truth: Any,
    output: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    among: Any = None,
    history: Any = None,
    key: str | None = None,
    k: int | None = None,
) -> Evaluation:
    """The answers of a frame against the right ones.

    Args:
        truth: the column that has them; for search and recommend, what is relevant.
        output: the column of the answers, where there are several.
        metrics: for answers that are texts, of "rouge1", "rouge2", "rougeL", "exact",
            "token_f1", "bleu" and "chrf".
        among: the frame that rows were taken from, for search, recommend and filter.
        history: what users liked, as recommend was given it.
        key: the column that names the rows, instead of the index.
        k: how many of each ranking count.

    Raises:
        ColumnError: no such column.
        FrameError: no row has both, there is no such metric, or a truth is of another form.
        LabelError: `truth` has labels that the verb does not give.
        ProvenanceError: the run that answered is not on record.
    """
    output, made = choose_output(frame, output)
    if metrics is not None and made != "run":
        raise FrameError(_METRICS_ARE_OF_TEXTS)
    if made in ("search", "recommend"):
        from nbllm.frame.evaluation.rankings import of_ranks

        return of_ranks(frame, truth, output, made, among=among, history=history, key=key, k=k)
    for name, value in {"history": history, "key": key, "k": k}.items():
        if value is not None:
            raise FrameError(f"{name}= is for search and recommend. Leave it out.")
    if made == "mask":
        from nbllm.frame.evaluation.masks import of_spans

        return of_spans(frame, truth, output)
    records = [find_record(run, frame) for run in run_ids(frame, f"{output}_run")]
    if not records:  # no row is left of a filter that took none
        last = last_attached(frame, output)
        records = [last] if last is not None and last["verb"] == "filter" else []
    if not records:
        raise FrameError(f"no row of {output!r} was answered, so there is nothing to evaluate.")
    verb = records[0]["verb"]
    if verb == "filter":
        from nbllm.frame.evaluation.predicates import of_filter

        return of_filter(frame, truth, output, records, among)
    if among is not None:
        raise FrameError("among= is for search, recommend and filter. Leave it out.")
    if not isinstance(truth, str):
        raise ColumnError(
            f"truth={shown(truth)} is no column. Put the right answers in one, for instance with "
            "frame.assign(truth=...) in pandas, and pass its name."
        )
    right = right_answers(frame, truth)
    data = nw.from_native(frame, eager_only=True)
    given = [None if is_missing(value) else value for value in data[output].to_list()]
    judged = [n for n, value in enumerate(right) if value is not None]
    kept = [n for n in judged if given[n] is not None]
    if not kept:
        raise FrameError(f"no row has both an answer in {output!r} and a truth in {truth!r}.")
    common = {
        "frame": frame,
        "output": output,
        "truth": truth,
        "verb": verb,
        "answers": [given[n] for n in kept],
        "right": [right[n] for n in kept],
        "positions": kept,
        "unanswered": len(judged) - len(kept),
    }
    if metrics is not None and verb in ("similarity", "embed"):
        raise FrameError(_METRICS_ARE_OF_TEXTS)
    # They build on what is here.
    from nbllm.frame.evaluation.fields import field_names, of_fields
    from nbllm.frame.evaluation.similarities import of_scores
    from nbllm.frame.evaluation.vectors import of_vectors

    if verb == "similarity":
        return of_scores(data, records[0], common)
    if verb == "embed":
        return of_vectors(common)
    if any(not isinstance(value, str) for value in common["answers"]):
        raise FrameError(
            f"the answers in {output!r} are no texts, though {verb} gives such: they were changed "
            "since. Evaluate the frame that the verb returned."
        )
    if field_names(records[0]):
        return of_fields(data, records[0], metrics, common)
    if "labels" in records[0]["parameters"]:
        return _of_labels(data, records, metrics, common)
    return _of_texts(data, records, metrics, common)


def _of_labels(
    data: nw.DataFrame[Any],
    records: Sequence[Mapping[str, Any]],
    metrics: Sequence[str] | None,
    common: dict[str, Any],
) -> LabelEvaluation:
    if metrics is not None:
        raise FrameError(_METRICS_ARE_OF_TEXTS)
    output, right = common["output"], common["right"]
    known = {label for record in records for label in record["parameters"].get("labels", ())}
    refuse_unknown(right, sorted(known), f"column {common['truth']!r}", common["verb"])
    score = f"{output}_score"
    most = max(sorted(set(right)), key=right.count)
    return LabelEvaluation(
        **common,
        baseline=f"always {most!r}",
        score=data[score].to_numpy()[common["positions"]] if score in data.columns else None,
    )


def _of_texts(
    data: nw.DataFrame[Any],
    records: Sequence[Mapping[str, Any]],
    metrics: Sequence[str] | None,
    common: dict[str, Any],
) -> TextEvaluation:
    verb = common["verb"]
    chosen = _DEFAULT.get(verb, _ROUGE) if metrics is None else tuple(listed(metrics, "metrics"))
    unknown = [name for name in chosen if name not in METRICS]
    if unknown:
        raise FrameError(f"there is no metric {unknown[0]!r}. Use {', '.join(METRICS)}.")
    columns = records[0]["columns"]
    # What a question is answered from, or a reply made of, where there is one beside it.
    alone = next(iter(columns.values())) if len(columns) == 1 else None
    column = columns.get("context", columns.get("sources", alone))
    plain = None
    if column in data.columns:
        texts = data[column].to_list()
        sources = [str(texts[n]) for n in common["positions"]]
        if verb == "translate":
            plain = sources
        else:
            pairs = zip(sources, common["answers"], strict=True)
            plain = [first_sentences(source, like=answer) for source, answer in pairs]
    named = "the text itself" if verb == "translate" else "its first sentences, about as long"
    return TextEvaluation(
        **common,
        baseline="none" if plain is None else named,
        metrics=chosen,
        plain=plain,
    )
