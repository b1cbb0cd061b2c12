"""The arguments of a verb, as fields of dataclasses: types, defaults, and a sentence for each.

Everything else that lists a verb's arguments is made from these: the methods of `df.llm` with
their signatures and docstrings, the checks of a call, and what `preview` and `estimate` take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nbllm._deprecation import warn_renamed
from nbllm.checks import kept, near
from nbllm.errors import FrameError
from nbllm.frame import KEEP
from nbllm.frame.checks import read_argument

if TYPE_CHECKING:
    from nbllm.models.model import ModelLike

__all__ = ["Settings", "arguments_of", "option", "read_options"]

_O = TypeVar("_O")

_INSTRUCTION = "what to say above the examples."


def option(
    doc: str,
    default: Any = dataclasses.MISSING,
    *,
    positional: bool = False,
    kind: str = "",
    was: str = "",
) -> Any:
    """Return a field of a verb's options.

    Args:
        doc: one sentence or more for the docstring, in lower case, ended by a full stop.
        default: its value where it is not passed; without one it has to be.
        positional: whether it may be passed without its name, behind the subject.
        kind: the argument whose reader checks its value, where its own name has none.
        was: a former name, which is taken for one more release, with a warning.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Options:
        ...     tone: str = option("how it should sound.", "formal")
        >>> Options().tone
        'formal'
    """
    metadata = {"doc": doc, "positional": positional, "kind": kind, "was": was}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """How a verb is run, which is the same for all that ask a model."""

    model: ModelLike | None = option(
        "the model, as `nbllm.load` returned it or by its name, such as 'smollm2'; by default the "
        "one loaded last of a kind that the verb can ask, else `nbllm.load()`.",
        None,
    )
    into: str | None = option("name of the new column, instead of `<column>_<verb>`.", None)
    keep: Sequence[str] = option(
        "which new columns to add, of 'value', 'score', 'error' and 'run'.", KEEP
    )
    ledger: bool = option("whether to look answers up on disk and keep new ones there.", True)
    truncate: bool = option(
        "cut texts that do not fit the context, instead of failing their rows.", False
    )
    background: bool = option(
        "return a Run at once, which works beside the notebook: it shows its progress, can be "
        "cancelled, and has the frame as its `result()`.",
        False,
    )
    engine: Literal["local", "ray"] = option(
        "'local' asks the model itself, 'ray' copies of it on workers.", "local"
    )
    workers: int | None = option(
        "how many copies; by default one a GPU, else one for every four processor cores.", None
    )


def arguments_of(options: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a dataclass of options by their names, in order."""
    return {one.name: one for one in dataclasses.fields(options)}


def read_options(verb: str, options: type[_O], given: Mapping[str, Any]) -> _O:
    """Return a verb's options from its arguments as the user wrote them.

    Args:
        verb: its name, for messages.
        options: the dataclass.
        given: arguments by name.

    Raises:
        FrameError: there is no such argument, it cannot take its value, or one is missing.
    """
    known = arguments_of(options)
    given = _by_present_names(known, given)
    for name in given:
        if name not in known:
            raise FrameError(
                f"{verb} takes no {name}= here. {near(name, known)}"
                f"It takes: {', '.join(known) or 'none'}."
            )
    for name, one in known.items():
        if is_required(one) and name not in given:
            raise FrameError(f"{verb} needs {name}=. Pass it as the verb itself takes it.")
    return options(
        **{
            name: read_argument(
                known[name].metadata.get("kind") or name,
                kept(value),
                optional=known[name].default is None,
            )
            for name, value in given.items()
        }
    )


def _by_present_names(
    known: Mapping[str, dataclasses.Field[Any]], given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return arguments by the names that they have now."""
    for name, one in known.items():
        was = one.metadata.get("was")
        if was and was in given:
            if name in given:
                raise FrameError(f"{was}= and {name}= are one argument. Pass {name}= alone.")
            warn_renamed(f"{was}=", f"{name}=")
            given = {name if each == was else each: value for each, value in given.items()}
    return given


def is_required(one: dataclasses.Field[Any]) -> bool:
    """Return whether an argument has to be passed."""
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
