"""The arguments of a verb as fields of dataclasses, with types, defaults and documentation.

They are the source of the methods of `df.llm` with their signatures and docstrings, of the checks
of a call, and of the arguments of `preview` and `estimate`.
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
        doc: The sentences for the docstring, with a capital letter and a full stop.
        default: The default value; an argument without one is required.
        positional: Whether it may be passed by position, after the subject.
        kind: The argument whose checks apply, if this one's name has none in `nbllm.frame.checks`.
        was: A former name, accepted for one more release with a warning.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Options:
        ...     tone: str = option("The tone of the new text.", "formal")
        >>> Options().tone
        'formal'
    """
    metadata = {"doc": doc, "positional": positional, "kind": kind, "was": was}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The arguments that all verbs share: the model, and how a run is executed."""

    model: ModelLike | None = option(
        "The model, as `nbllm.load` returned it, or its name, such as 'smollm2'. By default the "
        "model loaded last that the verb supports, else `nbllm.load()`.",
        None,
    )
    into: str | None = option("The name of the new column, instead of `<column>_<verb>`.", None)
    keep: Sequence[str] = option(
        "The new columns to add, of 'value', 'score', 'error' and 'run'.", KEEP
    )
    ledger: bool = option(
        "Whether to reuse answers from the ledger on disk and to store new ones there.", True
    )
    truncate: bool = option(
        "Whether to cut texts that do not fit the context, instead of failing their rows.",
        False,
    )
    background: bool = option(
        "Whether to return a `Run` at once, which continues while you use the notebook, shows its "
        "progress, can be cancelled, and returns the frame from `result()`.",
        False,
    )
    engine: Literal["local", "ray"] = option(
        "'local' runs the model in this process, 'ray' runs copies of it on workers.", "local"
    )
    workers: int | None = option(
        "The number of copies; by default one per GPU, or one per four CPU cores without a GPU.",
        None,
    )


def arguments_of(options: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a dataclass of options by name, in order."""
    return {each.name: each for each in dataclasses.fields(options)}


def read_options(verb: str, options: type[_O], given: Mapping[str, Any]) -> _O:
    """Return a verb's options from the arguments as the user passed them.

    Args:
        verb: The name of the verb, for error messages.
        options: The dataclass of the options.
        given: The arguments by name.

    Raises:
        FrameError: An argument is unknown or missing, or its value is invalid.
    """
    known = arguments_of(options)
    given = _rename_former(known, given)
    for name in given:
        if name not in known:
            raise FrameError(
                f"{verb} takes no {name}= here. {near(name, known)}"
                f"It takes: {', '.join(known) or 'none'}."
            )
    for name, argument in known.items():
        if is_required(argument) and name not in given:
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


def _rename_former(
    known: Mapping[str, dataclasses.Field[Any]], given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments with former names replaced by the present ones."""
    for name, argument in known.items():
        was = argument.metadata.get("was")
        if was and was in given:
            if name in given:
                raise FrameError(f"{was}= and {name}= are one argument. Pass {name}= alone.")
            warn_renamed(f"{was}=", f"{name}=")
            given = {name if each == was else each: value for each, value in given.items()}
    return given


def is_required(argument: dataclasses.Field[Any]) -> bool:
    """Return whether an argument has no default."""
    missing = dataclasses.MISSING
    return argument.default is missing and argument.default_factory is missing
