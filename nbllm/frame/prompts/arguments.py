"""What several verbs take: a model of some kind, labels and other lists of strings."""

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

__all__ = ["check_labels", "check_names", "listed", "require"]

_INSTEAD: dict[Kind, str] = {
    "causal": "Load one that generates text, such as nbllm.load()",
    "seq2seq": "Load one that translates or summarizes",
    "classifier": "Load one that was trained to give your labels",
    "encoder": "Load one that embeds texts, such as nbllm.load('minilm')",
    "extractive_qa": "Load one that was trained on SQuAD",
}


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


def listed(values: Any, name: str) -> list[Any]:
    """Return the values of an argument that takes several, in their order.

    A set is refused: Python orders its strings anew in each process, and the order of labels or
    queries is part of what is asked.

    Args:
        name: of the argument.

    Raises:
        LabelError: it is one string, a set, a mapping, or cannot be listed.
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


def check_names(values: Any, name: str, one: str) -> tuple[str, ...]:
    """Return different strings that have words in them, stripped, in their order.

    Args:
        name: of the argument, such as "aspects".
        one: of its values, such as "aspect".

    Raises:
        LabelError: a set or no list; or a value that is missing, blank, repeated, or no string.
    """
    found = listed(values, name)
    for place, value in enumerate(found):
        if isinstance(value, str):
            if is_blank(value):
                raise LabelError(
                    f"{one} {place} of {found!r:.200} is empty. Remove or name it, in {name}=."
                )
        elif is_missing(value):
            raise LabelError(
                f"{one} {place} of {name}= is missing ({value!r}). Leave it out, for instance with "
                ".dropna() in pandas."
            )
        else:
            raise LabelError(f"{name} must be strings, and {value!r} is not. Pass str({one}).")
    stripped = [str(value.strip()) for value in found]
    repeated = sorted({value for value in stripped if stripped.count(value) > 1})
    if repeated:
        raise LabelError(f"repeated {name}: {', '.join(repeated)}. Name each once.")
    return tuple(stripped)


def check_labels(
    labels: Sequence[str], name: str = "labels", one: str = "label"
) -> tuple[str, ...]:
    """Return labels as a tuple of stripped strings, in their order.

    Raises:
        LabelError: a set, fewer than two, missing, blank, repeated, or not strings.
    """
    names = check_names(labels, name, one)
    if len(names) < 2:
        raise LabelError(
            f"{counted(len(names), f'{one} leaves', f'{name} leave')} nothing to choose. Pass two "
            f"or more as {name}=."
        )
    return names
