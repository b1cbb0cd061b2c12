"""What fine-tuning learns: the columns, the labels, and the method that fits the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from nbllm._warnings import warn_user
from nbllm.checks import check_choice, check_number, check_whole, shown
from nbllm.errors import FrameError, LabelError, UnsupportedModelError
from nbllm.frame.calls.registry import find_verb, verb_for_prompts
from nbllm.frame.calls.verb import Call
from nbllm.frame.evaluation.truth import label_text
from nbllm.frame.prompts.arguments import as_list, check_names
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.train.base import Base
from nbllm.train.rows import LearnedRow, label_counts
from nbllm.wording import counted

__all__ = [
    "Job", "Method", "check_numbers", "choose_labels", "choose_method", "read_job", "usual_rate",
]  # fmt: skip

Method = Literal["full", "lora", "qlora"]

# Half stars and the like are classes; more numbers with a fraction than these are a measurement.
_FRACTION = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
_MOST_FRACTIONS = 50

# By method; those of full fine-tuning are for encoders, and a tenth of that for causal models.
_RATES: Mapping[str, float] = {"full": 1e-4, "lora": 5e-4, "qlora": 5e-4}


@dataclass(frozen=True)
class Job:
    """The columns, labels and prompt of a fine-tuning."""

    reads: tuple[str, ...]  # columns
    answer: str
    labels: tuple[str, ...] = ()  # nothing where an answer is a text
    prompt: str = ""  # with columns in braces, where an answer is a text
    verb: str = ""  # that is trained for
    options: Mapping[str, Any] = field(default_factory=dict)  # with which it has these labels

    @property
    def call(self) -> Call[Any]:
        """The call of the verb that the model learns to answer."""
        return find_verb(self.verb).call(self.prompt or TEXT, self.options, {})


def read_job(text: str | None, label: str | None, prompt: str | None, answer: str | None) -> Job:
    """Check the arguments that name columns, and return what is to be learned.

    Args:
        text: The column to read, with `label`.
        label: The column of labels.
        prompt: The column to read, or a prompt with columns in braces, with `answer`.
        answer: The column of texts to generate.

    Raises:
        FrameError: They are not one of the two pairs.
    """
    given = {"text": text, "label": label, "prompt": prompt, "answer": answer}
    names = {name for name, value in given.items() if value is not None}
    for name in sorted(names):
        if not isinstance(given[name], str):
            raise FrameError(
                f"{name}={shown(given[name])} is no name of a column. Pass that, as a string."
            )
    if names == {"text", "label"}:
        assert text is not None and label is not None
        return Job((text,), label)
    if names == {"prompt", "answer"}:
        assert prompt is not None and answer is not None
        template = prompt if "{" in prompt else "{" + prompt + "}"
        verb = verb_for_prompts()
        job = Job((), answer, prompt=template, verb=verb.name)
        return replace(job, reads=tuple(job.call.columns.values()))
    raise FrameError(
        f"finetune requires text= and label=, or prompt= and answer=, and has "
        f"{', '.join(sorted(names)) or 'none of them'}. Pass the names of two columns."
    )


def choose_labels(
    train: Sequence[LearnedRow], held: Sequence[LearnedRow], asked: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the labels in their order, and warn of those that can hardly be learned.

    Args:
        train: The rows to train on.
        held: The rows held out.
        asked: The labels that the user named; None for those of the rows.

    Raises:
        LabelError: There are not two, or rows have others than those named.
    """
    counts = label_counts([*train])
    if len(counts) < 2:
        raise LabelError(
            f"all rows are labelled {next(iter(counts), None)!r}, so there is nothing to tell "
            "apart. Pass rows of two labels or more."
        )
    names = tuple(sorted(counts)) if asked is None else _asked_labels(asked)
    numbers = [name for name in counts if _FRACTION.fullmatch(name)]
    if len(counts) > _MOST_FRACTIONS and len(numbers) > len(counts) / 2:
        raise LabelError(
            f"the labels are {len(counts):,} different numbers, such as {numbers[0]}, and what is "
            "trained chooses among classes. Cut them into a few ranges first, for instance with "
            "pandas.cut."
        )
    unlearned = sorted({row.answer for row in held} - set(counts))
    unknown = sorted(set(counts) - set(names))
    if unknown or unlearned:
        odd = (unknown or unlearned)[0]
        raise LabelError(
            f"some rows are labelled {odd!r}, which is "
            + ("none of labels=." if unknown else "only in the rows that are held out.")
            + " Correct or remove them."
        )
    rare = [name for name in names if counts.get(name, 0) < 2]
    if rare:
        warn_user(
            f"finetune: {len(rare)} of {counted(len(names), 'label has', 'labels have')} a single "
            f"row or none to train on, and will hardly be learned: {', '.join(rare[:5])}"
            f"{', ...' if len(rare) > 5 else ''}."
        )
    return names


def check_numbers(**numbers: float | None) -> None:
    """Raise ArgumentError for arguments, by name, that are out of range."""
    for name, value in numbers.items():
        if value is None and name in _MAY_BE_NONE:
            continue
        if name in _FRACTIONS:
            check_number(name, value)
        else:
            check_whole(name, value, least={"seed": 0, "max_tokens": 2, "context": 8}.get(name, 1))


_FRACTIONS = ("epochs", "minutes", "learning_rate")
_MAY_BE_NONE = ("learning_rate", "max_tokens", "minutes", "patience", "steps")


def choose_method(method: str | None, base: Base, job: Job) -> Method:
    """Return the method that the user named, or the usual one of the model's kind.

    Args:
        method: The user's; None for the usual one.
        base: The model.
        job: What is to be learned.

    Raises:
        UnsupportedModelError: The model's kind cannot be trained so.
    """
    if method is not None:
        check_choice("method", method, get_args(Method))
    kind = base.plan.kind
    if kind == "seq2seq" or (kind != "causal" and not job.labels):
        raise UnsupportedModelError(
            f"{base.name} is of kind {kind}, which finetune cannot train for this: labels require "
            "a causal model, an encoder or a classifier, and answers a causal model."
        )
    if kind != "causal" and method in ("lora", "qlora"):
        raise UnsupportedModelError(
            f"method={method!r} is for causal models, and {base.name} is of kind {kind}, small "
            "enough to train whole. Leave method out."
        )
    if method is not None:
        return method  # type: ignore[return-value]
    return "lora" if kind == "causal" else "full"


def usual_rate(method: Method, base: Base) -> float:
    """Return the usual learning rate of the method and the kind of model."""
    return _RATES[method] / (10 if method == "full" and base.plan.kind == "causal" else 1)


def _asked_labels(asked: Sequence[Any]) -> tuple[str, ...]:
    """The labels that the user named, of any type, as those of rows are read."""
    found = [label_text(label) for label in as_list(asked, "labels")]
    return check_names(found, "labels", "label")
