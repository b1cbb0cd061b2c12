"""Writes nbllm/_verb_methods.py, the verbs as methods with their signatures and docstrings.

    python tools/generate_verb_methods.py

Jupyter's completion and type checkers read source and run nothing, so the methods of `df.llm`
are written out. Everything in them comes from the verbs: their options and their docstrings.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbllm.frame.calls.options import Settings, arguments_of, is_required
from nbllm.frame.calls.registry import built_in, find_verb
from nbllm.frame.calls.verb import Verb

TARGET = Path(__file__).parents[1] / "nbllm" / "_verb_methods.py"

_WIDTH = 98
_HEAD = '''"""The verbs as methods, written by tools/generate_verb_methods.py. Do not edit."""

# fmt: off
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from nbllm.checks import reads
from nbllm.frame import KEEP

if TYPE_CHECKING:
    from nbllm.frame.prompts.examples import Examples
    from nbllm.frame.running.background import Run
    from nbllm.frame.running.estimate import RunEstimate, StepsEstimate
    from nbllm.frame.running.preview import Preview, StepsPreview
    {imports}
    from nbllm.models.model import ModelLike

__all__ = ["SeriesVerbs", "Verbs"]

F = TypeVar("F")

# An argument that there is not is refused with the names of those that there are.
_named = reads()
'''
_KNOWN = {"Any", "Examples", "Literal", "Mapping", "ModelLike", "Sequence"}
_MODELS = {
    "encoder": "a sentence encoder, or its name, such as 'minilm'; by default the one loaded last.",
}


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a method."""

    name: str
    type: str
    default: str | None  # as source; None where it has to be passed
    doc: str

    def declared(self, default: str | None = None, type: str | None = None) -> str:
        value = self.default if default is None else default
        end = "" if self.default is None and default is None else f" = {value}"
        return f"{self.name}: {type or self.type}{end}"


def subject_of(verb: Verb[Any]) -> Argument:
    return Argument(verb.subject, "str", None, verb.subject_doc)


def options_of(verb: Verb[Any]) -> list[Argument]:
    return [
        Argument(name, str(one.type), _source(one), one.metadata["doc"])
        for name, one in arguments_of(verb.options).items()
    ]


def settings_of(verb: Verb[Any]) -> list[Argument]:
    found = []
    for name, one in arguments_of(Settings).items():
        if name not in verb.settings:
            continue
        doc = verb.setting_docs.get(name) or one.metadata["doc"]
        if name == "into" and name not in verb.setting_docs:
            doc = f"name of the new column, instead of `{verb.output('<column>')}`."
        if name == "model" and name not in verb.setting_docs:
            doc = _MODELS.get(verb.kind, doc)
        kind, default = str(one.type), _source(one)
        if name == "keep" and verb.keep != arguments_of(Settings)["keep"].default:
            default = repr(verb.keep)
        if name in verb.required_settings:
            kind, default = kind.removesuffix(" | None"), None
        found.append(Argument(name, kind, default, doc))
    return found


def _source(one: dataclasses.Field[Any]) -> str | None:
    if is_required(one):
        return None
    return "KEEP" if one.name == "keep" else _quoted(one.default)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def signature(
    positional: list[Argument], named: list[Argument], *, background: str | None = None
) -> str:
    """The arguments of a method; of an overload, for one kind of `background`."""
    parts = ["self"]
    is_overload = background is not None
    parts += [one.declared("..." if is_overload and one.default else None) for one in positional]
    parts += ["*"] if named else []
    for one in named:
        if one.name == "background" and is_overload:
            default = " = ..." if background == "False" else ""
            parts.append(f"background: Literal[{background}]{default}")
        else:
            parts.append(one.declared("..." if is_overload and one.default else None))
    return ", ".join(parts)


def docstring(verb: Verb[Any], arguments: list[Argument], indent: str) -> str:
    """The verb's own, with all arguments before what it raises."""
    text = verb.documentation()
    before, raises, after = text.partition("\nRaises:")
    lines = [*before.rstrip().split("\n"), "", "Args:"]
    for one in arguments:
        lines += textwrap.wrap(
            f"{one.name}: {one.doc}",
            _WIDTH - len(indent),
            initial_indent="    ",
            subsequent_indent="        ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    lines += ["", *(raises + after).strip("\n").split("\n")] if raises else []
    return (
        '"""'
        + "\n".join(f"{indent}{line}" if line else "" for line in lines).lstrip()
        + f'\n{indent}"""'
    )


def method(verb: Verb[Any], *, of_series: bool) -> Iterator[str]:
    """The source of one verb."""
    options, settings = options_of(verb), settings_of(verb)
    positional_names = verb.positional()
    positional = [one for one in options if one.name in positional_names]
    if not of_series:
        positional = [subject_of(verb), *positional]
    named = [one for one in options if one.name not in positional_names]
    named += settings
    has_background = any(one.name == "background" for one in named)
    if has_background:
        for value, result in (("False", "F"), ("True", "Run[F]")):
            yield "    @overload"
            given = signature(positional, named, background=value)
            yield f"    def {verb.name}({given}) -> {result}: ..."
        yield "    @overload"
        loose = signature(positional, named).replace("background: bool = False", "background: bool")
        yield f"    def {verb.name}({loose}) -> F | Run[F]: ..."
    result = "F | Run[F]" if has_background else "F"
    yield "    @_named"
    yield f"    def {verb.name}({signature(positional, named)}) -> {result}:"
    yield f"        {docstring(verb, [*positional, *named], ' ' * 8)}"
    subject = "self._subject()" if of_series else verb.subject
    theirs = ", ".join(f'"{one.name}": {one.name}' for one in options)
    ours = ", ".join(f'"{one.name}": {one.name}' for one in settings)
    yield f'        made: {result} = self._call("{verb.name}", {subject}, {{{theirs}}}, {{{ours}}})'
    yield "        return made"
    yield ""


def looks(
    name: str, result: str, extra: list[str], doc: str, verbs: list[Verb[Any]]
) -> Iterator[str]:
    """The source of `preview` or `estimate`, which know the options of each verb."""
    for verb in verbs:
        options = options_of(verb)
        required = [one.declared() for one in options if one.default is None]
        others = [one.declared("...") for one in options if one.default is not None]
        given = [f'verb: Literal["{verb.name}"]', "subject: str", "*", *required, *others, *extra]
        yield "    @overload"
        yield f"    def {name}(self, {', '.join(given)}) -> {result}: ..."
    loose = ["verb: str", "subject: str", "*", *extra, "**options: Any"]
    yield "    @overload"
    yield f"    def {name}(self, {', '.join(loose)}) -> {result}: ..."
    yield f"    def {name}(self, verb: str, subject: str, **options: Any) -> {result}:"
    yield f'        """{doc}"""'
    yield f"        return self._{name}(verb, subject, options)"
    yield ""


_PREVIEW = """Show what a verb would give the model for one row: the exact prompt.

        Of a verb that asks several questions, the prompt of each step; of one that ranks, what
        is embedded and how it is ranked; of one that asks no model, what it would do.

        Args:
            verb: the name of a verb, such as "sentiment".
            subject: the verb's first argument: a column, or a prompt.
            row: label in the index (position in polars); by default the first row.
            model: as the verb takes it.
            truncate: as the verb takes it.
            options: other arguments of the verb, such as `labels` or `query`.

        Raises:
            FrameError: no such verb or row, or a row without text.

        Example:
            >>> df.llm.preview("classify", "message", labels=["a", "b"])  # doctest: +SKIP
        """
_ESTIMATE = """Say what a run would take: rows, tokens, time and memory.

        It tries the model on a few of the rows, which takes seconds; nothing is answered. Of a
        verb that asks several questions it is the account of each step.

        Args:
            verb: the name of a verb, such as "sentiment".
            subject: the verb's first argument: a column, or a prompt.
            model: as the verb takes it.
            truncate: as the verb takes it.
            options: other arguments of the verb, such as `labels` or `query`.

        Example:
            >>> df.llm.estimate("summarize", "article", max_words=25)  # doctest: +SKIP
        """


def source() -> str:
    """The whole file."""
    verbs = [find_verb(name) for name in built_in()]
    imports = sorted(
        {
            f"from {type(verb).__module__} import {name}"
            for verb in verbs
            for one in options_of(verb)
            for name in _names(one.type)
        }
    )
    lines = [_HEAD.format(imports="\n    ".join(imports))]
    of_run = ["model: ModelLike | None = ...", "truncate: bool = ..."]
    for name, of_series in (("Verbs", False), ("SeriesVerbs", True)):
        lines += ["", f"class {name}(Generic[F]):", f'    """{_ABOUT[of_series]}"""', ""]
        if of_series:
            lines += ["    def _subject(self) -> str:", "        raise NotImplementedError", ""]
        lines += [
            "    def _call(self, verb: str, subject: Any, options: dict[str, Any], "
            "settings: dict[str, Any]) -> Any:",
            "        raise NotImplementedError",
            "",
        ]
        if not of_series:
            for look, result in (
                ("preview", "Preview | StepsPreview"),
                ("estimate", "RunEstimate | StepsEstimate"),
            ):
                lines += [
                    f"    def _{look}(self, verb: str, subject: Any, options: dict[str, Any]) "
                    f"-> {result}:",
                    "        raise NotImplementedError",
                    "",
                ]
        for verb in verbs:
            if of_series and verb.subject != "column":
                continue
            lines += method(verb, of_series=of_series)
        if not of_series:
            lines += looks(
                "preview", "Preview | StepsPreview", ["row: Any = ...", *of_run], _PREVIEW, verbs
            )
            lines += looks("estimate", "RunEstimate | StepsEstimate", of_run, _ESTIMATE, verbs)
    return "\n".join(lines).rstrip() + "\n"


_ABOUT = {
    False: "The verbs of `df.llm`; F is the frame's own type.",
    True: "The verbs of `series.llm`; F is the type of a frame of it.",
}


def _names(annotation: str) -> Iterator[str]:
    """What an annotation names that only its own module has."""
    for node in ast.walk(ast.parse(annotation, mode="eval")):
        if isinstance(node, ast.Name) and node.id not in _KNOWN and not hasattr(builtins, node.id):
            yield node.id


def formatted(text: str) -> str:
    """The source as ruff formats it."""
    text = text.replace("# fmt: off\n", "")
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    TARGET.write_text(formatted(source()), encoding="utf-8")
