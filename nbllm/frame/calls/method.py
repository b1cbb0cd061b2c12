"""A registered verb as a method, with a signature that completion and help can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field
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
    """Return a function that takes a verb's arguments.

    Args:
        run: called with the verb's name, its subject, its options and its settings.
    """
    first, *others = verb.positional()
    known = {**arguments_of(verb.options), **arguments_of(Settings)}

    def parameter(name: str) -> Parameter:
        one: Field[Any] | None = known.get(name)
        default = Parameter.empty if one is None or one.default is MISSING else one.default
        is_positional = name in (first, *others)
        kind = Parameter.POSITIONAL_OR_KEYWORD if is_positional else Parameter.KEYWORD_ONLY
        return Parameter(name, kind, default=default)

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
    for name, one in arguments_of(verb.options).items():
        if was := one.metadata.get("was"):
            call = deprecated_argument(was, name)(call)
    return call
