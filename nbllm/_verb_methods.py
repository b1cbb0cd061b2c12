"""The verbs as methods, written by tools/generate_verb_methods.py. Do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from nbllm.checks import reads
from nbllm.frame import KEEP

if TYPE_CHECKING:
    from nbllm.frame.prompts.examples import Examples
    from nbllm.frame.running.background import Run
    from nbllm.frame.running.estimate import RunEstimate, StepsEstimate
    from nbllm.frame.running.preview import Preview, StepsPreview
    from nbllm.frame.verbs.search import How
    from nbllm.models.model import ModelLike

__all__ = ["SeriesVerbs", "Verbs"]

F = TypeVar("F")

# An argument that there is not is refused with the names of those that there are.
_named = reads()


class Verbs(Generic[F]):
    """The verbs of `df.llm`; F is the frame's own type."""

    def _call(
        self, verb: str, subject: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> Any:
        raise NotImplementedError

    def _preview(self, verb: str, subject: Any, options: dict[str, Any]) -> Preview | StepsPreview:
        raise NotImplementedError

    def _estimate(
        self, verb: str, subject: Any, options: dict[str, Any]
    ) -> RunEstimate | StepsEstimate:
        raise NotImplementedError

    @overload
    def answer(
        self,
        column: str,
        *,
        question: str | None = ...,
        context: str | None = ...,
        threshold: float | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def answer(
        self,
        column: str,
        *,
        question: str | None = ...,
        context: str | None = ...,
        threshold: float | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def answer(
        self,
        column: str,
        *,
        question: str | None = None,
        context: str | None = None,
        threshold: float | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 32,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def answer(
        self,
        column: str,
        *,
        question: str | None = None,
        context: str | None = None,
        threshold: float | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 32,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Answer questions, from a text or from what the model knows.

        With `question=`, the column holds texts, and that one question is asked of each. Else
        it holds questions, one a row, and `context=` may name the column of the texts to answer
        them from. From a text come also `_score`, the model's probability that the text holds
        an answer; and `_start` and `_end`, the character offsets in the text where the answer
        first stands, null where it does not stand there word for word. A question that the
        model calls unanswerable, or whose score is below the threshold, has a null as its
        answer and no error.

        A model with a head for it (…ForQuestionAnswering) points at its answer in the text,
        which may have any length; its score compares the best answer with there being none.

        Args:
            column: the texts, or the questions.
            question: the question, in words.
            context: the column of the texts.
            threshold: from 0 to 1; by default 0, and 0.5 for a model with a head for it, which is
                the rule of SQuAD 2.0.
            instruction: what to ask, instead of short answers.
            examples: (text, question, answer) to show the model, where "unanswerable" is an
                answer too; without a text, (question, answer). Dicts or a frame have these names.
            max_new_tokens: where an answer is cut.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_answer`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: a question in words and a column of texts beside it; or what a model with
                such a head cannot be given: no text, an instruction, examples.
            LabelError: an example of another form.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.answer("report", question="Who was hurt?")  # doctest: +SKIP
            >>> df.llm.answer("question", context="article")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "answer",
            column,
            {
                "question": question,
                "context": context,
                "threshold": threshold,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def classify(
        self,
        column: str,
        labels: Sequence[str] | Mapping[str, str] | None = ...,
        *,
        multi: bool = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def classify(
        self,
        column: str,
        labels: Sequence[str] | Mapping[str, str] | None = ...,
        *,
        multi: bool = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def classify(
        self,
        column: str,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        *,
        multi: bool = False,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def classify(
        self,
        column: str,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        *,
        multi: bool = False,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Choose one of your labels for each text, with a probability.

        A causal model's is calibrated. A classifier gives the labels it was trained on. A
        sentence encoder takes the label, or description, whose vector is nearest; its score,
        the softmax of cosines divided by 0.05, ranks answers and is not calibrated.

        Args:
            column: the texts.
            labels: two or more different strings in a list, since their order is part of what is
                asked; words that mean what they name do best. A mapping describes each:
                {"refund": "wants money back", ...}. For a classifier, which of its own, by
                default all.
            multi: ask about each label on its own, yes or no. The answer is then the list of
                those with a probability of 0.5 or more, as JSON text ('["refund"]'), which
                pandas, polars and Parquet hold alike, beside one column of probability a label
                and no score. For causal models, and classifiers trained to give several.
            instruction: what to say first, instead of the list of labels.
            examples: (text, label) pairs to show the model: in a list, as a mapping of text to
                label, or as dicts or a frame by name: "text" (or the column) and "label"; with
                `multi` a text may be in several.
            probabilities: add one column a label.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_classify`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            LabelError: labels that are missing, too few, blank, repeated, or none of a
                classifier's.
            UnsupportedModelError: the model cannot give several labels a text.

        Example:
            >>> df.llm.classify("message", labels=["billing", "delivery"])  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "classify",
            column,
            {
                "labels": labels,
                "multi": multi,
                "instruction": instruction,
                "examples": examples,
                "probabilities": probabilities,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def embed(
        self,
        column: str,
        *,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def embed(
        self,
        column: str,
        *,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def embed(
        self,
        column: str,
        *,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def embed(
        self,
        column: str,
        *,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Turn each text into a vector of its meaning, by a sentence encoder.

        The column holds one float32 array a row in pandas and a list of Float32 in polars;
        `numpy.stack` makes a matrix of those of rows with a text.

        Args:
            column: the texts.
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_embed`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            ModelError: no sentence encoder is loaded.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> embedded = df.llm.embed("review", model="minilm")  # doctest: +SKIP
            >>> np.stack(embedded["review_embed"].dropna())  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "embed",
            column,
            {},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def extract(
        self,
        column: str,
        schema: Any,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def extract(
        self,
        column: str,
        schema: Any,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def extract(
        self,
        column: str,
        schema: Any,
        *,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 128,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def extract(
        self,
        column: str,
        schema: Any,
        *,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 128,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Read the fields of a schema out of each text, one column a field.

        The model can write nothing but JSON that is valid against the schema, which is
        `<column>_extract`; the fields are `<column>_extract_<field>`, of their own type. Valid
        is not right: a small model fills in what it cannot find. Strings that the schema leaves
        open share the room of max_new_tokens, lists end at 16 items, numbers lie within 10^15 and
        have six decimals.

        Args:
            column: the texts.
            schema: a Pydantic model, a JSON schema, or names with their types or descriptions:
                `{"product": "what was bought", "price": float | None}`. A type may be named
                ("int"), be a part of a JSON schema (`{"enum": ["red", "blue"]}`), or be such a
                mapping of the fields inside. Objects and lists become JSON text.
            instruction: what to ask, instead of the fields with what the text says.
            examples: (text, dict of fields) pairs to show the model; as dicts or a frame, by the
                names "text" and "fields". Times without an offset are taken as UTC's.
            max_new_tokens: what an answer may take; open strings are cut where it runs out.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_extract`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: the schema has no fields, recurs, or uses what is not supported; an example
                does not fit it; or no answer fits max_new_tokens.
            LabelError: a field is called "error" or "run", as columns of the run are.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.extract("message", {"order": int, "wish": str})  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "extract",
            column,
            {
                "schema": schema,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def filter(
        self,
        column: str,
        predicate: str,
        *,
        threshold: float = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def filter(
        self,
        column: str,
        predicate: str,
        *,
        threshold: float = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def filter(
        self,
        column: str,
        predicate: str,
        *,
        threshold: float = 0.5,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def filter(
        self,
        column: str,
        predicate: str,
        *,
        threshold: float = 0.5,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Take the rows of which something holds, under their own index.

        The score is the probability of yes: how much more likely the text makes the statement
        than other texts do, where one in five is taken to be a yes. It ranks rows better than
        it is calibrated, so look at some and move the threshold, which costs no new answers.
        A row that is blank or failed is left out, with a warning.

        Args:
            column: the texts.
            predicate: what should hold, as it goes on after "The text": "asks for a refund".
            threshold: the probability from which a row is taken.
            instruction: what to say above the examples.
            examples: (text, predicate that holds of it) pairs instead of the built-in ones; as
                dicts or a frame, by the names "text" and "predicate".
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_filter`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: a predicate without words, or a threshold that is no probability.
            LabelError: an example that says yes or no instead of a predicate.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.filter("message", "asks for a refund")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "filter",
            column,
            {
                "predicate": predicate,
                "threshold": threshold,
                "instruction": instruction,
                "examples": examples,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @_named
    def mask(
        self,
        column: str,
        entities: Sequence[str] | None = None,
        *,
        language: str = "en",
        into: str | None = None,
        keep: Sequence[str] = ("value", "error"),
    ) -> F:
        """Replace personal data by placeholders such as `<EMAIL_ADDRESS>`.

        By patterns and check sums, with presidio (`pip install 'nbllm[privacy]'`): no model is
        asked, nothing is kept in the ledger, and there is no `_run`. Beside the masked text,
        `_entities` lists as JSON what was masked: entity, start and end as character offsets in
        the text as it was, and presidio's score. By default **names, places, organizations and
        dates stay as they are**, and street addresses are never found: each call says what it
        did not look for, and how to. Look at samples before you hand a text on. A text with more
        than 10,000 pieces of personal data, or more than 1,500 numbers as long as telephone
        numbers, has an error instead.

        Args:
            column: the texts.
            entities: what to mask; by default EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD,
                IBAN_CODE, IP_ADDRESS, MAC_ADDRESS, CRYPTO and US_SSN. URL, DATE_TIME and
                US_DRIVER_LICENSE are known too, and PERSON, LOCATION, ORGANIZATION and NRP where
                a spaCy model is installed (`python -m spacy download en_core_web_sm`).
            language: of the texts, as a code of ISO 639.
            into: name of the new column, instead of `<column>_mask`.
            keep: which new columns to add, of 'value' and 'error'.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: an unknown entity, presidio is not installed, or no spaCy model for it.

        Example:
            >>> df.llm.mask("message")  # doctest: +SKIP
            >>> df.llm.mask("message", ["EMAIL_ADDRESS", "PERSON"])  # doctest: +SKIP
        """
        made: F = self._call(
            "mask",
            column,
            {"entities": entities, "language": language},
            {"into": into, "keep": keep},
        )
        return made

    @overload
    def prompt(
        self,
        template: str,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def prompt(
        self,
        template: str,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def prompt(
        self,
        template: str,
        *,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 64,
        model: ModelLike | None = None,
        into: str,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def prompt(
        self,
        template: str,
        *,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 64,
        model: ModelLike | None = None,
        into: str,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Ask your own prompt of each row.

        A value that is missing or blank is an empty text in it; a row where all are has a null.

        Args:
            template: the prompt, with columns in braces; numbers and dates are written as `str`
                does, whole numbers without a point. A brace itself is `{{` or `}}`.
            instruction: a system message.
            examples: (prompt, answer) pairs to show the model first; as dicts or a frame, by the
                names "prompt" and "answer".
            max_new_tokens: where an answer is cut.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing, or a new one is in the way.
            FrameError: the prompt names no column, or `into` is missing.
            LabelError: an example of another form.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.prompt("Name one use of a {thing}.", into="use")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "prompt",
            template,
            {"instruction": instruction, "examples": examples, "max_new_tokens": max_new_tokens},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def recommend(
        self,
        column: str,
        history: Any,
        *,
        k: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def recommend(
        self,
        column: str,
        history: Any,
        *,
        k: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def recommend(
        self,
        column: str,
        history: Any,
        *,
        k: int = 10,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def recommend(
        self,
        column: str,
        history: Any,
        *,
        k: int = 10,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Find the items whose text is most like that of something a user liked.

        It returns those items, best first, with their index, their rank as
        `<column>_recommend`, and why: the label of the liked item that each is closest to as
        `<column>_recommend_because`, and the cosine with it as `<column>_recommend_score`. What
        the history names is not among them.

        It knows texts alone and not what others like. With many ratings at hand, what is
        popular is often the better guess. Stopped, it ranks what was embedded until then.

        Args:
            column: the texts that describe the items.
            history: labels in the index (positions in polars) of what was liked; what is true
                there, such as `films["rating"] >= 4`, or the name of such a column; or, for many
                users, a frame whose first two columns are user and label: then
                `<column>_recommend_user` says for whom a row is.
            k: how many items a user.
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_recommend`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: an item of the history is not in the frame, or a history without items.
            ModelError: no sentence encoder is loaded.

        Example:
            >>> films.llm.recommend("plot", history=["Alien", "Solaris"])  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "recommend",
            column,
            {"history": history, "k": k},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def reply(
        self,
        column: str,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = ...,
        k: int = ...,
        threshold: float = ...,
        encoder: ModelLike | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def reply(
        self,
        column: str,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = ...,
        k: int = ...,
        threshold: float = ...,
        encoder: ModelLike | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def reply(
        self,
        column: str,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = None,
        k: int = 2,
        threshold: float = 0.5,
        encoder: ModelLike | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 96,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def reply(
        self,
        column: str,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = None,
        k: int = 2,
        threshold: float = 0.5,
        encoder: ModelLike | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 96,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Draft a reply to each message from your sources, and say where a person should.

        Beside the draft come `_intent`, `_sentiment` (positive, neutral or negative) and
        `_urgency` (high or low), each with its probability as `_score`; `_sources`, the labels
        of the sources used as JSON text, and `_context`, their texts; `_score`, the share of
        the draft's words that stand in them; and `_handover` with its `_reason`: the intent's
        probability or the draft's score is below the threshold, no source matches, the draft
        has numbers that neither sources nor message have, or the row failed. Words in common
        are not the truth, and a small model often repeats the message or speaks of itself:
        read a draft before it goes out.

        Each step is a run of its own in the ledger; the run of a row is that of its draft. Stopped
        in one step, it leaves the columns of the later ones null.

        Args:
            column: the messages.
            sources: what a reply may be made of: texts, or a frame or Series of them, whose
                labels are those of its index (positions in polars and in a list); or label to
                text.
            intents: what a message may be about, as the labels of `classify`.
            source_column: the column of the texts in a frame of sources with several.
            k: how many sources a message.
            threshold: from 0 to 1; moving it costs no new answers.
            encoder: a sentence encoder or its name, to find sources by meaning too and not by
                words alone.
            instruction: what to ask, below source and message, instead of an answer in one or two
                sentences.
            examples: (message, intent) pairs to show the model; as dicts or a frame, by the names
                "message" and "intent".
            max_new_tokens: where a draft is cut, at the end of a sentence.
            model: a causal model, or its name; by default the one loaded last.
            into: name of the new column, instead of `<column>_reply`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: sources without a text, k below 1, or a threshold that is no probability.
            LabelError: intents that are too few, blank or repeated, or an example of another form.
            UnsupportedModelError: the model is not causal, or the encoder is none.

        Example:
            >>> faq = ["Orders can be cancelled within an hour.", ...]  # doctest: +SKIP
            >>> df.llm.reply("message", faq, intents=["order", "refund"])  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "reply",
            column,
            {
                "sources": sources,
                "intents": intents,
                "source_column": source_column,
                "k": k,
                "threshold": threshold,
                "encoder": encoder,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def search(
        self,
        column: str,
        query: str | Sequence[str],
        *,
        k: int = ...,
        how: How = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def search(
        self,
        column: str,
        query: str | Sequence[str],
        *,
        k: int = ...,
        how: How = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def search(
        self,
        column: str,
        query: str | Sequence[str],
        *,
        k: int = 10,
        how: How = "fused",
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def search(
        self,
        column: str,
        query: str | Sequence[str],
        *,
        k: int = 10,
        how: How = "fused",
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Find the rows whose text fits a query best.

        It returns those rows, best first, with their index, their rank as `<column>_search`
        and what they are ranked by as `<column>_search_score`. A row that has none of the
        query's words is not found by "bm25", and one without text is never found. The texts'
        vectors are kept in the ledger, those of the queries are not. Stopped, it ranks what was
        embedded until then, for the queries that were.

        Args:
            column: the texts.
            query: what to look for, or a list of such: then `<column>_search_query` says for
                which of them a row was found.
            k: how many rows a query.
            how: "bm25" by words, which asks no model; "dense" by meaning, the cosine of the
                vectors; "fused" by both, with reciprocal rank fusion (its score is a sum of 1 /
                (60 + rank)).
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_search`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: a query without text, or k below 1.
            ModelError: no sentence encoder is loaded, and `how` is not "bm25".
            TextTooLongError: a query that does not fit the encoder.

        Example:
            >>> df.llm.search("article", "who won the final?", k=3)  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "search",
            column,
            {"query": query, "k": k, "how": how},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def sentiment(
        self,
        column: str,
        *,
        neutral: bool = ...,
        aspects: Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def sentiment(
        self,
        column: str,
        *,
        neutral: bool = ...,
        aspects: Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def sentiment(
        self,
        column: str,
        *,
        neutral: bool = False,
        aspects: Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def sentiment(
        self,
        column: str,
        *,
        neutral: bool = False,
        aspects: Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Tell positive from negative texts, with a calibrated probability.

        A classifier answers by its own head, if its labels are named positive, negative and
        neutral (or pos, neg, neu), and its probability is as it was trained.

        Args:
            column: the texts.
            neutral: tell those that are neither, too, as "neutral".
            aspects: tell, of each of these, how a text speaks of it, for causal models. The
                answer is then JSON text ('{"food": "positive"}'), beside a column an aspect,
                `<column>_sentiment_<aspect>`, which is null where the text does not speak of it,
                and its `_score`. Name them in the language of the texts.
            instruction: what to say above the examples, instead of a line that names the labels.
            examples: (text, label) pairs instead of the built-in ones: in a list, as a mapping of
                text to label, or as dicts or a frame by name: "text" (or the column) and "label".
            probabilities: add one column a label.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_sentiment`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            LabelError: an example with a label that is none of these, a classifier whose
                labels do not say which sentiment each is, or aspects that are blank, repeated, or
                beside `neutral` or `examples`.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> import nbllm, pandas as pd
            >>> df = pd.DataFrame({"review": ["A delight from start to finish.", None]})
            >>> df.llm.sentiment("review")["review_sentiment"].tolist()  # doctest: +SKIP
            ['positive', nan]
        """
        made: F | Run[F] = self._call(
            "sentiment",
            column,
            {
                "neutral": neutral,
                "aspects": aspects,
                "instruction": instruction,
                "examples": examples,
                "probabilities": probabilities,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def similarity(
        self,
        column: str,
        other: str | None = ...,
        *,
        to: str | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def similarity(
        self,
        column: str,
        other: str | None = ...,
        *,
        to: str | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def similarity(
        self,
        column: str,
        other: str | None = None,
        *,
        to: str | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def similarity(
        self,
        column: str,
        other: str | None = None,
        *,
        to: str | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Say how alike two texts are in meaning: the cosine of their vectors, at most 1.

        Args:
            column: the texts.
            other: a column with what to compare them with, row by row.
            to: one text to compare all with, instead of `other`.
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_similarity`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: neither `other` nor `to`, or both.
            ModelError: no sentence encoder is loaded.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.similarity("question", "answer")  # doctest: +SKIP
            >>> df.llm.similarity("message", to="I want my money back.")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "similarity",
            column,
            {"other": other, "to": to},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def summarize(
        self,
        column: str,
        *,
        max_words: int = ...,
        style: str | None = ...,
        by: str | Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def summarize(
        self,
        column: str,
        *,
        max_words: int = ...,
        style: str | None = ...,
        by: str | Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def summarize(
        self,
        column: str,
        *,
        max_words: int = 40,
        style: str | None = None,
        by: str | Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def summarize(
        self,
        column: str,
        *,
        max_words: int = 40,
        style: str | None = None,
        by: str | Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Summarize each text, or all texts of a group together.

        A text that does not fit the context is cut where paragraphs or sentences end, the
        pieces are summarized, and then their summaries, for as often as it takes. `explain` and
        `report` know of the last step only; the pieces have runs of their own in the ledger.

        Args:
            column: the texts.
            max_words: what the model is asked to keep to, and about where it is cut, at the end
                of a sentence.
            style: how it should read, in words that go on after "Summarize the text": "for a
                child", "as a headline".
            by: one or several columns: then the answer is a frame of one row a group, with these
                columns, the group's texts as one, and its summary.
            instruction: what to ask, instead of a summary of so many words; to an
                encoder-decoder, the words that it was trained to see before a text.
            examples: (text, summary) pairs to show a causal model; as dicts or a frame, by the
                names "text" and "summary".
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_summarize`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: a style beside an instruction, or a style or examples for an
                encoder-decoder.
            LabelError: an example of another form.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.summarize("article", max_words=25)  # doctest: +SKIP
            >>> df.llm.summarize("review", by="product")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "summarize",
            column,
            {
                "max_words": max_words,
                "style": style,
                "by": by,
                "instruction": instruction,
                "examples": examples,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def translate(
        self,
        column: str,
        to: str = ...,
        *,
        source: str | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def translate(
        self,
        column: str,
        to: str = ...,
        *,
        source: str | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def translate(
        self,
        column: str,
        to: str = "German",
        *,
        source: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def translate(
        self,
        column: str,
        to: str = "German",
        *,
        source: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Translate each text.

        A causal language model is asked in words, a base one with examples for some languages;
        there a translation ends at its first line break. Marian and T5 models are asked as they
        were trained. A Marian model that does not say its languages is believed to have yours.

        Args:
            column: the texts.
            to: the language to translate into, by its English name or code: "German", "zh".
            source: the language of the texts, where the model should be told.
            instruction: what to ask instead; to an encoder-decoder, the words that it was trained
                to see before a text.
            examples: (text, translation) pairs to show a causal model; as dicts or a frame, by
                the names "text" and "translation".
            max_new_tokens: where a translation is cut; by default 256, or half of the context.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_translate`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: examples for an encoder-decoder.
            UnsupportedModelError: the model does not translate, or not between these languages.

        Example:
            >>> df.llm.translate("review", to="Chinese")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "translate",
            column,
            {
                "to": to,
                "source": source,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def preview(
        self,
        verb: Literal["answer"],
        subject: str,
        *,
        question: str | None = ...,
        context: str | None = ...,
        threshold: float | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["classify"],
        subject: str,
        *,
        labels: Sequence[str] | Mapping[str, str] | None = ...,
        multi: bool = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["embed"],
        subject: str,
        *,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["extract"],
        subject: str,
        *,
        schema: Any,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["filter"],
        subject: str,
        *,
        predicate: str,
        threshold: float = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["mask"],
        subject: str,
        *,
        entities: Sequence[str] | None = ...,
        language: str = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["prompt"],
        subject: str,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["recommend"],
        subject: str,
        *,
        history: Any,
        k: int = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["reply"],
        subject: str,
        *,
        sources: Any,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = ...,
        k: int = ...,
        threshold: float = ...,
        encoder: ModelLike | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["search"],
        subject: str,
        *,
        query: str | Sequence[str],
        k: int = ...,
        how: How = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["sentiment"],
        subject: str,
        *,
        neutral: bool = ...,
        aspects: Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["similarity"],
        subject: str,
        *,
        other: str | None = ...,
        to: str | None = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["summarize"],
        subject: str,
        *,
        max_words: int = ...,
        style: str | None = ...,
        by: str | Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: Literal["translate"],
        subject: str,
        *,
        to: str = ...,
        source: str | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int | None = ...,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> Preview | StepsPreview: ...
    @overload
    def preview(
        self,
        verb: str,
        subject: str,
        *,
        row: Any = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
        **options: Any,
    ) -> Preview | StepsPreview: ...
    def preview(self, verb: str, subject: str, **options: Any) -> Preview | StepsPreview:
        """Show what a verb would give the model for one row: the exact prompt.

        Of a verb that asks several questions, the prompt of each step; of one that ranks, what
        is embedded and how it is ranked; of one that asks no model, what it would do.

        Args:
            verb: the name of a verb, such as "sentiment".
            subject: the verb's first argument: a column, or a prompt.
            row: label in the index (position in polars); by default the first row.
            model: as the verb takes it.
            truncate: as the verb takes it.
            options: other arguments of the verb, such as `labels` or `query`.

        Raises:
            FrameError: no such verb or row, or a row without text.

        Example:
            >>> df.llm.preview("classify", "message", labels=["a", "b"])  # doctest: +SKIP
        """
        return self._preview(verb, subject, options)

    @overload
    def estimate(
        self,
        verb: Literal["answer"],
        subject: str,
        *,
        question: str | None = ...,
        context: str | None = ...,
        threshold: float | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["classify"],
        subject: str,
        *,
        labels: Sequence[str] | Mapping[str, str] | None = ...,
        multi: bool = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["embed"],
        subject: str,
        *,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["extract"],
        subject: str,
        *,
        schema: Any,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["filter"],
        subject: str,
        *,
        predicate: str,
        threshold: float = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["mask"],
        subject: str,
        *,
        entities: Sequence[str] | None = ...,
        language: str = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["prompt"],
        subject: str,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["recommend"],
        subject: str,
        *,
        history: Any,
        k: int = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["reply"],
        subject: str,
        *,
        sources: Any,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = ...,
        k: int = ...,
        threshold: float = ...,
        encoder: ModelLike | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["search"],
        subject: str,
        *,
        query: str | Sequence[str],
        k: int = ...,
        how: How = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["sentiment"],
        subject: str,
        *,
        neutral: bool = ...,
        aspects: Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["similarity"],
        subject: str,
        *,
        other: str | None = ...,
        to: str | None = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["summarize"],
        subject: str,
        *,
        max_words: int = ...,
        style: str | None = ...,
        by: str | Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: Literal["translate"],
        subject: str,
        *,
        to: str = ...,
        source: str | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int | None = ...,
        model: ModelLike | None = ...,
        truncate: bool = ...,
    ) -> RunEstimate | StepsEstimate: ...
    @overload
    def estimate(
        self,
        verb: str,
        subject: str,
        *,
        model: ModelLike | None = ...,
        truncate: bool = ...,
        **options: Any,
    ) -> RunEstimate | StepsEstimate: ...
    def estimate(self, verb: str, subject: str, **options: Any) -> RunEstimate | StepsEstimate:
        """Say what a run would take: rows, tokens, time and memory.

        It tries the model on a few of the rows, which takes seconds; nothing is answered. Of a
        verb that asks several questions it is the account of each step.

        Args:
            verb: the name of a verb, such as "sentiment".
            subject: the verb's first argument: a column, or a prompt.
            model: as the verb takes it.
            truncate: as the verb takes it.
            options: other arguments of the verb, such as `labels` or `query`.

        Example:
            >>> df.llm.estimate("summarize", "article", max_words=25)  # doctest: +SKIP
        """
        return self._estimate(verb, subject, options)


class SeriesVerbs(Generic[F]):
    """The verbs of `series.llm`; F is the type of a frame of it."""

    def _subject(self) -> str:
        raise NotImplementedError

    def _call(
        self, verb: str, subject: Any, options: dict[str, Any], settings: dict[str, Any]
    ) -> Any:
        raise NotImplementedError

    @overload
    def answer(
        self,
        *,
        question: str | None = ...,
        context: str | None = ...,
        threshold: float | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def answer(
        self,
        *,
        question: str | None = ...,
        context: str | None = ...,
        threshold: float | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def answer(
        self,
        *,
        question: str | None = None,
        context: str | None = None,
        threshold: float | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 32,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def answer(
        self,
        *,
        question: str | None = None,
        context: str | None = None,
        threshold: float | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 32,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Answer questions, from a text or from what the model knows.

        With `question=`, the column holds texts, and that one question is asked of each. Else
        it holds questions, one a row, and `context=` may name the column of the texts to answer
        them from. From a text come also `_score`, the model's probability that the text holds
        an answer; and `_start` and `_end`, the character offsets in the text where the answer
        first stands, null where it does not stand there word for word. A question that the
        model calls unanswerable, or whose score is below the threshold, has a null as its
        answer and no error.

        A model with a head for it (…ForQuestionAnswering) points at its answer in the text,
        which may have any length; its score compares the best answer with there being none.

        Args:
            question: the question, in words.
            context: the column of the texts.
            threshold: from 0 to 1; by default 0, and 0.5 for a model with a head for it, which is
                the rule of SQuAD 2.0.
            instruction: what to ask, instead of short answers.
            examples: (text, question, answer) to show the model, where "unanswerable" is an
                answer too; without a text, (question, answer). Dicts or a frame have these names.
            max_new_tokens: where an answer is cut.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_answer`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: a question in words and a column of texts beside it; or what a model with
                such a head cannot be given: no text, an instruction, examples.
            LabelError: an example of another form.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.answer("report", question="Who was hurt?")  # doctest: +SKIP
            >>> df.llm.answer("question", context="article")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "answer",
            self._subject(),
            {
                "question": question,
                "context": context,
                "threshold": threshold,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def classify(
        self,
        labels: Sequence[str] | Mapping[str, str] | None = ...,
        *,
        multi: bool = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def classify(
        self,
        labels: Sequence[str] | Mapping[str, str] | None = ...,
        *,
        multi: bool = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def classify(
        self,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        *,
        multi: bool = False,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def classify(
        self,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        *,
        multi: bool = False,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Choose one of your labels for each text, with a probability.

        A causal model's is calibrated. A classifier gives the labels it was trained on. A
        sentence encoder takes the label, or description, whose vector is nearest; its score,
        the softmax of cosines divided by 0.05, ranks answers and is not calibrated.

        Args:
            labels: two or more different strings in a list, since their order is part of what is
                asked; words that mean what they name do best. A mapping describes each:
                {"refund": "wants money back", ...}. For a classifier, which of its own, by
                default all.
            multi: ask about each label on its own, yes or no. The answer is then the list of
                those with a probability of 0.5 or more, as JSON text ('["refund"]'), which
                pandas, polars and Parquet hold alike, beside one column of probability a label
                and no score. For causal models, and classifiers trained to give several.
            instruction: what to say first, instead of the list of labels.
            examples: (text, label) pairs to show the model: in a list, as a mapping of text to
                label, or as dicts or a frame by name: "text" (or the column) and "label"; with
                `multi` a text may be in several.
            probabilities: add one column a label.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_classify`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            LabelError: labels that are missing, too few, blank, repeated, or none of a
                classifier's.
            UnsupportedModelError: the model cannot give several labels a text.

        Example:
            >>> df.llm.classify("message", labels=["billing", "delivery"])  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "classify",
            self._subject(),
            {
                "labels": labels,
                "multi": multi,
                "instruction": instruction,
                "examples": examples,
                "probabilities": probabilities,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def embed(
        self,
        *,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def embed(
        self,
        *,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def embed(
        self,
        *,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def embed(
        self,
        *,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Turn each text into a vector of its meaning, by a sentence encoder.

        The column holds one float32 array a row in pandas and a list of Float32 in polars;
        `numpy.stack` makes a matrix of those of rows with a text.

        Args:
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_embed`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            ModelError: no sentence encoder is loaded.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> embedded = df.llm.embed("review", model="minilm")  # doctest: +SKIP
            >>> np.stack(embedded["review_embed"].dropna())  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "embed",
            self._subject(),
            {},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def extract(
        self,
        schema: Any,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def extract(
        self,
        schema: Any,
        *,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def extract(
        self,
        schema: Any,
        *,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 128,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def extract(
        self,
        schema: Any,
        *,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 128,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Read the fields of a schema out of each text, one column a field.

        The model can write nothing but JSON that is valid against the schema, which is
        `<column>_extract`; the fields are `<column>_extract_<field>`, of their own type. Valid
        is not right: a small model fills in what it cannot find. Strings that the schema leaves
        open share the room of max_new_tokens, lists end at 16 items, numbers lie within 10^15 and
        have six decimals.

        Args:
            schema: a Pydantic model, a JSON schema, or names with their types or descriptions:
                `{"product": "what was bought", "price": float | None}`. A type may be named
                ("int"), be a part of a JSON schema (`{"enum": ["red", "blue"]}`), or be such a
                mapping of the fields inside. Objects and lists become JSON text.
            instruction: what to ask, instead of the fields with what the text says.
            examples: (text, dict of fields) pairs to show the model; as dicts or a frame, by the
                names "text" and "fields". Times without an offset are taken as UTC's.
            max_new_tokens: what an answer may take; open strings are cut where it runs out.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_extract`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: the schema has no fields, recurs, or uses what is not supported; an example
                does not fit it; or no answer fits max_new_tokens.
            LabelError: a field is called "error" or "run", as columns of the run are.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.extract("message", {"order": int, "wish": str})  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "extract",
            self._subject(),
            {
                "schema": schema,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def filter(
        self,
        predicate: str,
        *,
        threshold: float = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def filter(
        self,
        predicate: str,
        *,
        threshold: float = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def filter(
        self,
        predicate: str,
        *,
        threshold: float = 0.5,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def filter(
        self,
        predicate: str,
        *,
        threshold: float = 0.5,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Take the rows of which something holds, under their own index.

        The score is the probability of yes: how much more likely the text makes the statement
        than other texts do, where one in five is taken to be a yes. It ranks rows better than
        it is calibrated, so look at some and move the threshold, which costs no new answers.
        A row that is blank or failed is left out, with a warning.

        Args:
            predicate: what should hold, as it goes on after "The text": "asks for a refund".
            threshold: the probability from which a row is taken.
            instruction: what to say above the examples.
            examples: (text, predicate that holds of it) pairs instead of the built-in ones; as
                dicts or a frame, by the names "text" and "predicate".
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_filter`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: a predicate without words, or a threshold that is no probability.
            LabelError: an example that says yes or no instead of a predicate.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.filter("message", "asks for a refund")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "filter",
            self._subject(),
            {
                "predicate": predicate,
                "threshold": threshold,
                "instruction": instruction,
                "examples": examples,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @_named
    def mask(
        self,
        entities: Sequence[str] | None = None,
        *,
        language: str = "en",
        into: str | None = None,
        keep: Sequence[str] = ("value", "error"),
    ) -> F:
        """Replace personal data by placeholders such as `<EMAIL_ADDRESS>`.

        By patterns and check sums, with presidio (`pip install 'nbllm[privacy]'`): no model is
        asked, nothing is kept in the ledger, and there is no `_run`. Beside the masked text,
        `_entities` lists as JSON what was masked: entity, start and end as character offsets in
        the text as it was, and presidio's score. By default **names, places, organizations and
        dates stay as they are**, and street addresses are never found: each call says what it
        did not look for, and how to. Look at samples before you hand a text on. A text with more
        than 10,000 pieces of personal data, or more than 1,500 numbers as long as telephone
        numbers, has an error instead.

        Args:
            entities: what to mask; by default EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD,
                IBAN_CODE, IP_ADDRESS, MAC_ADDRESS, CRYPTO and US_SSN. URL, DATE_TIME and
                US_DRIVER_LICENSE are known too, and PERSON, LOCATION, ORGANIZATION and NRP where
                a spaCy model is installed (`python -m spacy download en_core_web_sm`).
            language: of the texts, as a code of ISO 639.
            into: name of the new column, instead of `<column>_mask`.
            keep: which new columns to add, of 'value' and 'error'.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: an unknown entity, presidio is not installed, or no spaCy model for it.

        Example:
            >>> df.llm.mask("message")  # doctest: +SKIP
            >>> df.llm.mask("message", ["EMAIL_ADDRESS", "PERSON"])  # doctest: +SKIP
        """
        made: F = self._call(
            "mask",
            self._subject(),
            {"entities": entities, "language": language},
            {"into": into, "keep": keep},
        )
        return made

    @overload
    def recommend(
        self,
        history: Any,
        *,
        k: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def recommend(
        self,
        history: Any,
        *,
        k: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def recommend(
        self,
        history: Any,
        *,
        k: int = 10,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def recommend(
        self,
        history: Any,
        *,
        k: int = 10,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Find the items whose text is most like that of something a user liked.

        It returns those items, best first, with their index, their rank as
        `<column>_recommend`, and why: the label of the liked item that each is closest to as
        `<column>_recommend_because`, and the cosine with it as `<column>_recommend_score`. What
        the history names is not among them.

        It knows texts alone and not what others like. With many ratings at hand, what is
        popular is often the better guess. Stopped, it ranks what was embedded until then.

        Args:
            history: labels in the index (positions in polars) of what was liked; what is true
                there, such as `films["rating"] >= 4`, or the name of such a column; or, for many
                users, a frame whose first two columns are user and label: then
                `<column>_recommend_user` says for whom a row is.
            k: how many items a user.
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_recommend`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: an item of the history is not in the frame, or a history without items.
            ModelError: no sentence encoder is loaded.

        Example:
            >>> films.llm.recommend("plot", history=["Alien", "Solaris"])  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "recommend",
            self._subject(),
            {"history": history, "k": k},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def reply(
        self,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = ...,
        k: int = ...,
        threshold: float = ...,
        encoder: ModelLike | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def reply(
        self,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = ...,
        k: int = ...,
        threshold: float = ...,
        encoder: ModelLike | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def reply(
        self,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = None,
        k: int = 2,
        threshold: float = 0.5,
        encoder: ModelLike | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 96,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def reply(
        self,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = None,
        k: int = 2,
        threshold: float = 0.5,
        encoder: ModelLike | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 96,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Draft a reply to each message from your sources, and say where a person should.

        Beside the draft come `_intent`, `_sentiment` (positive, neutral or negative) and
        `_urgency` (high or low), each with its probability as `_score`; `_sources`, the labels
        of the sources used as JSON text, and `_context`, their texts; `_score`, the share of
        the draft's words that stand in them; and `_handover` with its `_reason`: the intent's
        probability or the draft's score is below the threshold, no source matches, the draft
        has numbers that neither sources nor message have, or the row failed. Words in common
        are not the truth, and a small model often repeats the message or speaks of itself:
        read a draft before it goes out.

        Each step is a run of its own in the ledger; the run of a row is that of its draft. Stopped
        in one step, it leaves the columns of the later ones null.

        Args:
            sources: what a reply may be made of: texts, or a frame or Series of them, whose
                labels are those of its index (positions in polars and in a list); or label to
                text.
            intents: what a message may be about, as the labels of `classify`.
            source_column: the column of the texts in a frame of sources with several.
            k: how many sources a message.
            threshold: from 0 to 1; moving it costs no new answers.
            encoder: a sentence encoder or its name, to find sources by meaning too and not by
                words alone.
            instruction: what to ask, below source and message, instead of an answer in one or two
                sentences.
            examples: (message, intent) pairs to show the model; as dicts or a frame, by the names
                "message" and "intent".
            max_new_tokens: where a draft is cut, at the end of a sentence.
            model: a causal model, or its name; by default the one loaded last.
            into: name of the new column, instead of `<column>_reply`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: sources without a text, k below 1, or a threshold that is no probability.
            LabelError: intents that are too few, blank or repeated, or an example of another form.
            UnsupportedModelError: the model is not causal, or the encoder is none.

        Example:
            >>> faq = ["Orders can be cancelled within an hour.", ...]  # doctest: +SKIP
            >>> df.llm.reply("message", faq, intents=["order", "refund"])  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "reply",
            self._subject(),
            {
                "sources": sources,
                "intents": intents,
                "source_column": source_column,
                "k": k,
                "threshold": threshold,
                "encoder": encoder,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def search(
        self,
        query: str | Sequence[str],
        *,
        k: int = ...,
        how: How = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def search(
        self,
        query: str | Sequence[str],
        *,
        k: int = ...,
        how: How = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def search(
        self,
        query: str | Sequence[str],
        *,
        k: int = 10,
        how: How = "fused",
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def search(
        self,
        query: str | Sequence[str],
        *,
        k: int = 10,
        how: How = "fused",
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Find the rows whose text fits a query best.

        It returns those rows, best first, with their index, their rank as `<column>_search`
        and what they are ranked by as `<column>_search_score`. A row that has none of the
        query's words is not found by "bm25", and one without text is never found. The texts'
        vectors are kept in the ledger, those of the queries are not. Stopped, it ranks what was
        embedded until then, for the queries that were.

        Args:
            query: what to look for, or a list of such: then `<column>_search_query` says for
                which of them a row was found.
            k: how many rows a query.
            how: "bm25" by words, which asks no model; "dense" by meaning, the cosine of the
                vectors; "fused" by both, with reciprocal rank fusion (its score is a sum of 1 /
                (60 + rank)).
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_search`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: a query without text, or k below 1.
            ModelError: no sentence encoder is loaded, and `how` is not "bm25".
            TextTooLongError: a query that does not fit the encoder.

        Example:
            >>> df.llm.search("article", "who won the final?", k=3)  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "search",
            self._subject(),
            {"query": query, "k": k, "how": how},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def sentiment(
        self,
        *,
        neutral: bool = ...,
        aspects: Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def sentiment(
        self,
        *,
        neutral: bool = ...,
        aspects: Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        probabilities: bool = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def sentiment(
        self,
        *,
        neutral: bool = False,
        aspects: Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def sentiment(
        self,
        *,
        neutral: bool = False,
        aspects: Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Tell positive from negative texts, with a calibrated probability.

        A classifier answers by its own head, if its labels are named positive, negative and
        neutral (or pos, neg, neu), and its probability is as it was trained.

        Args:
            neutral: tell those that are neither, too, as "neutral".
            aspects: tell, of each of these, how a text speaks of it, for causal models. The
                answer is then JSON text ('{"food": "positive"}'), beside a column an aspect,
                `<column>_sentiment_<aspect>`, which is null where the text does not speak of it,
                and its `_score`. Name them in the language of the texts.
            instruction: what to say above the examples, instead of a line that names the labels.
            examples: (text, label) pairs instead of the built-in ones: in a list, as a mapping of
                text to label, or as dicts or a frame by name: "text" (or the column) and "label".
            probabilities: add one column a label.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_sentiment`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            LabelError: an example with a label that is none of these, a classifier whose
                labels do not say which sentiment each is, or aspects that are blank, repeated, or
                beside `neutral` or `examples`.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> import nbllm, pandas as pd
            >>> df = pd.DataFrame({"review": ["A delight from start to finish.", None]})
            >>> df.llm.sentiment("review")["review_sentiment"].tolist()  # doctest: +SKIP
            ['positive', nan]
        """
        made: F | Run[F] = self._call(
            "sentiment",
            self._subject(),
            {
                "neutral": neutral,
                "aspects": aspects,
                "instruction": instruction,
                "examples": examples,
                "probabilities": probabilities,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def similarity(
        self,
        other: str | None = ...,
        *,
        to: str | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def similarity(
        self,
        other: str | None = ...,
        *,
        to: str | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def similarity(
        self,
        other: str | None = None,
        *,
        to: str | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def similarity(
        self,
        other: str | None = None,
        *,
        to: str | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Say how alike two texts are in meaning: the cosine of their vectors, at most 1.

        Args:
            other: a column with what to compare them with, row by row.
            to: one text to compare all with, instead of `other`.
            model: a sentence encoder, or its name, such as 'minilm'; by default the one loaded
                last.
            into: name of the new column, instead of `<column>_similarity`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: neither `other` nor `to`, or both.
            ModelError: no sentence encoder is loaded.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.similarity("question", "answer")  # doctest: +SKIP
            >>> df.llm.similarity("message", to="I want my money back.")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "similarity",
            self._subject(),
            {"other": other, "to": to},
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def summarize(
        self,
        *,
        max_words: int = ...,
        style: str | None = ...,
        by: str | Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def summarize(
        self,
        *,
        max_words: int = ...,
        style: str | None = ...,
        by: str | Sequence[str] | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def summarize(
        self,
        *,
        max_words: int = 40,
        style: str | None = None,
        by: str | Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def summarize(
        self,
        *,
        max_words: int = 40,
        style: str | None = None,
        by: str | Sequence[str] | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Summarize each text, or all texts of a group together.

        A text that does not fit the context is cut where paragraphs or sentences end, the
        pieces are summarized, and then their summaries, for as often as it takes. `explain` and
        `report` know of the last step only; the pieces have runs of their own in the ledger.

        Args:
            max_words: what the model is asked to keep to, and about where it is cut, at the end
                of a sentence.
            style: how it should read, in words that go on after "Summarize the text": "for a
                child", "as a headline".
            by: one or several columns: then the answer is a frame of one row a group, with these
                columns, the group's texts as one, and its summary.
            instruction: what to ask, instead of a summary of so many words; to an
                encoder-decoder, the words that it was trained to see before a text.
            examples: (text, summary) pairs to show a causal model; as dicts or a frame, by the
                names "text" and "summary".
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_summarize`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: a style beside an instruction, or a style or examples for an
                encoder-decoder.
            LabelError: an example of another form.
            UnsupportedModelError: the model is of another kind.

        Example:
            >>> df.llm.summarize("article", max_words=25)  # doctest: +SKIP
            >>> df.llm.summarize("review", by="product")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "summarize",
            self._subject(),
            {
                "max_words": max_words,
                "style": style,
                "by": by,
                "instruction": instruction,
                "examples": examples,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made

    @overload
    def translate(
        self,
        to: str = ...,
        *,
        source: str | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[False] = ...,
        engine: str = ...,
        workers: int | None = ...,
    ) -> F: ...
    @overload
    def translate(
        self,
        to: str = ...,
        *,
        source: str | None = ...,
        instruction: str | None = ...,
        examples: Examples | None = ...,
        max_new_tokens: int | None = ...,
        model: ModelLike | None = ...,
        into: str | None = ...,
        keep: Sequence[str] = ...,
        ledger: bool = ...,
        truncate: bool = ...,
        background: Literal[True],
        engine: str = ...,
        workers: int | None = ...,
    ) -> Run[F]: ...
    @overload
    def translate(
        self,
        to: str = "German",
        *,
        source: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]: ...
    @_named
    def translate(
        self,
        to: str = "German",
        *,
        source: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> F | Run[F]:
        """Translate each text.

        A causal language model is asked in words, a base one with examples for some languages;
        there a translation ends at its first line break. Marian and T5 models are asked as they
        were trained. A Marian model that does not say its languages is believed to have yours.

        Args:
            to: the language to translate into, by its English name or code: "German", "zh".
            source: the language of the texts, where the model should be told.
            instruction: what to ask instead; to an encoder-decoder, the words that it was trained
                to see before a text.
            examples: (text, translation) pairs to show a causal model; as dicts or a frame, by
                the names "text" and "translation".
            max_new_tokens: where a translation is cut; by default 256, or half of the context.
            model: the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by
                default the one loaded last of a kind that the verb can ask, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_translate`.
            keep: which new columns to add, of 'value', 'score', 'error' and 'run'.
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it shows its
                progress, can be cancelled, and has the frame as its `result()`.
            engine: 'local' asks the model itself, 'ray' copies of it on workers.
            workers: how many copies; by default one a GPU, else one for every four processor
                cores.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: examples for an encoder-decoder.
            UnsupportedModelError: the model does not translate, or not between these languages.

        Example:
            >>> df.llm.translate("review", to="Chinese")  # doctest: +SKIP
        """
        made: F | Run[F] = self._call(
            "translate",
            self._subject(),
            {
                "to": to,
                "source": source,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            {
                "model": model,
                "into": into,
                "keep": keep,
                "ledger": ledger,
                "truncate": truncate,
                "background": background,
                "engine": engine,
                "workers": workers,
            },
        )
        return made
