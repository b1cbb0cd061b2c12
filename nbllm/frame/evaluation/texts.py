"""Texts against the right ones: ROUGE, BLEU, chrF, exact match and token F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import FrameError
from nbllm.frame.evaluation.base import Evaluation, mean_estimate
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.text_metrics import METRICS, corpus_metric, first_sentences, row_metric
from nbllm.frame.prompts.arguments import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TextEvaluation", "of_texts"]

# What is measured of a verb's texts where nothing is asked for.
_DEFAULT = {"translate": ("bleu", "chrf"), "answer": ("exact", "token_f1")}
_ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True, eq=False, repr=False)
class TextEvaluation(Evaluation):
    """Texts against the truth. Made by `df.llm.evaluate`.

    Measures of a row have the interval of 2,000 bootstrap resamples, seeded; BLEU and chrF, which
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
        """The measures, in reading order."""
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

    def _by_row(self, answers: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        made = {metric: row_metric(metric) for metric in self.metrics}
        return {
            metric: np.array([one(a, b) for a, b in zip(answers, self.right, strict=True)])
            for metric, one in made.items()
            if one is not None
        }


def of_texts(
    data: nw.DataFrame[Any],
    records: Sequence[Mapping[str, Any]],
    metrics: Sequence[str] | None,
    common: dict[str, Any],
) -> TextEvaluation:
    """Return the texts of a frame beside a column of the right ones.

    Args:
        data: the frame.
        records: of the runs that answered.
        metrics: of `METRICS`; None for the usual ones of the verb.
        common: the fields that all evaluations share.

    Raises:
        FrameError: there is no such metric.
    """
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
