"""Validation of arguments that several verbs share: the kind of model, labels, lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.blank import is_blank
from nbllm.errors import LabelError, UnsupportedModelError
from nbllm.frame.columns import is_missing
from nbllm.models.kind import CALLED
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["as_list", "check_labels", "check_names", "require"]

_ALTERNATIVES: dict[Kind, str] = {
    "causal": "Load one that generates text, such as nbllm.load()",
    "seq2seq": "Load one that translates or summarizes",
    "classifier": "Load one that was trained to give your labels",
    "encoder": "Load one that embeds texts, such as nbllm.load('minilm')",
    "extractive_qa": "Load one that was trained on SQuAD",
}


def require(model: Model, verb: str, *kinds: Kind) -> None:
    """Raise an error if a verb does not support the kind of a model.

    Args:
        model: The model passed to the verb.
        verb: The name of the verb, for the error message.
        *kinds: The supported kinds.

    Raises:
        UnsupportedModelError: The model is of another kind.
    """
    if model.kind not in kinds:
        raise UnsupportedModelError(
            f"{verb} asks {' or '.join(CALLED[kind] for kind in kinds)}, and {model.name} is "
            f"{CALLED[model.kind]}. {_ALTERNATIVES[kinds[0]]}, and pass it as model=."
        )


def as_list(values: Any, name: str) -> list[Any]:
    """Return the values of an argument as a list, in order.

    Sets are rejected: the order of labels or queries is part of the prompt, and Python orders the
    strings of a set differently in each process.

    Args:
        values: The argument.
        name: The name of the argument, for error messages.

    Raises:
        LabelError: The argument is one string, a set, a mapping, or not iterable.
    """
    if isinstance(values, str):
        raise LabelError(
            f"{name} is one string, {values!r}. Pass a list: {name}=[{values!r}, ...]."
        )
    if isinstance(values, set | frozenset):
        raise LabelError(
            f"{name} is a set, which has another order in each session, and the order is part of "
            f"what is asked. Pass a list, for instance {name}=sorted(...)."
        )
    if isinstance(values, Mapping):
        raise LabelError(
            f"{name} is a mapping, and what it says of each would be lost. Pass a list: "
            f"{name}={list(values)!r:.80}."
        )
    if not isinstance(values, Iterable) or isinstance(values, bytes):
        raise LabelError(f"{name}={values!r:.80} is not a list. Pass a list: {name}=[...].")
    return list(values)


def check_names(values: Any, name: str, singular: str) -> tuple[str, ...]:
    """Return distinct strings, stripped, in order.

    Args:
        values: The argument.
        name: The name of the argument, such as "aspects", for error messages.
        singular: The name of one value, such as "aspect".

    Raises:
        LabelError: The argument is not an ordered list, or a value is missing, blank, repeated, or
            not a string.
    """
    found = as_list(values, name)
    for position, value in enumerate(found):
        if isinstance(value, str):
            if is_blank(value):
                raise LabelError(
                    f"{singular} {position} of {found!r:.200} is empty. Remove or name it, in "
                    f"{name}=."
                )
        elif is_missing(value):
            raise LabelError(
                f"{singular} {position} of {name}= is missing ({value!r}). Leave it out, for "
                "instance with .dropna() in pandas."
            )
        else:
            raise LabelError(f"{name} must be strings, and {value!r} is not. Pass str({singular}).")
    stripped = [str(value.strip()) for value in found]
    repeated = sorted({value for value in stripped if stripped.count(value) > 1})
    if repeated:
        raise LabelError(f"repeated {name}: {', '.join(repeated)}. Name each once.")
    return tuple(stripped)


def check_labels(
    labels: Sequence[str], name: str = "labels", singular: str = "label"
) -> tuple[str, ...]:
    """Return two or more distinct labels, stripped, in order.

    Args:
        labels: The argument.
        name: The name of the argument, for error messages.
        singular: The name of one value.

    Raises:
        LabelError: There are fewer than two, or `check_names` rejects them.
    """
    names = check_names(labels, name, singular)
    if len(names) < 2:
        raise LabelError(
            f"{counted(len(names), f'{singular} leaves', f'{name} leave')} nothing to choose. Pass "
            f"two or more as {name}=."
        )
    return names
