"""Tasks for user-defined verbs, made from an instruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.engine.prompt import plain
from nbllm.frame.prompts.arguments import check_labels, require
from nbllm.frame.prompts.few_shot import chat_template, label_parts
from nbllm.frame.tasks.label import LabelTask
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["label_task", "text_task"]

# On many subjects, so that their mean score measures a model's bias towards each label.
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
    """Return the task that generates an answer to each text.

    Args:
        model: A causal model, chat or base. A base model requires examples to do well.
        verb: The name of the verb.
        instruction: The instruction for each text, as a sentence.
        examples: The (text, answer) pairs that come first in the prompt.
        max_new_tokens: The maximum number of tokens of an answer.

    Raises:
        UnsupportedModelError: The model is of another kind.
    """
    require(model, verb, "causal")
    if model.tokenizer.chat_template is None:
        parts = label_parts(instruction, examples, text="Text", answer="Answer")
        return TextTask(verb, plain(model.tokenizer, parts), max_new_tokens, stop="\n")
    return TextTask(verb, chat_template(model, f"{instruction}\n\n", examples), max_new_tokens)


def label_task(
    model: Model,
    verb: str,
    instruction: str,
    labels: Sequence[str],
    *,
    examples: Sequence[tuple[str, str]] = (),
    calibration: Sequence[str] = _CALIBRATION,
) -> LabelTask:
    """Return the task that chooses a label for each text by its likelihood.

    Args:
        model: A causal model.
        verb: The name of the verb.
        instruction: The instruction, as a sentence that names the labels.
        labels: Two or more distinct labels.
        examples: The (text, label) pairs that come first in the prompt.
        calibration: Texts whose mean scores measure the model's bias towards each label.

    Raises:
        LabelError: The labels are fewer than two, blank or repeated.
        UnsupportedModelError: The model is of another kind.
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
