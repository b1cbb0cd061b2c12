"""Tasks from an instruction alone, for verbs that a user writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat, plain
from nbllm.frame.prompts.arguments import check_labels, require
from nbllm.frame.prompts.few_shot import TEXT, label_parts
from nbllm.frame.tasks.label import LabelTask
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["label_task", "text_task"]

# On many subjects, so that their mean tells what a model prefers whatever it reads.
_CALIBRATION = (
    "Where is my parcel?",
    "City council approves new tram line",
    "The soup was excellent, but we waited almost an hour for it.",
    "My card was charged twice for the same order.",
    "Meeting moved to 14:30, room B.",
    "She closed the window, put on her coat, and went out without saying a word.",
    "Please send me the invoice for March as a PDF.",
    "Love this song!",
)


def text_task(
    model: Model,
    verb: str,
    instruction: str,
    *,
    examples: Sequence[tuple[str, str]] = (),
    max_new_tokens: int = 64,
) -> TextTask:
    """Return the task of writing an answer to each text.

    Args:
        model: a causal model, chat or base; a base one needs examples to do well.
        verb: the name of the verb.
        instruction: what to do with the text, as a sentence.
        examples: (text, answer) pairs to show first.
        max_new_tokens: where an answer is cut.

    Raises:
        UnsupportedModelError: the model is of another kind.
    """
    require(model, verb, "causal")
    if model.tokenizer.chat_template is None:
        parts = label_parts(instruction, examples, text="Text", answer="Answer")
        return TextTask(verb, plain(model.tokenizer, parts), max_new_tokens, stop="\n")
    turns = []
    for text, answer in examples:
        turns.append(("user", [Part("text", f"{instruction}\n\n{text}")]))
        turns.append(("assistant", [Part("text", answer)]))
    turns.append(("user", [Part("text", f"{instruction}\n\n"), Part("field", TEXT)]))
    return TextTask(verb, chat(model.tokenizer, turns), max_new_tokens)


def label_task(
    model: Model,
    verb: str,
    instruction: str,
    labels: Sequence[str],
    *,
    examples: Sequence[tuple[str, str]] = (),
    calibration: Sequence[str] = _CALIBRATION,
) -> LabelTask:
    """Return the task of choosing a label for each text, by its likelihood.

    Args:
        model: a causal model.
        verb: the name of the verb.
        instruction: what is asked, as a sentence that names the labels.
        labels: two or more different ones.
        examples: (text, label) pairs to show first.
        calibration: texts whose mean scores tell what the model prefers whatever it reads.

    Raises:
        LabelError: labels that are too few, blank or repeated.
        UnsupportedModelError: the model is of another kind.
    """
    require(model, verb, "causal")
    names = check_labels(labels)
    return LabelTask(
        verb=verb,
        template=plain(
            model.tokenizer, label_parts(instruction, examples, text="Text", answer="Label")
        ),
        labels=names,
        answers=tuple(f" {name}" for name in names),
        calibration=tuple(calibration),
    )
