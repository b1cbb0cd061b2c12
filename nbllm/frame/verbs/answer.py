"""Answers to questions: from a text that is given, or from what the model knows.

The texts and questions shown to the model were written for this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.evaluation.request import evaluate_answers
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples, read_triples
from nbllm.frame.prompts.few_shot import label_parts
from nbllm.frame.tasks.extractive_qa import ExtractiveQATask
from nbllm.frame.tasks.span import SpanTask
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.models.model import Model

__all__ = ["VERB", "Answer", "Options"]

# Of an example, with a text and without.
_FIELDS = ("text", "question", "answer")
_QUESTION_FIELDS = ("question", "answer")

_TEXT, _QUESTION = "context", "question"  # fields of the template
_REFUSAL = "unanswerable"

_FERRY = (
    "The ferry Aurelia has crossed the sound between Nordby and Hall since 1998. The crossing "
    "takes 35 minutes and costs four euros; children under six travel free. In winter, when the "
    "sound is icy, a bus goes round by the bridge instead."
)
_BAKERY = (
    "Lena Okafor opened her bakery in an old petrol station in Milltown two years ago. Her rye "
    "bread won the county prize in May, and since then people queue from seven in the morning. "
    "She now employs three bakers and an apprentice."
)

_GROUNDED = (
    (_FERRY, "How long does the crossing take?", "35 minutes"),
    (_BAKERY, "Who opened the bakery?", "Lena Okafor"),
    (_FERRY, "What is the captain called?", _REFUSAL),
    (_BAKERY, "What won the county prize?", "rye bread"),
)

_KNOWN = (
    ("What is the capital of France?", "Paris"),
    ("How many legs does a spider have?", "eight"),
    ("Who wrote Romeo and Juliet?", "William Shakespeare"),
)


@dataclass(frozen=True)
class Options:
    """Which question is asked of which text."""

    question: str | None = option("the question, in words.", None)
    context_column: str | None = option("the column of the texts.", None, was="context")
    threshold: float | None = option(
        "from 0 to 1; by default 0, and 0.5 for a model with a head for it, which is the rule of "
        "SQuAD 2.0.",
        None,
    )
    instruction: str | None = option("what to ask, instead of short answers.", None)
    examples: Examples | None = option(
        '(text, question, answer) to show the model, where "unanswerable" is an answer too; '
        "without a text, (question, answer). Dicts or a frame have these names.",
        None,
    )
    max_new_tokens: int = option("where an answer is cut.", 32)


class Answer(Verb[Options]):
    """Answer questions, from a text or from what the model knows.

    With `question=`, the column holds texts, and that one question is asked of each. Else
    it holds questions, one a row, and `context_column=` may name the column of the texts to
    answer them from. From a text come also `_score`, the model's probability that the text
    holds an answer; and `_start` and `_end`, the character offsets in the text where the
    answer first stands, null where it does not stand there word for word. A question that
    the model calls unanswerable, or whose score is below the threshold, has a null as its
    answer and no error.

    A model with a head for it (…ForQuestionAnswering) points at its answer in the text,
    which may have any length; its score compares the best answer with there being none.

    Raises:
        ColumnError: a column is missing or not text, or a new one is in the way.
        FrameError: a question in words and a column of texts beside it; or what a model with
            such a head cannot be given: no text, an instruction, examples.
        LabelError: an example of another form.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> df.llm.answer("report", question="Who was hurt?")  # doctest: +SKIP
        >>> df.llm.answer("question", context_column="article")  # doctest: +SKIP
    """

    name = "answer"
    options = Options
    subject_doc = "the texts, or the questions."

    def columns(self, subject: str, options: Options) -> dict[str, str]:
        context = options.context_column
        if options.question is None:
            return {_QUESTION: subject} if context is None else {_TEXT: context, _QUESTION: subject}
        if context is not None:
            raise FrameError(
                f"answer has a question in words and context_column={context!r}. With question=, "
                "the first column is the text that is asked about; leave context_column= out."
            )
        return {_TEXT: subject}

    def example_fields(self, options: Options) -> Fields:
        grounded = options.question is not None or options.context_column is not None
        return _FIELDS if grounded else _QUESTION_FIELDS

    def task(
        self, model: Model, subject: str, options: Options
    ) -> SpanTask | TextTask | ExtractiveQATask:
        question, context = options.question, options.context_column
        instruction, examples, cut = options.instruction, options.examples, options.max_new_tokens
        require(model, self.name, "causal", "extractive_qa")
        if model.kind == "extractive_qa":
            return _pointed_at(model, question, context, instruction, examples, options.threshold)
        if question is None and context is None:
            return _known(model, instruction, examples, cut)
        asked = instruction or (
            "Answer each question with words of the text. Where the text does not say, "
            f"write: {_REFUSAL}."
        )
        shown = _GROUNDED if examples is None else read_triples(examples, _FIELDS)
        solved = "".join(
            f"Text: {text}\nQuestion: {asks}\nAnswer: {answers}\n\n"
            for text, asks, answers in shown
        )
        parts = [
            Part("text", f"{asked}\n\n{solved}Text: "),
            Part("field", _TEXT),
            Part("text", "\nQuestion: "),
            Part("field", _QUESTION) if question is None else Part("text", question.strip()),
            Part("text", "\nAnswer:"),
        ]
        return SpanTask(
            verb=self.name,
            template=plain(model.tokenizer, parts),
            max_new_tokens=cut,
            refusal=_REFUSAL,
            text_field=0,
            threshold=options.threshold or 0.0,
            stop="\n",
        )

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        return evaluate_answers(judged, metrics=("exact", "token_f1"))


VERB = Answer()


def _pointed_at(
    model: Model,
    question: str | None,
    context: str | None,
    instruction: str | None,
    examples: Examples | None,
    threshold: float | None,
) -> ExtractiveQATask:
    """Answers that a model was trained to point at."""
    if question is None and context is None:
        raise FrameError(
            f"{model.name} answers with words of a text, and there is none. Name its column: "
            "context_column=, or ask a causal model, such as nbllm.load()."
        )
    if instruction is not None or examples is not None:
        raise FrameError(
            f"{model.name} was trained to point at answers and reads neither instruction= nor "
            "examples=. Leave them out, or ask a causal model, such as nbllm.load()."
        )
    asked = None if question is None else question.strip()
    return ExtractiveQATask("answer", asked, 0.5 if threshold is None else threshold)


def _known(
    model: Model, instruction: str | None, examples: Examples | None, max_new_tokens: int
) -> TextTask:
    """Questions to what the model itself knows."""
    asked = instruction or "Answer the question in a few words."
    if model.tokenizer.chat_template is None:
        shown = _KNOWN if examples is None else read_examples(examples, _QUESTION_FIELDS)
        parts = label_parts(asked, shown, text="Question", answer="Answer")
        whole = [Part("field", _QUESTION) if part.kind == "field" else part for part in parts]
        return TextTask("answer", plain(model.tokenizer, whole), max_new_tokens, stop="\n")
    turns = []
    for asks, answers in [] if examples is None else read_examples(examples, _QUESTION_FIELDS):
        turns.append(("user", [Part("text", f"{asked}\n\n{asks}")]))
        turns.append(("assistant", [Part("text", answers)]))
    turns.append(("user", [Part("text", f"{asked}\n\n"), Part("field", _QUESTION)]))
    return TextTask("answer", chat(model.tokenizer, turns), max_new_tokens)
