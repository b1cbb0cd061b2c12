"""`df.llm`: the verbs of nbllm on pandas and polars DataFrames."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nbllm._deprecation import deprecated_argument
from nbllm._verb_methods import Verbs
from nbllm.checks import near
from nbllm.frame.checks import reads_arguments
from nbllm.frame.running.progress import Display, show_with

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
    """How a run is shown in a notebook; None in a terminal, where nothing of it is imported."""
    if "ipykernel" not in sys.modules:
        return None
    from nbllm.widgets.run.view import make_display

    return make_display()


show_with(_widget)

F = TypeVar("F")


class FrameAccessor(Verbs[F]):
    """A language model as one more column operation.

    Every verb returns a new frame: the rows, order and index of this one, plus the columns
    `<column>_<verb>` (the answer), `_score` where there is one, `_error` and `_run`. `into=`
    names them otherwise. A missing or blank text, in which nothing can be seen, gives a null; a
    row that fails has its error in its column and stops nothing. Answers are kept in the ledger
    and not computed twice.
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
            f"Beside them: {', '.join(others)}.\n"
            "help(df.llm.sentiment) tells of a verb; nbllm.load(name) loads a model for them."
        )

    if not TYPE_CHECKING:  # typed, it would hide every misspelt verb from the checker

        def __getattr__(self, name: str) -> object:
            # Only where a verb was registered is there one to find.
            registry = sys.modules.get("nbllm.frame.calls.registry")
            if registry is not None and registry.is_registered(name):
                from nbllm.frame.calls.method import method_of

                return method_of(registry.find_verb(name), self._call)
            known = [known for known in dir(self) if not known.startswith("_")]
            raise AttributeError(
                f"df.llm has no {name!r}. {near(name, known)}It has: {', '.join(known)}."
            )

    def __dir__(self) -> list[str]:
        registry = sys.modules.get("nbllm.frame.calls.registry")
        more = [] if registry is None else registry.verb_names()
        return sorted({*super().__dir__(), *more})

    @reads_arguments
    def report(self, output: str | None = None) -> RunReport:
        """What the run that answered this frame did: rows, tokens, time, failures, model.

        Args:
            output: the column of its answers, where the frame has those of several runs.

        Raises:
            ProvenanceError: the frame has no answers, or their run is not on record.
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
        """Measure the answers of this frame against the right ones.

        Labels: accuracy, macro-F1, the precision, recall and F1 of each label and, with a score,
        its calibration error, beside a baseline that always gives the most frequent label; and
        the confusion matrix, whose rows are a call away. Texts: ROUGE beside the first sentences
        of the text; translations: BLEU and chrF beside the text itself. What has several fields
        a row (`extract`, aspects, `multi`): the share of rows that have each right, and all, and
        the F1 of each label of `multi`, beside the most frequent value. Similarity: Spearman's
        and Pearson's correlation with scores, beside the words in common. Vectors: how often the
        nearest texts have a row's label, beside the most frequent one. Each has a 95 % interval.
        Rows without an answer or without a truth are left out, and counted.

        What a verb left out counts too. Search: recall, MRR and nDCG beside BM25 (which itself
        is put beside drawing at random). Recommend: hit rate, recall and MRR of each user,
        beside what most users liked. Filter: precision, recall, F1 and average precision,
        beside taking all rows. Mask: the recall of each entity, and the precision of what was
        masked, beside a plain expression for e-mail addresses and numbers.

        Args:
            truth: the column of right answers; of several fields a row, as JSON text, or as
                dicts (lists of labels for `multi`); for similarity, of numbers; for mask, of
                lists of entity, start and end, as JSON text or as such; for filter, a column of
                `corpus` that is true where a row should be taken. For search and recommend not a
                column but the labels of what is relevant, by query or user:
                `{"who won?": [3, 17]}`, or a frame whose first two columns are those.
            output: the column of the answers, where the frame has those of several runs.
            metrics: for texts, instead of the verb's own: of "rouge1", "rouge2", "rougeL",
                "exact", "token_f1", "bleu" and "chrf".
            corpus: for search, recommend and filter, the frame that rows were taken from.
            history: for recommend, what users liked, as it was given to `recommend`.
            key: for search and recommend, a column that has the labels, instead of the index;
                polars needs one.
            k: for search and recommend, how many of each ranking count; by default as many as
                the longest has.

        Raises:
            ColumnError: no such column.
            FrameError: no row has both, there is no such metric, a truth is of another form, or
                `corpus` is missing.
            LabelError: `truth` has labels that the verb does not give.
            ProvenanceError: the frame has no answers, or their run is not on record.

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
        """Scale the scores of this frame so that they fit some true labels; some 200 do well.

        It fits one temperature and a bias for each label, and says what they do to the
        calibration error, by cross-validation. Labels may change with the scores; the `_run` of
        the rows becomes one that also records the scaling. More than two labels need the
        columns that probabilities=True adds.

        Args:
            corrections: index label (position in polars) to true label: a mapping, a pandas
                Series, or a frame whose first two columns are those.
            output: the column of the answers, where the frame has those of several runs.

        Raises:
            FrameError: the probability of each label is not known, or the rows come from several
                runs.
            LabelError: fewer than 10 corrections of answered rows, or one that is no label.
            ProvenanceError: the frame has no answers, or their run is not on record.

        Example:
            >>> answered.llm.calibrate({3: "positive", 8: "negative"})  # doctest: +SKIP
        """
        from nbllm.frame.evaluation.calibration import calibrate

        answered: F = calibrate(self._frame, corrections, self._output(output))
        return answered

    @reads_arguments
    def corrected(self, corrections: Any, *, output: str | None = None) -> F:
        """The texts of corrected rows beside their true labels: to show as examples, or train on.

        Args:
            corrections: index label (position in polars) to true label, as `calibrate` takes them.
            output: the column of the answers, where the frame has those of several runs.

        Raises:
            FrameError: the answers are not one label a row, or come from several runs.
            LabelError: a correction that is no label.
            ProvenanceError: the frame has no answers, or their run is not on record.

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
        """Why a row got its label and not the next likely one, and what the model looked at.

        The prompt is rebuilt from the run's record, so this also works after a filter, a merge
        or a trip through Parquet, as long as the frame has the text and the `_run` column. An
        answer that was written, and not chosen among labels, has its attention shown.

        Args:
            row: label in the index (position in polars).
            output: the column of the answer, where the frame has those of several runs.
            model: by default the one that the run names, loaded again if need be.
            trust_record: load the model that the run names even where the run is not one of yours,
                so that its record came with the frame. Without it, such a model is taken from
                memory or the shelf; what a stranger's file names is neither fetched nor opened.

        Raises:
            FrameError: the row has no answer.
            LabelError: its answer is none of the run's labels.
            ProvenanceError: the row was not asked, its run is not on record, its text was
                changed since, or its model is not here and the record came with the frame.

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
        """Open the answers as a table to sort, filter and correct, with charts that filter it.

        In the table, arrow keys move, a label's key corrects a row, Backspace undoes, and Enter
        shows why a row got its answer. What is selected, filtered and corrected can be read:
        `.selected`, `.filtered`, `.corrections`.

        Args:
            truth: the right answers, for the confusion matrix: a column, a Series with the
                frame's index, or one value a row. They are checked as `evaluate` checks them.
            output: the column of the answers, where the frame has those of several runs.
            model: that explains a row; by default the one that its run names, loaded again if
                need be.
            trust_record: as for `explain`.

        Raises:
            ColumnError: no such column, or two of the same name.
            FrameError: `truth` has not one value a row, or is a Series of other rows.
            LabelError: `truth` has labels that the run does not give.
            ProvenanceError: the frame has no answers.

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
        """The explanation of a row by its position."""
        from nbllm.frame.explanation.row import explained_row
        from nbllm.widgets.explanation import Explanation

        found = explained_row(self._frame, output, position, model, trust_record=trust_record)
        return Explanation(found.model, found.prompt, found.contrast)

    def _call(
        self, verb: str, subject: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> Any:
        from nbllm.frame.calls.registry import find_verb
        from nbllm.frame.calls.run import run_call

        return run_call(self._frame, find_verb(verb).call(subject, options, settings))

    def _preview(
        self,
        verb: str,
        subject: Any,
        row: Any,
        options: dict[str, Any],
        settings: dict[str, Any],
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
