"""`df.llm`: the verbs of nbllm on pandas and polars DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbllm.errors import ProvenanceError
from nbllm.frame import KEEP

if TYPE_CHECKING:
    from nbllm.frame.preview import Preview
    from nbllm.frame.report import RunReport
    from nbllm.frame.tasks.kinds import Examples
    from nbllm.models.model import Model
    from nbllm.widgets.attention import AttentionView

__all__ = ["FrameAccessor", "register_on_pandas", "register_on_polars"]


class FrameAccessor:
    """A language model as one more column operation.

    Every verb returns a new frame: the rows, order and index of this one, plus the columns
    `<column>_<verb>` (the answer), `_score` where there is one, `_error` and `_run`. `into=`
    names them otherwise. A missing or blank text gives a null; a row that fails has its error
    in its column and stops nothing. Answers are kept in the ledger and not computed twice.
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def sentiment(
        self,
        column: str,
        *,
        model: Model | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
    ) -> Any:
        """Tell positive from negative texts, with a calibrated probability.

        Args:
            column: the texts.
            model: by default the model loaded last, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_sentiment`.
            instruction: what to say above the examples.
            examples: (text, label) pairs, or a frame of them, instead of the built-in ones.
            probabilities: add one column a label.
            keep: which new columns to add, of "value", "score", "error" and "run".
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            LabelError: an example with a label other than "positive" and "negative".
            UnsupportedModelError: the model is not a causal one.

        Example:
            >>> import nbllm, pandas as pd
            >>> df = pd.DataFrame({"review": ["A delight from start to finish.", None]})
            >>> df.llm.sentiment("review")["review_sentiment"].tolist()  # doctest: +SKIP
            ['positive', nan]
        """
        return self._ask(
            "sentiment",
            column,
            model,
            {"instruction": instruction, "examples": examples},
            into or f"{column}_sentiment",
            probabilities_too=probabilities,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
        )

    def classify(
        self,
        column: str,
        labels: Sequence[str],
        *,
        model: Model | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
    ) -> Any:
        """Choose one of your labels for each text, with a calibrated probability.

        Args:
            column: the texts.
            labels: two or more different strings; words that mean what they name do best.
            examples: (text, label) pairs, or a frame of them, to show the model.

        The other arguments and errors are those of `sentiment`.

        Raises:
            LabelError: labels that are too few, blank or repeated.

        Example:
            >>> df.llm.classify("message", labels=["billing", "delivery"])  # doctest: +SKIP
        """
        return self._ask(
            "classify",
            column,
            model,
            {"labels": labels, "instruction": instruction, "examples": examples},
            into or f"{column}_classify",
            probabilities_too=probabilities,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
        )

    def summarize(
        self,
        column: str,
        *,
        max_words: int = 40,
        model: Model | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
    ) -> Any:
        """Summarize each text.

        Args:
            column: the texts.
            max_words: what the model is asked to keep to, and about where it is cut, at the
                end of a sentence.
            instruction: what to ask, instead of a summary of so many words.
            examples: (text, summary) pairs, or a frame of them, to show the model.

        The other arguments and errors are those of `sentiment`.

        Example:
            >>> df.llm.summarize("article", max_words=25)  # doctest: +SKIP
        """
        return self._ask(
            "summarize",
            column,
            model,
            {"max_words": max_words, "instruction": instruction, "examples": examples},
            into or f"{column}_summarize",
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
        )

    def prompt(
        self,
        template: str,
        *,
        into: str,
        model: Model | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 64,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
    ) -> Any:
        """Ask your own prompt of each row.

        Args:
            template: the prompt, with columns in braces; numbers and dates are written as
                `str` does. A brace itself is `{{` or `}}`.
            into: name of the new column.
            instruction: a system message.
            examples: (prompt, answer) pairs, or a frame of them, to show the model first.
            max_new_tokens: where an answer is cut.

        The other arguments and errors are those of `sentiment`.

        Example:
            >>> df.llm.prompt("Name one use of a {thing}.", into="use")  # doctest: +SKIP
        """
        return self._ask(
            "prompt",
            template,
            model,
            {
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            into,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
        )

    def preview(
        self,
        verb: str,
        subject: str,
        *,
        row: Any = None,
        model: Model | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> Preview:
        """Show the exact prompt that a verb would give the model for one row.

        Args:
            verb: "sentiment", "classify", "summarize" or "prompt".
            subject: the verb's first argument: a column, or a prompt.
            row: label in the index (position in polars); by default the first row.
            options: other arguments of the verb that shape the prompt, such as `labels`.

        Raises:
            FrameError: no such verb or row, or a row without text.

        Example:
            >>> df.llm.preview("classify", "message", labels=["a", "b"])  # doctest: +SKIP
        """
        from nbllm.engine.prompt import CompiledTemplate
        from nbllm.frame.columns import row_position, row_values
        from nbllm.frame.preview import Preview
        from nbllm.frame.run import answer_tokens
        from nbllm.frame.verbs import make_task, verb_columns

        columns = verb_columns(verb, subject)
        model = _choose(model)
        task = make_task(verb, subject, model, options)
        position = row_position(self._frame, row)
        texts = row_values(self._frame, list(columns.values()), position)
        prompt = CompiledTemplate(task.template, model.tokenizer).encode(
            [texts], limit=model.context_length - answer_tokens(task, model), truncate=truncate
        )[0]
        if isinstance(prompt, Exception):
            raise prompt
        return Preview(prompt)

    def report(self, output: str | None = None) -> RunReport:
        """What the run that answered this frame did: rows, tokens, time, failures, model.

        Args:
            output: the column of its answers, where the frame has those of several runs.

        Raises:
            ProvenanceError: the frame has no answers, or their run is not on record.
        """
        from nbllm.frame.provenance import find_report, run_ids

        output = self._output(output)
        ids = run_ids(self._frame, f"{output}_run")
        if len(ids) != 1:
            raise ProvenanceError(
                f"the rows of {output!r} come from {len(ids)} runs ({', '.join(ids)}). "
                "Filter the frame to one of them."
            )
        return find_report(ids[0])

    def explain(
        self, row: Any, *, output: str | None = None, model: Model | None = None
    ) -> AttentionView:
        """Open the attention of the prompt that answered a row.

        The prompt is rebuilt from the run's record, so this also works after a filter, a merge
        or a trip through Parquet, as long as the frame has the text and the `_run` column.

        Args:
            row: label in the index (position in polars).
            output: the column of the answer, where the frame has those of several runs.
            model: by default the one that the run names, loaded again if need be.

        Raises:
            ProvenanceError: the row was not answered, or its run is not on record.

        Example:
            >>> answered.llm.explain(17)  # doctest: +SKIP
        """
        from nbllm.engine.prompt import with_answer
        from nbllm.frame.columns import row_position, row_values
        from nbllm.frame.provenance import find_record, recorded_prompt, row_run
        from nbllm.models.loader import reload
        from nbllm.widgets.attention import inspect

        output = self._output(output)
        position = row_position(self._frame, row)
        record = find_record(row_run(self._frame, f"{output}_run", position), self._frame)
        model = model or reload(record["model"])
        prompt = recorded_prompt(record, self._frame, position, model.tokenizer)
        if "labels" not in record["parameters"]:
            answer = row_values(self._frame, [output], position)[0]
            prompt = with_answer(prompt, answer, model.tokenizer)
        return inspect(model, prompt)

    def _ask(
        self,
        verb: str,
        subject: str,
        model: Model | None,
        options: dict[str, Any],
        output: str,
        **run_options: Any,
    ) -> Any:
        from nbllm.frame.run import answer_frame
        from nbllm.frame.verbs import make_task, verb_columns

        columns = verb_columns(verb, subject)
        model = _choose(model)
        return answer_frame(
            self._frame,
            make_task(verb, subject, model, options),
            model,
            columns,
            output=output,
            any_type=verb == "prompt",
            **run_options,
        )

    def _output(self, output: str | None) -> str:
        """The column of answers meant, by name or because it is the only one."""
        columns = [str(name) for name in self._frame.columns]
        ends = [name.removesuffix("_run") for name in columns if name.endswith("_run")]
        found = [name for name in ends if name in columns]
        if output is None and len(found) == 1:
            return found[0]
        if output in found:
            return str(output)
        if not found:
            raise ProvenanceError(
                "the frame has no column that ends in '_run', by which an answer is traced. "
                "Use the frame that a verb such as .llm.sentiment returned."
            )
        raise ProvenanceError(f"Say which answers are meant: output= one of {', '.join(found)}.")


def _choose(model: Model | None) -> Model:
    """The model given, else the one loaded last, else the default one."""
    from nbllm.models.loader import load, loaded

    return model or (loaded() or [load()])[-1]


def register_on_pandas(pandas: Any) -> None:
    """Add `.llm` to pandas DataFrames."""
    pandas.api.extensions.register_dataframe_accessor("llm")(FrameAccessor)


def register_on_polars(polars: Any) -> None:
    """Add `.llm` to polars DataFrames."""
    polars.api.register_dataframe_namespace("llm")(FrameAccessor)
