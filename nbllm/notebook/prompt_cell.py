"""Converts a cell of %%llm to a prompt: fills in variables and applies the chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from nbllm.engine.prompt import Part, Prompt, Template
    from nbllm.models.model import Model

__all__ = ["cell_prompt", "fill_variables"]

_BRACES = "Write a brace itself as {{ or }}."


def fill_variables(text: str, variables: Mapping[str, Any]) -> str:
    """Return a text with the variables in braces replaced by their values.

    Attributes, indices and formats are allowed as in `str.format`, and nothing is evaluated.

    Args:
        text: The cell's text.
        variables: The values of the variables by name.

    Raises:
        UsageError: A brace is not closed, a variable does not exist, or a format is invalid.

    Example:
        >>> fill_variables("{name!r} costs {price:.2f} {{EUR}}", {"name": "soup", "price": 4})
        "'soup' costs 4.00 {EUR}"
    """
    try:
        return "".join(_pieces(text, variables))
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"The prompt's braces cannot be read: {error}. {_BRACES}") from error


def _pieces(text: str, variables: Mapping[str, Any]) -> Iterator[str]:
    formatter = Formatter()
    for literal, name, spec, conversion in formatter.parse(text):
        yield literal
        if name is None:
            continue
        field = "{" + name + "}"
        if not name.strip():
            raise UsageError(f"The prompt has braces that name no variable. {_BRACES}")
        try:
            value, _ = formatter.get_field(name, (), variables)
        except KeyError as error:
            raise UsageError(
                f"The prompt names {field}, and there is no {error.args[0]!r}. Define it in a cell "
                f"above. {_BRACES}"
            ) from error
        except (AttributeError, IndexError, TypeError) as error:
            raise UsageError(
                f"The prompt names {field}, which cannot be had: {error}. {_BRACES}"
            ) from error
        try:
            converted = formatter.convert_field(value, conversion)
            yield format(converted, fill_variables(spec or "", variables))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{field} cannot be formatted so: {error}. {_BRACES}") from error


def cell_prompt(model: Model, text: str, *, system: str | None, room: int) -> Prompt:
    """Return a cell's text as a prompt for the model, with its chat template.

    Special tokens in the text are encoded as plain text, so that none can end its turn.

    Args:
        model: The model that answers.
        text: The user's message.
        system: A system message; it precedes the text if the chat template has no such role.
        room: The number of tokens reserved for the answer.

    Raises:
        TextError: The text cannot be tokenized, or does not fit the model's context.
    """
    from nbllm.engine.prompt import CompiledTemplate

    template = CompiledTemplate(_template(model, text, system), model.tokenizer)
    limit = model.context_length - (room if model.kind == "causal" else 0)
    (prompt,) = template.encode([()], limit=limit)
    if isinstance(prompt, Exception):
        raise prompt
    return prompt


def _template(model: Model, text: str, system: str | None) -> Template:
    from nbllm.engine.prompt import Part, chat, enclosed, plain

    message = Part("text", text)
    before: list[Part] = [Part("text", f"{system}\n\n")] if system else []
    if model.kind != "causal":
        return enclosed(model.tokenizer, [*before, message])
    if model.tokenizer.chat_template is None:
        return plain(model.tokenizer, [*before, message])
    user = ("user", [message])
    if system is None:
        return chat(model.tokenizer, [user])
    from jinja2 import TemplateError

    try:
        return chat(model.tokenizer, [("system", [Part("text", system)]), user])
    except TemplateError:  # raised by templates without the role "system"
        return chat(model.tokenizer, [("user", [*before, message])])
