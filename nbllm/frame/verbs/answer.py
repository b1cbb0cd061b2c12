"""Answers to questions: from a text that is given, or from what the model knows.

The texts and questions shown to the model were written for this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import FrameError
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import QUESTION_FIELDS, Examples, read_examples, read_triples
from nbllm.frame.prompts.few_shot import label_parts
from nbllm.frame.tasks.extractive_qa import ReaderTask
from nbllm.frame.tasks.span import SpanTask
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["answer", "answer_columns"]

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


def answer_columns(subject: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Field of the template to column of the frame.

    Args:
        subject: the column of texts where options hold a question in words, else of questions.

    Raises:
        FrameError: a question in words and a column of texts beside it.
    """
    context = options.get("context")
    if options.get("question") is None:
        return {_QUESTION: subject} if context is None else {_TEXT: context, _QUESTION: subject}
    if context is not None:
        raise FrameError(
            f"answer has a question in words and context={context!r}. With question=, the first "
            "column is the text that is asked about; leave context= out."
        )
    return {_TEXT: subject}


def answer(
    model: Model,
    *,
    question: str | None = None,
    context: str | None = None,
    instruction: str | None = None,
    examples: Examples | None = None,
    max_new_tokens: int = 32,
    threshold: float | None = None,
) -> SpanTask | TextTask | ReaderTask:
    """The task of answering questions.

    Args:
        question: one question for all rows.
        context: the column of texts that hold the answers; any, where there is one.
        instruction: what to ask, instead of short answers.
        examples: (text, question, answer) to show; (question, answer) where there is no text.
        max_new_tokens: where an answer is cut.
        threshold: probability of an answer below which there is none; by default 0, and for a
            reader 0.5, where it finds no answer likelier than one.

    Raises:
        FrameError: what a reader cannot be given: no text, an instruction, examples.
        LabelError: an example of another form.
    """
    require(model, "answer", "causal", "extractive_qa")
    if model.kind == "extractive_qa":
        return _pointed_at(model, question, context, instruction, examples, threshold)
    if question is None and context is None:
        return _known(model, instruction, examples, max_new_tokens)
    asked = instruction or (
        "Answer each question with words of the text. Where the text does not say, "
        f"write: {_REFUSAL}."
    )
    shown = _GROUNDED if examples is None else read_triples(examples)
    solved = "".join(
        f"Text: {text}\nQuestion: {asks}\nAnswer: {answers}\n\n" for text, asks, answers in shown
    )
    parts = [
        Part("text", f"{asked}\n\n{solved}Text: "),
        Part("field", _TEXT),
        Part("text", "\nQuestion: "),
        Part("field", _QUESTION) if question is None else Part("text", question.strip()),
        Part("text", "\nAnswer:"),
    ]
    return SpanTask(
        verb="answer",
        template=plain(model.tokenizer, parts),
        max_new_tokens=max_new_tokens,
        refusal=_REFUSAL,
        text_field=0,
        threshold=threshold or 0.0,
        stop="\n",
    )


def _pointed_at(
    model: Model,
    question: str | None,
    context: str | None,
    instruction: str | None,
    examples: Examples | None,
    threshold: float | None,
) -> ReaderTask:
    """Answers that a model was trained to point at."""
    if question is None and context is None:
        raise FrameError(
            f"{model.name} answers with words of a text, and there is none. Name its column: "
            "context=, or ask a causal model, such as nbllm.load()."
        )
    if instruction is not None or examples is not None:
        raise FrameError(
            f"{model.name} was trained to point at answers and reads neither instruction= nor "
            "examples=. Leave them out, or ask a causal model, such as nbllm.load()."
        )
    asked = None if question is None else question.strip()
    return ReaderTask("answer", asked, 0.5 if threshold is None else threshold)


def _known(
    model: Model, instruction: str | None, examples: Examples | None, max_new_tokens: int
) -> TextTask:
    """Questions to what the model itself knows."""
    asked = instruction or "Answer the question in a few words."
    if model.tokenizer.chat_template is None:
        shown = _KNOWN if examples is None else read_examples(examples, QUESTION_FIELDS)
        parts = label_parts(asked, shown, text="Question", answer="Answer")
        whole = [Part("field", _QUESTION) if part.kind == "field" else part for part in parts]
        return TextTask("answer", plain(model.tokenizer, whole), max_new_tokens, stop="\n")
    turns = []
    for asks, answers in [] if examples is None else read_examples(examples, QUESTION_FIELDS):
        turns.append(("user", [Part("text", f"{asked}\n\n{asks}")]))
        turns.append(("assistant", [Part("text", answers)]))
    turns.append(("user", [Part("text", f"{asked}\n\n"), Part("field", _QUESTION)]))
    return TextTask("answer", chat(model.tokenizer, turns), max_new_tokens)
