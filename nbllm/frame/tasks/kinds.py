"""The two kinds of task: choose a label, or write a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.prompt import Template
from nbllm.errors import LabelError, UnsupportedModelError

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = [
    "Examples",
    "LabelTask",
    "Task",
    "TextTask",
    "check_labels",
    "read_examples",
    "require_causal",
]

# Pairs of (text, answer), or a frame whose first two columns are those.
Examples = Any


@dataclass(frozen=True)
class LabelTask:
    """Choose one of a set of labels by its likelihood after the prompt."""

    verb: str
    template: Template
    labels: tuple[str, ...]
    answers: tuple[str, ...]  # each label as the text that would continue the prompt
    calibration: tuple[str, ...]  # unlabelled texts on which the offset is fitted

    def parameters(self) -> dict[str, Any]:
        """All that decides the answer, apart from model, prompt and row."""
        # The offset is fitted on the texts; a digest keeps them out of every row's record.
        texts = sha256("\0".join(self.calibration).encode()).hexdigest()
        return {"labels": self.labels, "answers": self.answers, "calibration": texts}


@dataclass(frozen=True)
class TextTask:
    """Write a text after the prompt."""

    verb: str
    template: Template
    max_new_tokens: int
    stop: str | None = None  # a string that ends the text
    whole_sentences: bool = False  # drop a last sentence that the model did not finish

    def parameters(self) -> dict[str, Any]:
        """All that decides the answer, apart from model, prompt and row."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "stop": self.stop,
            "whole_sentences": self.whole_sentences,
        }


Task = LabelTask | TextTask


def require_causal(model: Model, verb: str) -> None:
    """Refuse a model that cannot continue a prompt.

    Raises:
        UnsupportedModelError: the model is a classifier or an encoder.
    """
    if model.kind != "causal":
        raise UnsupportedModelError(
            f"{verb} asks a causal language model, and {model.name} is a {model.kind}. "
            "Load one that generates text, such as nbllm.load(), and pass it as model=."
        )


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels as a tuple of stripped strings.

    Raises:
        LabelError: fewer than two, blank, repeated, or not strings.
    """
    if isinstance(labels, str):
        raise LabelError(
            f"labels is one string, {labels!r}. Pass a list: labels=[{labels!r}, ...]."
        )
    found = list(labels)
    odd = [label for label in found if not isinstance(label, str)]
    if odd:
        raise LabelError(f"labels must be strings, and {odd[0]!r} is not. Pass str(label).")
    stripped = [label.strip() for label in found]
    if len(stripped) < 2:
        raise LabelError(f"{len(stripped)} labels leave nothing to choose. Pass two or more.")
    if "" in stripped:
        raise LabelError(f"label {stripped.index('')} of {found!r} is empty. Remove or name it.")
    repeated = sorted({label for label in stripped if stripped.count(label) > 1})
    if repeated:
        raise LabelError(f"repeated labels: {', '.join(repeated)}. Name each once.")
    return tuple(stripped)


def read_examples(examples: Examples, labels: Sequence[str] | None) -> list[tuple[str, str]]:
    """Examples as (text, answer) pairs, from pairs or from a frame's first two columns.

    Raises:
        LabelError: an example that is not a pair of strings, or whose answer is no label.
    """
    if nw.dependencies.is_into_dataframe(examples):
        examples = nw.from_native(examples, eager_only=True).rows()
    pairs = []
    for example in examples:
        pair = tuple(example)
        if len(pair) < 2 or not all(isinstance(value, str) for value in pair[:2]):
            raise LabelError(
                f"the example {example!r} is not a (text, answer) pair of strings. Pass pairs, "
                "or a frame whose first two columns are text and answer."
            )
        text, answer = pair[:2]
        if labels is not None and answer not in labels:
            raise LabelError(
                f"the example {text[:40]!r} is labelled {answer!r}, which is none of "
                f"{', '.join(labels)}. Correct it, or add the label."
            )
        pairs.append((text, answer))
    return pairs
