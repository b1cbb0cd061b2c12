"""`df.llm`: the verbs of nbllm on pandas and polars DataFrames."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nbllm._deprecation import deprecated_argument
from nbllm._verb_methods import Verbs
from nbllm.checks import near
from nbllm.frame.checks import reads_arguments
from nbllm.frame.running.progress import Display, register_display

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.running.estimate import RunEstimate, StepsEstimate
    from nbllm.frame.running.preview import Preview, StepsPreview
    from nbllm.frame.running.report import RunReport
    from nbllm.models.model import ModelLike
    from nbllm.widgets.explanation import Explanation
    from nbllm.widgets.explorer.view import Explorer

__all__ = ["FrameAccessor"]


def _widget() -> Display | None:
    """Return the display of a run in a notebook; None elsewhere, without importing widgets."""
    if "ipykernel" not in sys.modules:
        return None
    from nbllm.widgets.run.view import make_display

    return make_display()


register_display(_widget)

F = TypeVar("F")


def registered_verbs() -> list[str]:
    """Return the names of the verbs that the user registered."""
    # The module is imported if a verb was registered.
    registry = sys.modules.get("nbllm.frame.calls.registry")
    if registry is None:
        return []
    return [name for name in registry.verb_names() if registry.is_registered(name)]


def registered_method(
    name: str, owner: str, known: list[str], run: Callable[..., Any], subject: str | None = None
) -> Callable[..., Any]:
    """Return a verb that the user registered, as a method.

    Args:
        name: The name of the attribute that was looked up.
        owner: What it was looked up on, for the error message.
        known: The attributes that exist.
        run: As for `method_of`.
        subject: As for `method_of`.

    Raises:
        AttributeError: There is no such verb.
    """
    if name in registered_verbs():
        from nbllm.frame.calls.method import method_of
        from nbllm.frame.calls.registry import find_verb

        verb = find_verb(name)
        if subject is None or verb.subject == "column":
            return method_of(verb, run, subject=subject)
    public = [each for each in known if not each.startswith("_")]
    raise AttributeError(
        f"{owner} has no {name!r}. {near(name, public)}It has: {', '.join(public)}."
    )


class FrameAccessor(Verbs[F]):
    """A language model as one more column operation.

    Every verb returns a new frame with the rows, order and index of this one, and with new
    columns: `<column>_<verb>` (the answer), and the same name with `_score` (if the answer has
    one), `_error` and `_run`. `into=` replaces the name. A missing or blank text gives a null. If
    a row fails, its error is in the error column, and the other rows are still answered. Answers
    are stored in the ledger and not computed twice.
    """

    def __init__(self, frame: F) -> None:
        self._frame: Any = frame

    def __repr__(self) -> str:
        from nbllm.frame.calls.registry import verb_names

        verbs = verb_names()
        others = [name for name in dir(FrameAccessor) if name[0] != "_" and name not in verbs]
        return (
            f"df.llm: a language model as one more column operation.\n"
            f"Verbs: {', '.join(verbs)}.\n"
            f"Other methods: {', '.join(others)}.\n"
            "help(df.llm.sentiment) documents a verb; nbllm.load(name) loads a model."
        )

    if not TYPE_CHECKING:  # with it, type checkers would accept every misspelt verb

        def __getattr__(self, name: str) -> object:
            # The module is imported if a verb was registered.
            return registered_method(name, "df.llm", dir(self), self._call)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *registered_verbs()})

    @reads_arguments
    def report(self, output: str | None = None) -> RunReport:
        """Return the report of a run: rows, tokens, time, failures, model.

        Args:
            output: The column of the answers; required if the frame has answers of several runs.

        Raises:
            ProvenanceError: The frame has no answers, or no record of their run exists.
        """
        from nbllm.frame.running.provenance import find_report, only_run

        return find_report(only_run(self._frame, self._output(output)))

    @deprecated_argument("among", "corpus")
    @reads_arguments
    def evaluate(
        self,
        truth: Any,
        *,
        output: str | None = None,
        metrics: Sequence[str] | None = None,
        corpus: Any = None,
        history: Any = None,
        key: str | None = None,
        k: int | None = None,
    ) -> Evaluation:
        """Return metrics of the answers against true values, each with a baseline.

        - Labels: accuracy, macro-F1, the precision, recall and F1 of each label, the confusion
          matrix and, with a score, the calibration error. Baseline: the most frequent label.
        - Texts: ROUGE. Baseline: the first sentences of the text.
        - Translations: BLEU and chrF. Baseline: the text itself.
        - Several fields per row (`extract`, aspects, `multi`): the share of rows in which each
          field, and all fields, are correct, and the F1 of each label of `multi`. Baseline: the
          most frequent value.
        - Similarity: Spearman's and Pearson's correlation with scores. Baseline: shared words.
        - Vectors: how often the nearest texts have the row's label. Baseline: the most frequent.
        - Search: recall, MRR and nDCG. Baseline: BM25, and for "bm25" a random order.
        - Recommend: hit rate, recall and MRR per user. Baseline: popularity.
        - Filter: precision, recall, F1 and average precision. Baseline: keeping all rows.
        - Mask: the recall of each entity, and the precision. Baseline: a regular expression for
          e-mail addresses and numbers.

        Each metric has a 95 % confidence interval. Rows without answer or truth are left out and
        counted. For search, recommend and filter, rows that the verb did not return count too.

        Args:
            truth: The column of the true values. For several fields per row, JSON text or dicts
                (lists of labels for `multi`); for similarity, numbers; for mask, lists of entity,
                start and end, or the same as JSON text; for filter, a boolean column of `corpus`.
                For search and recommend, the labels of the relevant rows by query or user instead
                of a column: `{"who won?": [3, 17]}`, or a frame whose first two columns are these.
            output: The column of the answers; required if the frame has answers of several runs.
            metrics: For texts, the metrics instead of the verb's own, of "rouge1", "rouge2",
                "rougeL", "exact", "token_f1", "bleu" and "chrf".
            corpus: For search, recommend and filter, the original frame.
            history: For recommend, what users liked, as it was passed to `recommend`.
            key: For search and recommend, the column of row labels, instead of the index;
                required in polars.
            k: For search and recommend, the number of results to count per ranking; by default
                the length of the longest.

        Raises:
            ColumnError: There is no such column.
            FrameError: No row has both answer and truth, a metric is unknown, `truth` has another
                form, or `corpus` is missing.
            LabelError: `truth` has labels that the verb does not give.
            ProvenanceError: The frame has no answers, or no record of their run exists.

        Example:
            >>> found = answered.llm.evaluate("label")  # doctest: +SKIP
            >>> hits.llm.evaluate({"who won?": [3, 17]}, corpus=articles)  # doctest: +SKIP
            >>> found.rows(truth="positive", answer="negative")  # doctest: +SKIP
        """
        from nbllm.frame.calls.evaluate import evaluate

        return evaluate(
            self._frame,
            truth,
            output,
            metrics=metrics,
            corpus=corpus,
            history=history,
            key=key,
            k=k,
        )

    @reads_arguments
    def calibrate(self, corrections: Any, *, output: str | None = None) -> F:
        """Return a frame whose scores are calibrated on some true labels, such as 200.

        It fits a temperature, and a bias per label, and prints the effect on the calibration
        error, measured by cross-validation. Labels may change with the scores, and `_run` names a
        new run whose record includes the calibration. More than two labels require the columns of
        probabilities=True.

        Args:
            corrections: The true labels by index label (position in polars): a mapping, a pandas
                Series, or a frame whose first two columns are these.
            output: The column of the answers; required if the frame has answers of several runs.

        Raises:
            FrameError: The probabilities of the labels are not known, or the rows come from
                several runs.
            LabelError: There are fewer than 10 corrections of answered rows, or one is no label.
            ProvenanceError: The frame has no answers, or no record of their run exists.

        Example:
            >>> answered.llm.calibrate({3: "positive", 8: "negative"})  # doctest: +SKIP
        """
        from nbllm.frame.evaluation.calibration import calibrate

        answered: F = calibrate(self._frame, corrections, self._output(output))
        return answered

    @reads_arguments
    def corrected(self, corrections: Any, *, output: str | None = None) -> F:
        """Return the texts of corrected rows with their true labels, as examples or for training.

        Args:
            corrections: As for `calibrate`.
            output: The column of the answers; required if the frame has answers of several runs.

        Raises:
            FrameError: The answers are not one label per row, or come from several runs.
            LabelError: A correction is no label.
            ProvenanceError: The frame has no answers, or no record of their run exists.

        Example:
            >>> shown = answered.llm.corrected({3: "positive", 8: "negative"})  # doctest: +SKIP
            >>> new.llm.sentiment("review", examples=shown)  # doctest: +SKIP
        """
        from nbllm.frame.evaluation.calibration import corrected

        found: F = corrected(self._frame, corrections, self._output(output))
        return found

    @reads_arguments
    def explain(
        self,
        row: Any,
        *,
        output: str | None = None,
        model: ModelLike | None = None,
        trust_record: bool = False,
    ) -> Explanation:
        """Explain a row's label: why it was preferred to the second likeliest, with attention.

        The prompt is rebuilt from the run's record. This also works after a filter, a merge or a
        round trip through Parquet, if the frame has the texts and the `_run` column. A generated
        answer, which has no labels to compare, is explained by its attention only.

        Args:
            row: The row's label in the index (position in polars).
            output: The column of the answers; required if the frame has answers of several runs.
            model: The model; by default that of the run, which is loaded if it is not in memory.
            trust_record: Whether to download or open the model that the run names although the
                record of the run came with the frame, and not from your ledger. By default, such a
                model is only taken from memory or the shelf.

        Raises:
            FrameError: The row has no answer.
            LabelError: The answer is none of the run's labels.
            ProvenanceError: The row belongs to no run, no record of it exists, the text has
                changed, or the record came with the frame and its model is not available.

        Example:
            >>> why = answered.llm.explain(17)  # doctest: +SKIP
            >>> why.words().nlargest(3, "attribution")  # doctest: +SKIP
        """
        from nbllm.frame.columns import row_position

        position = row_position(self._frame, row)
        return self._explain_at(position, self._output(output), model, trust_record)

    @reads_arguments
    def explore(
        self,
        *,
        truth: Any = None,
        output: str | None = None,
        model: ModelLike | None = None,
        trust_record: bool = False,
    ) -> Explorer:
        """Return a widget to sort, filter and correct the answers, with charts that filter them.

        In the table, arrow keys move, a label's key corrects a row, Backspace undoes, and Enter
        explains a row's answer. The attributes `.selected`, `.filtered` and `.corrections` hold
        the state of the widget.

        Args:
            truth: The true values, for the confusion matrix: a column, a Series with the frame's
                index, or one value per row.
            output: The column of the answers; required if the frame has answers of several runs.
            model: The model to explain rows; by default that of the run, as for `explain`.
            trust_record: As for `explain`.

        Raises:
            ColumnError: There is no such column, or two have the same name.
            FrameError: `truth` does not have one value per row, or is a Series with another index.
            LabelError: `truth` has labels that the run does not give.
            ProvenanceError: The frame has no answers.

        Example:
            >>> view = answered.llm.explore(truth="label")  # doctest: +SKIP
            >>> answered.llm.calibrate(view.corrections)  # doctest: +SKIP
        """
        from nbllm.widgets.explorer.view import Explorer

        output = self._output(output)
        return Explorer(
            self._frame,
            output,
            truth=truth,
            explain=lambda row: self._explain_at(row, output, model, trust_record),
        )

    def _explain_at(
        self, position: int, output: str, model: ModelLike | None, trust_record: bool
    ) -> Explanation:
        """Return the explanation of the row at a position."""
        from nbllm.frame.explanation.row import explained_row
        from nbllm.widgets.explanation import Explanation

        found = explained_row(self._frame, output, position, model, trust_record=trust_record)
        return Explanation(found.model, found.prompt, found.contrast, found.quotes)

    def _call(
        self, verb: str, subject: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> Any:
        from nbllm.frame.calls.registry import find_verb
        from nbllm.frame.calls.run import run_call

        return run_call(self._frame, find_verb(verb).call(subject, options, settings))

    def _preview(
        self, verb: str, subject: Any, row: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> Preview | StepsPreview:
        from nbllm.frame.calls.registry import find_verb

        found = find_verb(verb)
        return found.preview(self._frame, found.call(subject, options, settings), row)

    def _estimate(
        self, verb: str, subject: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> RunEstimate | StepsEstimate:
        from nbllm.frame.calls.registry import find_verb

        found = find_verb(verb)
        return found.estimate(self._frame, found.call(subject, options, settings))

    def _output(self, output: str | None) -> str:
        from nbllm.frame.calls.evaluate import choose_run_output

        return choose_run_output(self._frame, output)
