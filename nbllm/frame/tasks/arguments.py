"""What several verbs take: a model of some kind, labels, solved examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.errors import LabelError, UnsupportedModelError
from nbllm.models.model import CALLED
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.models.model import Kind, Model

__all__ = ["Examples", "check_labels", "read_examples", "require"]

_INSTEAD: dict[Kind, str] = {
    "causal": "Load one that generates text, such as nbllm.load()",
    "seq2seq": "Load one that translates or summarizes",
    "classifier": "Load one that was trained to give your labels",
    "encoder": "Load one that embeds texts, such as nbllm.load('minilm')",
    "reader": "Load one that was trained on SQuAD",
}

# Pairs of (text, answer), or a frame whose first two columns are those.
Examples = Any


def require(model: Model, verb: str, *kinds: Kind) -> None:
    """Refuse a model of another kind than a verb can use.

    Raises:
        UnsupportedModelError: naming what it takes instead.
    """
    if model.kind not in kinds:
        raise UnsupportedModelError(
            f"{verb} asks {' or '.join(CALLED[kind] for kind in kinds)}, and {model.name} is "
            f"{CALLED[model.kind]}. {_INSTEAD[kinds[0]]}, and pass it as model=."
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
        raise LabelError(
            f"{counted(len(stripped), 'label leaves', 'labels leave')} nothing to choose. Pass "
            "two or more."
        )
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
