"""Makes the method of a registered verb, with a signature for completion and `help`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from nbllm._deprecation import deprecated_argument
from nbllm.frame.calls.options import Settings, arguments_of

if TYPE_CHECKING:
    from nbllm.frame.calls.verb import Verb

__all__ = ["method_of"]


def method_of(
    verb: Verb[Any], run: Callable[[str, Any, dict[str, Any], dict[str, Any]], Any]
) -> Callable[..., Any]:
    """Return a function with a verb's arguments as its signature.

    Args:
        verb: The verb.
        run: The function to call with the verb's name, subject, options and settings.
    """
    first, *others = verb.positional()
    known = {**arguments_of(verb.options), **arguments_of(Settings)}

    def parameter(name: str) -> Parameter:
        default = getattr(known.get(name), "default", MISSING)
        is_positional = name in (first, *others)
        kind = Parameter.POSITIONAL_OR_KEYWORD if is_positional else Parameter.KEYWORD_ONLY
        return Parameter(name, kind, default=Parameter.empty if default is MISSING else default)

    named = [name for name in arguments_of(verb.options) if name not in others]
    named += [name for name in verb.settings if name not in (*others, *named)]
    signature = Signature([parameter(name) for name in (first, *others, *named)])

    def call(*arguments: Any, **given: Any) -> Any:
        bound = signature.bind(*arguments, **given).arguments
        subject = bound.pop(first)
        settings = {name: bound.pop(name) for name in verb.settings if name in bound}
        return run(verb.name, subject, bound, settings)

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__name__ = call.__qualname__ = verb.name
    call.__doc__ = verb.documentation()
    for name, argument in arguments_of(verb.options).items():
        if was := argument.metadata.get("was"):
            call = deprecated_argument(was, name)(call)
    return call
