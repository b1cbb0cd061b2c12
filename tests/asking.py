"""The task that a verb sets a model, for tests that look at it without a frame."""

from functools import partial
from typing import Any

from nbllm.frame.calls.registry import find_verb
from nbllm.frame.running.execute import Question
from nbllm.frame.tasks.base import Task
from nbllm.models.model import Model


def task_of(verb: str, model: Model, subject: str = "text", **options: Any) -> Any:
    """The task of a call with these options."""
    return find_verb(verb).call(subject, options, {}).task(model)


def prompt(model: Model, *, template: str, **options: Any) -> Task:
    """The task of a prompt."""
    return task_of("prompt", model, template, **options)


def question(task: Task, model: Model, columns: dict[str, str], output: str) -> Question:
    """A question as `answer_frame` takes it."""
    return Question(task, model, columns, output)


sentiment = partial(task_of, "sentiment")
extract = partial(task_of, "extract")
summarize = partial(task_of, "summarize")
translate = partial(task_of, "translate")
