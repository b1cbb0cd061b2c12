"""`df.llm`: the verbs of nbllm on pandas and polars DataFrames."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nbllm.checks import check_choice, near
from nbllm.errors import FrameError, ProvenanceError
from nbllm.frame import KEEP
from nbllm.frame.checks import read_argument, read_options, reads_arguments, shaping
from nbllm.frame.running.progress import Display, show_with

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.prompts.examples import Examples
    from nbllm.frame.running.estimate import RunEstimate, StepsEstimate
    from nbllm.frame.running.preview import Preview, StepsPreview
    from nbllm.frame.running.report import RunReport
    from nbllm.frame.verbs.search import How
    from nbllm.models.model import ModelLike
    from nbllm.widgets.explanation import Explanation
    from nbllm.widgets.explorer.view import Explorer

__all__ = ["FrameAccessor", "register_on_pandas", "register_on_polars"]


def _widget() -> Display | None:
    """How a run is shown in a notebook; None in a terminal, where nothing of it is imported."""
    if "ipykernel" not in sys.modules:
        return None
    from nbllm.widgets.run.view import make_display

    return make_display()


show_with(_widget)

# What decides which columns a run adds, beside the verb itself.
_ADDED = ("keep", "probabilities_too")


class FrameAccessor:
    """A language model as one more column operation.

    Every verb returns a new frame: the rows, order and index of this one, plus the columns
    `<column>_<verb>` (the answer), `_score` where there is one, `_error` and `_run`. `into=`
    names them otherwise. A missing or blank text, in which nothing can be seen, gives a null; a
    row that fails has its error in its column and stops nothing. Answers are kept in the ledger
    and not computed twice.
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        others = [name for name in dir(FrameAccessor) if name[0] != "_" and name not in _VERBS]
        return (
            f"df.llm: a language model as one more column operation.\n"
            f"Verbs: {', '.join(_VERBS)}.\n"
            f"Beside them: {', '.join(others)}.\n"
            "help(df.llm.sentiment) tells of a verb; nbllm.load(name) loads a model for them."
        )

    if not TYPE_CHECKING:  # typed, it would hide every misspelt verb from the checker

        def __getattr__(self, name: str) -> object:
            known = [known for known in dir(FrameAccessor) if not known.startswith("_")]
            raise AttributeError(
                f"df.llm has no {name!r}. {near(name, known)}It has: {', '.join(known)}."
            )

    @reads_arguments
    def sentiment(
        self,
        column: str,
        *,
        neutral: bool = False,
        aspects: Sequence[str] | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Tell positive from negative texts, with a calibrated probability.

        A classifier answers by its own head, if its labels are named positive, negative and
        neutral (or pos, neg, neu), and its probability is as it was trained.

        Args:
            column: the texts.
            neutral: tell those that are neither, too, as "neutral".
            aspects: tell, of each of these, how a text speaks of it, for causal models. The
                answer is then JSON text ('{"food": "positive"}'), beside a column an aspect,
                `<column>_sentiment_<aspect>`, which is null where the text does not speak of
                it, and its `_score`. Name them in the language of the texts.
            model: a causal one or a classifier, as `nbllm.load` returned it or by its name,
                such as "smollm2"; by default the one loaded last, else `nbllm.load()`.
            into: name of the new column, instead of `<column>_sentiment`.
            instruction: what to say above the examples.
            examples: (text, label) pairs instead of the built-in ones: in a list, as a mapping
                of text to label, or as dicts or a frame by name: "text" (or the column) and
                "label".
            probabilities: add one column a label.
            keep: which new columns to add, of "value", "score", "error" and "run".
            ledger: whether to look answers up on disk and keep new ones there.
            truncate: cut texts that do not fit the context, instead of failing their rows.
            background: return a Run at once, which works beside the notebook: it tells how far
                it is, can be cancelled, and has the frame as its `result()`.

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            LabelError: an example with a label that is none of these, a classifier whose
                labels do not say which sentiment each is, or aspects that are blank or repeated.
            UnsupportedModelError: the model is of another kind.

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
            {
                "neutral": neutral,
                "aspects": aspects,
                "instruction": instruction,
                "examples": examples,
            },
            into or f"{column}_sentiment",
            probabilities_too=probabilities,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
    def classify(
        self,
        column: str,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        *,
        multi: bool = False,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        probabilities: bool = False,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Choose one of your labels for each text, with a probability.

        A causal model's is calibrated. A classifier gives the labels it was trained on. A
        sentence encoder takes the label, or description, whose vector is nearest; its score,
        the softmax of cosines divided by 0.05, ranks answers and is not calibrated.

        Args:
            column: the texts.
            labels: two or more different strings in a list, since their order is part of what is
                asked; words that mean what they name do best. A mapping describes each:
                {"refund": "wants money back", ...}. For a classifier, which of its own, by default
                all.
            multi: ask about each label on its own, yes or no. The answer is then the list of
                those with a probability of 0.5 or more, as JSON text ('["refund"]'), which
                pandas, polars and Parquet hold alike, beside one column of probability a label
                and no score. For causal models, and classifiers trained to give several.
            examples: (text, label) pairs to show the model, in any form that `sentiment` takes;
                with `multi` a text may be in several.

        The other arguments and errors are those of `sentiment`.

        Raises:
            LabelError: labels that are missing, too few, blank, repeated, or none of a
                classifier's.

        Example:
            >>> df.llm.classify("message", labels=["billing", "delivery"])  # doctest: +SKIP
        """
        return self._ask(
            "classify",
            column,
            model,
            {
                "labels": labels,
                "multi": multi,
                "instruction": instruction,
                "examples": examples,
            },
            into or f"{column}_classify",
            probabilities_too=probabilities or multi,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
    def filter(
        self,
        column: str,
        predicate: str,
        *,
        threshold: float = 0.5,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Take the rows of which something holds, under their own index.

        The score is the probability of yes: how much more likely the text makes the statement
        than other texts do, where one in five is taken to be a yes. It ranks rows better than
        it is calibrated, so look at some and move the threshold, which costs no new answers.
        A row that is blank or failed is left out, with a warning.

        Args:
            column: the texts.
            predicate: what should hold, as it goes on after "The text": "asks for a refund".
            threshold: the probability from which a row is taken.
            examples: (text, predicate that holds of it) pairs instead of the built-in ones; as
                dicts or a frame, by the names "text" and "predicate".

        The other arguments and errors are those of `sentiment`.

        Raises:
            FrameError: a predicate without words, or a threshold that is no probability.

        Example:
            >>> df.llm.filter("message", "asks for a refund")  # doctest: +SKIP
        """
        from nbllm.frame.verbs.filtering import matching

        output = into or f"{column}_filter"
        return self._ask(
            "filter",
            column,
            model,
            {
                "predicate": predicate,
                "threshold": threshold,
                "instruction": instruction,
                "examples": examples,
            },
            output,
            finish=lambda answered: matching(answered, column, output, keep),
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
    def summarize(
        self,
        column: str,
        *,
        max_words: int = 40,
        style: str | None = None,
        by: str | Sequence[str] | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Summarize each text, or all texts of a group together.

        A text that does not fit the context is cut where paragraphs or sentences end, the
        pieces are summarized, and then their summaries, for as often as it takes. `explain` and
        `report` know of the last step only; the pieces have runs of their own in the ledger.

        Args:
            column: the texts.
            by: one or several columns: then the answer is a frame of one row a group, with
                these columns, the group's texts as one, and its summary.
            max_words: what the model is asked to keep to, and about where it is cut, at the
                end of a sentence.
            style: how it should read, in words that go on after "Summarize the text": "for a
                child", "as a headline".
            instruction: what to ask, instead of a summary of so many words; to an
                encoder-decoder, the words that it was trained to see before a text.
            examples: (text, summary) pairs to show a causal model; as dicts or a frame, by the
                names "text" and "summary".

        The other arguments and errors are those of `sentiment`.

        Example:
            >>> df.llm.summarize("article", max_words=25)  # doctest: +SKIP
            >>> df.llm.summarize("review", by="product")  # doctest: +SKIP
        """
        from nbllm.frame.call_checks import check_call
        from nbllm.frame.running.background import start
        from nbllm.frame.verbs.long import group_texts, summarize_frame
        from nbllm.frame.verbs.registry import choose_model, make_task

        options = {
            "max_words": max_words,
            "style": style,
            "instruction": instruction,
            "examples": examples,
        }
        output = into or f"{column}_summarize"
        frame = self._asked(background) if by is None else group_texts(self._frame, by, column)
        check_call(frame, "summarize", column, options, output=output, keep=keep)
        model = choose_model("summarize", model)
        work = partial(
            summarize_frame,
            frame,
            make_task("summarize", column, model, options),
            model,
            column,
            output=output,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            engine=engine,
            workers=workers,
        )
        return start("summarize", output, work, background=background)

    @reads_arguments
    def translate(
        self,
        column: str,
        to: str = "German",
        *,
        source: str | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int | None = None,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Translate each text.

        A causal language model is asked in words, a base one with examples for some languages;
        there a translation ends at its first line break. Marian and T5 models are asked as they
        were trained. A Marian model that does not say its languages is believed to have yours.

        Args:
            column: the texts.
            to: the language to translate into, by its English name or code: "German", "zh".
            source: the language of the texts, where the model should be told.
            instruction: what to ask instead; to an encoder-decoder, the words that it was
                trained to see before a text.
            examples: (text, translation) pairs to show a causal model; as dicts or a frame, by
                the names "text" and "translation".
            max_new_tokens: where a translation is cut; by default 256, or half of the context.

        The other arguments and errors are those of `sentiment`.

        Raises:
            UnsupportedModelError: the model does not translate, or not between these languages.

        Example:
            >>> df.llm.translate("review", to="Chinese")  # doctest: +SKIP
        """
        return self._ask(
            "translate",
            column,
            model,
            {
                "to": to,
                "source": source,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            into or f"{column}_translate",
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
    def answer(
        self,
        column: str,
        *,
        question: str | None = None,
        context: str | None = None,
        threshold: float | None = None,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 32,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
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
            threshold: from 0 to 1; by default 0, and 0.5 for a model with such a head, which is
                the rule of SQuAD 2.0.
            examples: (text, question, answer) to show the model, where "unanswerable" is an
                answer too; without a text, (question, answer). Dicts or a frame have these names.
            max_new_tokens: where an answer is cut.

        The other arguments and errors are those of `sentiment`.

        Example:
            >>> df.llm.answer("report", question="Who was hurt?")  # doctest: +SKIP
            >>> df.llm.answer("question", context="article")  # doctest: +SKIP
        """
        return self._ask(
            "answer",
            column,
            model,
            {
                "question": question,
                "context": context,
                "threshold": threshold,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            into or f"{column}_answer",
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
    def mask(
        self,
        column: str,
        entities: Sequence[str] | None = None,
        *,
        language: str = "en",
        into: str | None = None,
        keep: Sequence[str] = ("value", "error"),
    ) -> Any:
        """Replace personal data by placeholders such as `<EMAIL_ADDRESS>`.

        By patterns and check sums, with presidio (`pip install 'nbllm[privacy]'`): no model is
        asked, nothing is kept in the ledger, and there is no `_run`. Beside the masked text,
        `_entities` lists as JSON what was masked: entity, start and end as character offsets in
        the text as it was, and presidio's score. By default **names, places, organizations and
        dates stay as they are**, and street addresses are never found: each call says what it
        did not look for, and how to. Look at samples before you hand a text on.

        Args:
            column: the texts.
            entities: what to mask; by default EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD,
                IBAN_CODE, IP_ADDRESS, MAC_ADDRESS, CRYPTO and US_SSN. URL, DATE_TIME and
                US_DRIVER_LICENSE are known too, and PERSON, LOCATION, ORGANIZATION and NRP where
                a spaCy model is installed (`python -m spacy download en_core_web_sm`).
            language: of the texts, as a code of ISO 639.
            into: name of the new column, instead of `<column>_mask`.
            keep: which new columns to add, of "value" and "error".

        Raises:
            ColumnError: the column is missing or not text, or a new one is in the way.
            FrameError: an unknown entity, presidio is not installed, or no spaCy model for it.

        Example:
            >>> df.llm.mask("message")  # doctest: +SKIP
            >>> df.llm.mask("message", ["EMAIL_ADDRESS", "PERSON"])  # doctest: +SKIP
        """
        from nbllm.frame.masking.masker import Masker, mask_frame

        return mask_frame(
            self._frame,
            column,
            Masker(entities, language),
            output=into or f"{column}_mask",
            keep=keep,
        )

    @reads_arguments
    def prompt(
        self,
        template: str,
        *,
        into: str,
        model: ModelLike | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 64,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Ask your own prompt of each row.

        A value that is missing or blank is an empty text in it; a row where all are has a null.

        Args:
            template: the prompt, with columns in braces; numbers and dates are written as
                `str` does, whole numbers without a point. A brace itself is `{{` or `}}`.
            into: name of the new column.
            instruction: a system message.
            examples: (prompt, answer) pairs to show the model first; as dicts or a frame, by the
                names "prompt" and "answer".
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
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
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
    ) -> Any:
        """Turn each text into a vector of its meaning, by a sentence encoder.

        The column holds one float32 array a row in pandas and a list of Float32 in polars;
        `numpy.stack` makes a matrix of those of rows with a text.

        Args:
            model: a sentence encoder, or its name, such as "minilm"; by default the one loaded
                last.

        The other arguments and errors are those of `sentiment`.

        Raises:
            ModelError: no sentence encoder is loaded.

        Example:
            >>> embedded = df.llm.embed("review", model="minilm")  # doctest: +SKIP
            >>> np.stack(embedded["review_embed"].dropna())  # doctest: +SKIP
        """
        from nbllm.frame.verbs.embed import cells_of

        return self._ask(
            "embed",
            column,
            model,
            {"cells": cells_of(self._frame)},
            into or f"{column}_embed",
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
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
    ) -> Any:
        """Say how alike two texts are in meaning: the cosine of their vectors, at most 1.

        Args:
            column: the texts.
            other: a column with what to compare them with, row by row.
            to: one text to compare all with, instead of `other`.
            model: a sentence encoder, or its name, such as "minilm"; by default the one loaded
                last.

        The other arguments and errors are those of `sentiment`.

        Raises:
            FrameError: neither `other` nor `to`, or both.
            ModelError: no sentence encoder is loaded.

        Example:
            >>> df.llm.similarity("question", "answer")  # doctest: +SKIP
            >>> df.llm.similarity("message", to="I want my money back.")  # doctest: +SKIP
        """
        return self._ask(
            "similarity",
            column,
            model,
            {"other": other, "to": to},
            into or f"{column}_similarity",
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
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
    ) -> Any:
        """Find the rows whose text fits a query best.

        It returns those rows, best first, with their index, their rank as `<column>_search`
        and what they are ranked by as `<column>_search_score`. A row that has none of the
        query's words is not found by "bm25", and one without text is never found.

        Args:
            column: the texts.
            query: what to look for, or a list of such: then `<column>_search_query` says for which
                of them a row was found.
            k: how many rows a query.
            how: "bm25" by words, which asks no model; "dense" by meaning, the cosine of the
                vectors; "fused" by both, with reciprocal rank fusion (its score is a sum of
                1 / (60 + rank)).
            model: a sentence encoder, or its name, such as "minilm"; by default the one loaded
                last.

        The other arguments and errors are those of `sentiment`. The texts' vectors are kept in
        the ledger, those of the queries are not.

        Raises:
            FrameError: a query without text, or k below 1.
            ModelError: no sentence encoder is loaded, and `how` is not "bm25".

        Example:
            >>> df.llm.search("article", "who won the final?", k=3)  # doctest: +SKIP
        """
        from nbllm.frame.running.background import start
        from nbllm.frame.verbs.search import search_frame

        output = into or f"{column}_search"
        work = partial(
            search_frame,
            self._asked(background),
            column,
            query,
            k=k,
            how=how,
            model=model,
            into=output,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
        )
        return start("search", output, work, background=background)

    @reads_arguments
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
    ) -> Any:
        """Find the items whose text is most like that of something a user liked.

        It returns those items, best first, with their index, their rank as
        `<column>_recommend`, and why: the label of the liked item that each is closest to as
        `<column>_recommend_because`, and the cosine with it as `<column>_recommend_score`. What
        the history names is not among them.

        It knows texts alone and not what others like. With many ratings at hand, what is
        popular is often the better guess.

        Args:
            column: the texts that describe the items.
            history: labels in the index (positions in polars) of what was liked; what is true
                there, such as `films["rating"] >= 4`, or the name of such a column; or, for many
                users, a frame whose first two columns are user and label: then
                `<column>_recommend_user` says for whom a row is.
            k: how many items a user.
            model: a sentence encoder, or its name, such as "minilm"; by default the one loaded
                last.

        The other arguments and errors are those of `sentiment`.

        Raises:
            FrameError: an item of the history is not in the frame, or a history without items.
            ModelError: no sentence encoder is loaded.

        Example:
            >>> films.llm.recommend("plot", history=["Alien", "Solaris"])  # doctest: +SKIP
        """
        from nbllm.frame.running.background import start
        from nbllm.frame.verbs.recommend import recommend_frame

        output = into or f"{column}_recommend"
        work = partial(
            recommend_frame,
            self._asked(background),
            column,
            history,
            k=k,
            model=model,
            into=output,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
        )
        return start("recommend", output, work, background=background)

    @reads_arguments
    def extract(
        self,
        column: str,
        schema: Any,
        *,
        model: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 128,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Read the fields of a schema out of each text, one column a field.

        The model can write nothing but JSON that is valid against the schema, which is
        `<column>_extract`; the fields are `<column>_extract_<field>`, of their own type. Valid
        is not right: a small model fills in what it cannot find.

        Args:
            column: the texts.
            schema: a Pydantic model, a JSON schema, or names with their types or descriptions:
                `{"product": "what was bought", "price": float | None}`. A type may be named
                ("int"), be a part of a JSON schema (`{"enum": ["red", "blue"]}`), or be such a
                mapping of the fields inside. Objects and lists become JSON text.
            examples: (text, dict of fields) pairs to show the model; as dicts or a frame, by the
                names "text" and "fields". Times without an offset are taken as UTC's.
            max_new_tokens: what an answer may take; open strings are cut where it runs out.

        The other arguments and errors are those of `sentiment`.

        Raises:
            FrameError: the schema has no fields or uses what is not supported, or no answer
                fits max_new_tokens.
            LabelError: a field is called "error" or "run", as columns of the run are.

        Example:
            >>> df.llm.extract("message", {"order": int, "wish": str})  # doctest: +SKIP
        """
        return self._ask(
            "extract",
            column,
            model,
            {
                "schema": schema,
                "instruction": instruction,
                "examples": examples,
                "max_new_tokens": max_new_tokens,
            },
            into or f"{column}_extract",
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            background=background,
            engine=engine,
            workers=workers,
        )

    @reads_arguments
    def reply(
        self,
        column: str,
        sources: Any,
        *,
        intents: Sequence[str] | Mapping[str, str],
        source_column: str | None = None,
        k: int = 2,
        threshold: float = 0.5,
        model: ModelLike | None = None,
        encoder: ModelLike | None = None,
        into: str | None = None,
        instruction: str | None = None,
        examples: Examples | None = None,
        max_new_tokens: int = 96,
        keep: Sequence[str] = KEEP,
        ledger: bool = True,
        truncate: bool = False,
        background: bool = False,
        engine: str = "local",
        workers: int | None = None,
    ) -> Any:
        """Draft a reply to each message from your sources, and say where a person should.

        Beside the draft come `_intent`, `_sentiment` (positive, neutral or negative) and
        `_urgency` (high or low), each with its probability as `_score`; `_sources`, the labels
        of the sources used as JSON text, and `_context`, their texts; `_score`, the share of
        the draft's words that stand in them; and `_handover` with its `_reason`: the intent's
        probability or the draft's score is below the threshold, no source matches, the draft
        has numbers that neither sources nor message have, or the row failed. Words in common
        are not the truth, and a small model often repeats the message or speaks of itself:
        read a draft before it goes out.

        Args:
            column: the messages.
            sources: what a reply may be made of: texts, or a frame or Series of them, whose labels
                are those of its index (positions in polars and in a list); or label to text.
            intents: what a message may be about, as the labels of `classify`.
            source_column: the column of the texts in a frame of sources with several.
            k: how many sources a message.
            threshold: from 0 to 1; moving it costs no new answers.
            model: a causal model.
            encoder: a sentence encoder or its name, to find sources by meaning too and not by
                words alone.
            instruction: what to ask, below source and message, instead of an answer in one or
                two sentences.
            examples: (message, intent) pairs to show the model; as dicts or a frame, by the
                names "message" and "intent".
            max_new_tokens: where a draft is cut, at the end of a sentence.

        The other arguments and errors are those of `sentiment`.

        Raises:
            FrameError: sources without a text, k below 1, or a threshold that is no probability.
            LabelError: intents that are too few, blank or repeated.

        Example:
            >>> faq = ["Orders can be cancelled within an hour.", ...]  # doctest: +SKIP
            >>> df.llm.reply("message", faq, intents=["order", "refund"])  # doctest: +SKIP
        """
        from nbllm.frame.running.background import start
        from nbllm.frame.verbs.registry import choose_model
        from nbllm.frame.verbs.reply import check_reply, reply_frame

        output = into or f"{column}_reply"
        asked: dict[str, Any] = {
            "intents": intents,
            "source_column": source_column,
            "examples": examples,
        }
        check_reply(self._frame, column, sources, **asked, output=output)
        work = partial(
            reply_frame,
            self._asked(background),
            column,
            sources,
            choose_model("reply", model),
            **asked,
            k=k,
            threshold=threshold,
            encoder=encoder,
            output=output,
            instruction=instruction,
            max_new_tokens=max_new_tokens,
            keep=keep,
            use_ledger=ledger,
            truncate=truncate,
            engine=engine,
            workers=workers,
        )
        return start("reply", output, work, background=background)

    @reads_arguments
    def preview(
        self,
        verb: str,
        subject: str,
        *,
        row: Any = None,
        model: ModelLike | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> Preview | StepsPreview:
        """Show what a verb would give the model for one row: the exact prompt.

        Of `reply`, the prompt of each step; of `search` and `recommend`, what is embedded and
        how it is ranked; of `mask`, what is looked for and what would be masked.

        Args:
            verb: the name of a verb, such as "sentiment".
            subject: the verb's first argument: a column, or a prompt.
            row: label in the index (position in polars); by default the first row.
            options: other arguments of the verb, such as `labels` or `query`.

        Raises:
            FrameError: no such verb or row, or a row without text.

        Example:
            >>> df.llm.preview("classify", "message", labels=["a", "b"])  # doctest: +SKIP
        """
        from nbllm.frame.verb_preview import preview_verb

        subject, options = _read(verb, subject, options)
        return preview_verb(
            self._frame, verb, subject, options, row=row, model=model, truncate=truncate
        )

    @reads_arguments
    def estimate(
        self,
        verb: str,
        subject: str,
        *,
        model: ModelLike | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> RunEstimate | StepsEstimate:
        """Say what a run would take: rows, tokens, time and memory.

        It tries the model on a few of the rows, which takes seconds; nothing is answered. Of
        `reply` it is the account of each step; `mask` and a search by words ask no model.

        Args:
            verb: the name of a verb, such as "sentiment".
            subject: the verb's first argument: a column, or a prompt.
            options: other arguments of the verb, such as `labels` or `query`.

        Example:
            >>> df.llm.estimate("summarize", "article", max_words=25)  # doctest: +SKIP
        """
        from nbllm.frame.verb_estimate import estimate_verb

        subject, options = _read(verb, subject, options)
        return estimate_verb(self._frame, verb, subject, options, model=model, truncate=truncate)

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

    @reads_arguments
    def evaluate(
        self,
        truth: Any,
        *,
        output: str | None = None,
        metrics: Sequence[str] | None = None,
        among: Any = None,
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
                `among` that is true where a row should be taken. For search and recommend not a
                column but the labels of what is relevant, by query or user:
                `{"who won?": [3, 17]}`, or a frame whose first two columns are those.
            output: the column of the answers, where the frame has those of several runs.
            metrics: for texts, instead of the verb's own: of "rouge1", "rouge2", "rougeL",
                "exact", "token_f1", "bleu" and "chrf".
            among: for search, recommend and filter, the frame that rows were taken from.
            history: for recommend, what users liked, as it was given to `recommend`.
            key: for search and recommend, a column that has the labels, instead of the index;
                polars needs one.
            k: for search and recommend, how many of each ranking count; by default as many as
                the longest has.

        Raises:
            ColumnError: no such column.
            FrameError: no row has both, there is no such metric, a truth is of another form, or
                `among` is missing.
            LabelError: `truth` has labels that the verb does not give.
            ProvenanceError: the frame has no answers, or their run is not on record.

        Example:
            >>> found = answered.llm.evaluate("label")  # doctest: +SKIP
            >>> hits.llm.evaluate({"who won?": [3, 17]}, among=articles)  # doctest: +SKIP
            >>> found.rows(truth="positive", answer="negative")  # doctest: +SKIP
        """
        from nbllm.frame.evaluation.base import evaluate

        return evaluate(
            self._frame, truth, output, metrics=metrics, among=among, history=history, key=key, k=k
        )

    @reads_arguments
    def calibrate(self, corrections: Any, *, output: str | None = None) -> Any:
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
            >>> answered.llm.calibrate({3: "positive", 8: "negative", ...})  # doctest: +SKIP
        """
        from nbllm.frame.evaluation.calibration import calibrate

        return calibrate(self._frame, corrections, self._output(output))

    @reads_arguments
    def corrected(self, corrections: Any, *, output: str | None = None) -> Any:
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

        return corrected(self._frame, corrections, self._output(output))

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

    def _ask(
        self,
        verb: str,
        subject: str,
        model: ModelLike | None,
        options: dict[str, Any],
        output: str,
        *,
        background: bool = False,
        finish: Callable[[Any], Any] = lambda answered: answered,
        **run_options: Any,
    ) -> Any:
        from nbllm.frame.call_checks import check_call
        from nbllm.frame.running.background import start
        from nbllm.frame.running.run import answer_frame
        from nbllm.frame.verbs.registry import choose_model, make_task, verb_columns

        added = {name: run_options[name] for name in _ADDED if name in run_options}
        check_call(self._frame, verb, subject, options, output=output, **added)
        model = choose_model(verb, model)
        work = partial(
            answer_frame,
            self._asked(background),
            make_task(verb, subject, model, options),
            model,
            verb_columns(verb, subject, options),
            output=output,
            any_type=verb == "prompt",
            **run_options,
        )
        return start(verb, output, lambda watch: finish(work(watch=watch)), background=background)

    def _asked(self, background: bool) -> Any:
        """The frame as a run reads it, which cells may sort while it goes on beside them."""
        from nbllm.frame.columns import with_rows_of_now

        return with_rows_of_now(self._frame) if background else self._frame

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


# Those that answer rows; the other methods say something of a verb or of its answers.
_VERBS = (
    "answer",
    "classify",
    "embed",
    "extract",
    "filter",
    "mask",
    "prompt",
    "recommend",
    "reply",
    "search",
    "sentiment",
    "similarity",
    "summarize",
    "translate",
)


def _read(verb: str, subject: Any, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The arguments of a verb, as `preview` and `estimate` take them for it.

    Raises:
        FrameError: no such verb, or an argument that it cannot take.
    """
    check_choice("verb", verb, _VERBS, error=FrameError)
    first = "template" if verb == "prompt" else "column"
    parameters = shaping(getattr(FrameAccessor, verb))
    return read_argument(first, subject), read_options(verb, options, parameters)


def register_on_pandas(pandas: Any) -> None:
    """Add `.llm` to pandas DataFrames."""
    # It is there when %reload_ext nbllm runs the package's __init__ again.
    if getattr(pandas.DataFrame, "llm", None) is not FrameAccessor:
        pandas.api.extensions.register_dataframe_accessor("llm")(FrameAccessor)


def register_on_polars(polars: Any) -> None:
    """Add `.llm` to polars DataFrames."""
    if getattr(polars.DataFrame, "llm", None) is not FrameAccessor:
        polars.api.register_dataframe_namespace("llm")(FrameAccessor)
