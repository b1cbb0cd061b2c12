"""The verb `answer`: answers questions from a given text, or from what the model knows.

The texts and questions of the prompts were written for this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Part, Template, plain
from nbllm.errors import FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.evaluation.request import evaluate_answers
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples, read_triples
from nbllm.frame.prompts.few_shot import chat_template, label_parts
from nbllm.frame.tasks.extractive_qa import ExtractiveQATask
from nbllm.frame.tasks.span import SpanTask
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.models.model import Model

__all__ = ["VERB", "Answer", "Options"]

# The fields of an example, with a text and without.
_TEXT_FIELDS = ("text", "question", "answer")
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

_TEXT_EXAMPLES = (
    (_FERRY, "How long does the crossing take?", "35 minutes"),
    (_BAKERY, "Who opened the bakery?", "Lena Okafor"),
    (_FERRY, "What is the captain called?", _REFUSAL),
    (_BAKERY, "What won the county prize?", "rye bread"),
)

_QUESTION_EXAMPLES = (
    ("What is the capital of France?", "Paris"),
    ("How many legs does a spider have?", "eight"),
    ("Who wrote Romeo and Juliet?", "William Shakespeare"),
)


@dataclass(frozen=True)
class Options:
    """The options of `Answer`."""

    question: str | None = option(
        "The question, if it is the same for all rows; the column then holds the texts.", None
    )
    context_column: str | None = option(
        "The column of the texts to answer from, if the column holds the questions.",
        None,
        was="context",
    )
    threshold: float | None = option(
        "The minimum score of an answer, from 0 to 1; below it, the answer is null. By default, an "
        "answer is null if the text more likely holds none than one.",
        None,
    )
    instruction: str | None = option(
        "The instruction to the model, instead of the built-in one, which requests short answers.",
        None,
    )
    examples: Examples | None = option(
        "(text, question, answer) triples for the prompt, in which an answer may be "
        '"unanswerable"; without texts, (question, answer) pairs. Or dicts or a frame with these '
        "names.",
        None,
    )
    max_new_tokens: int = option("The maximum number of tokens of an answer.", 32)


class Answer(Verb[Options]):
    """Answer questions from a text, or from what the model knows.

    With `question=`, the column holds texts, and the same question is answered for each.
    Without it, the column holds one question per row, and `context_column=` may name a column
    of texts to answer them from.

    Answers from texts have three more columns: `_score`, the probability that the answer is
    right, and `_start` and `_end`, the character offsets of the answer's first occurrence
    in the text, null if it does not occur literally. If the model calls a question
    unanswerable, or the score is below the threshold, the answer is null, without an error.

    Without a threshold, the answer is null if the text more likely holds none: if it does not
    make the question much likelier. How much is fitted once per model and prompt, on texts and
    questions that come with nbllm. `threshold=0` shows all answers, with their
    scores, but those in which the model itself calls the question unanswerable.

    A model for extractive question answering (…ForQuestionAnswering) marks the answer in the
    text, which may have any length. Its score compares the best span with no answer.

    Raises:
        ColumnError: A column is missing or not text, or a new column would overwrite one.
        FrameError: `question` and `context_column` are both given; or an extractive model gets
            an instruction, examples or no text.
        LabelError: An example has another form.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.answer("report", question="Who was hurt?")  # doctest: +SKIP
        >>> df.llm.answer("question", context_column="article")  # doctest: +SKIP
    """

    name = "answer"
    options = Options
    format = 1  # 1: the score is the probability that the answer is right
    subject_doc = "The column of the texts, or of the questions."

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
        has_text = options.question is not None or options.context_column is not None
        return _TEXT_FIELDS if has_text else _QUESTION_FIELDS

    def task(
        self, model: Model, subject: str, options: Options
    ) -> SpanTask | TextTask | ExtractiveQATask:
        question, context = options.question, options.context_column
        instruction, examples = options.instruction, options.examples
        require(model, self.name, "causal", "extractive_qa")
        if model.kind == "extractive_qa":
            return _extractive(model, question, context, instruction, examples, options.threshold)
        if question is None and context is None:
            return _closed_book(model, instruction, examples, options.max_new_tokens)
        instruction = instruction or (
            "Answer each question with words of the text. Where the text does not say, "
            f"write: {_REFUSAL}."
        )
        triples = _TEXT_EXAMPLES if examples is None else read_triples(examples, _TEXT_FIELDS)
        shots = "".join("Text: {}\nQuestion: {}\nAnswer: {}\n\n".format(*each) for each in triples)

        def template(question: Part) -> Template:
            parts = [
                Part("text", f"{instruction}\n\n{shots}Text: "),
                Part("field", _TEXT),
                Part("text", "\nQuestion: "),
                question,
                Part("text", "\nAnswer:"),
            ]
            return plain(model.tokenizer, parts)

        any_question = Part("field", _QUESTION)
        return SpanTask(
            verb=self.name,
            template=template(any_question if question is None else Part("text", question.strip())),
            question_template=template(any_question),
            max_new_tokens=options.max_new_tokens,
            refusal=_REFUSAL,
            stop="\n",
            threshold=options.threshold,
        )

    def quotes(self, record: Mapping[str, Any], answer: str) -> Mapping[str, str]:
        return {self.name: answer} if _TEXT in record["columns"] else {}

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_answers(request, metrics=("exact", "token_f1"), refusals=True)


VERB = Answer()


def _extractive(
    model: Model,
    question: str | None,
    context: str | None,
    instruction: str | None,
    examples: Examples | None,
    threshold: float | None,
) -> ExtractiveQATask:
    """Return the task for an extractive question-answering model."""
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
    question = None if question is None else question.strip()
    return ExtractiveQATask("answer", question, 0.5 if threshold is None else threshold)


def _closed_book(
    model: Model, instruction: str | None, examples: Examples | None, max_new_tokens: int
) -> TextTask:
    """Return the task of answering questions without a text."""
    instruction = instruction or "Answer the question in a few words."
    pairs = None if examples is None else read_examples(examples, _QUESTION_FIELDS)
    if model.tokenizer.chat_template is None:
        shots = _QUESTION_EXAMPLES if pairs is None else pairs
        parts = label_parts(instruction, shots, text="Question", answer="Answer")
        parts = [Part("field", _QUESTION) if part.kind == "field" else part for part in parts]
        return TextTask("answer", plain(model.tokenizer, parts), max_new_tokens, stop="\n")
    template = chat_template(model, f"{instruction}\n\n", pairs or (), field=_QUESTION)
    return TextTask("answer", template, max_new_tokens)
