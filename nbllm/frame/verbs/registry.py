"""The verbs by name: what each asks, and of which columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from nbllm.checks import check_choice
from nbllm.errors import FrameError
from nbllm.frame.checks import read_argument, read_options
from nbllm.frame.prompts.examples import FIELDS, example_fields, examples_of
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.verbs.answer import answer, answer_columns
from nbllm.frame.verbs.classify import classify
from nbllm.frame.verbs.embed import choose_encoder, compared, embed, similarity
from nbllm.frame.verbs.extract import extract
from nbllm.frame.verbs.filter import filter_task
from nbllm.frame.verbs.prompt import prompt, prompt_columns
from nbllm.frame.verbs.sentiment import sentiment
from nbllm.frame.verbs.summarize import summarize
from nbllm.frame.verbs.translate import translate

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model, ModelLike

__all__ = ["ENCODER_VERBS", "choose_model", "make_task", "read_verb", "verb_columns"]

ENCODER_VERBS = frozenset({"embed", "similarity"})

_TASKS: dict[str, Callable[..., Task]] = {
    "embed": embed,
    "similarity": similarity,
    "sentiment": sentiment,
    "classify": classify,
    "filter": filter_task,
    "summarize": summarize,
    "translate": translate,
    "answer": answer,
    "extract": extract,
}


def read_verb(
    verb: str, subject: Any, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """A row verb with its arguments as the user wrote them: subject, options, and its columns.

    Raises:
        FrameError: no such verb, or an argument that it cannot take.
    """
    check_choice("verb", verb, (*_TASKS, "prompt"), error=FrameError)
    parameters = dict(signature(prompt if verb == "prompt" else _TASKS[verb]).parameters)
    for given in ("model", "template"):
        parameters.pop(given, None)
    if verb == "similarity":  # whose other column is no part of the task
        parameters["other"] = parameters["to"].replace(name="other")
    subject = read_argument("template" if verb == "prompt" else "column", subject)
    read = read_options(verb, options, parameters)
    return subject, read, verb_columns(verb, subject, read)


def verb_columns(verb: str, subject: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Field of the task's template to column of the frame.

    Args:
        subject: the verb's first argument: a column, or a prompt.
        options: its other arguments, which may name columns too.

    Raises:
        FrameError: a prompt that names no column.
    """
    if verb == "prompt":
        return {name: name for name in prompt_columns(subject)}
    if verb == "answer":
        return answer_columns(subject, options)
    if verb == "similarity":
        return compared(subject, options.get("other"), options.get("to"))
    return {TEXT: subject}


def _named_by_columns(verb: str, subject: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with examples as tuples, since only here is known what the columns are called."""
    examples = options.get("examples")
    if examples is None or verb not in FIELDS:
        return options
    columns = [] if verb == "prompt" else list(verb_columns(verb, subject, options).values())
    fields = example_fields(verb, options)
    return {**options, "examples": examples_of(examples, fields, columns=columns, verb=verb)}


def choose_model(verb: str, model: ModelLike | None) -> Model:
    """The model that a verb asks: the one given or named, else that of its kind loaded last.

    This may load one: what can be refused without is refused before.
    """
    from nbllm.models.loader import choose

    return choose_encoder(model, verb) if verb in ENCODER_VERBS else choose(model)


def make_task(verb: str, subject: str, model: Model, options: Mapping[str, Any]) -> Task:
    """A verb's task for a model; `options` are the verb's arguments that shape its prompt."""
    options = _named_by_columns(verb, subject, options)
    if verb == "prompt":
        return prompt(model, template=subject, **options)
    if verb == "similarity":  # the other column is among the columns
        options = {"to": options.get("to")}
    return _TASKS[verb](model, **options)
