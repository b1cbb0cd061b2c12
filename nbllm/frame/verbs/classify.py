"""The verb `classify`: chooses a label for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbllm.blank import is_blank
from nbllm.engine.prompt import plain
from nbllm.errors import LabelError, UnsupportedModelError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.prompts.arguments import check_labels, require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import label_parts
from nbllm.frame.prompts.head import head_labels, refuse_prompt
from nbllm.frame.tasks.base import Task
from nbllm.frame.tasks.label import HeadTask, LabelTask
from nbllm.frame.tasks.multilabel import MultiLabelHeadTask, MultiLabelTask
from nbllm.frame.tasks.zero_shot import ZeroShotTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["VERB", "Classify", "Options", "choose_label"]

_EXAMPLE_FIELDS = ("text", "label")

# Texts on many subjects: the mean of their scores measures the model's bias towards each label.
_CALIBRATION = (
    "Where is my parcel?",
    "City council approves new tram line",
    "Remember to water the plants on Friday.",
    (
        "The river rose by half a metre overnight, and two roads in the valley were closed "
        "to traffic in the morning."
    ),
    ("How do I change the email address of my account? The settings page only shows my old one."),
    (
        "Quarterly sales rose four per cent, helped by strong demand for heat pumps, while "
        "profits stayed level."
    ),
    "The soup was excellent, but we waited almost an hour for it.",
    "Goalkeeper signs new contract",
    (
        "I would like to return a pair of shoes that I bought last week. They are one size "
        "too small. What do I have to do?"
    ),
    "Researchers have found a way to recycle wind turbine blades into material for bridges.",
    "Meeting moved to 14:30, room B.",
    "What is the capital of Mongolia?",
    "She closed the window, put on her coat, and went out without saying a word.",
    "My card was charged twice for the same order.",
    (
        "Rain in the north, sunny spells in the south, with a light wind from the west and "
        "highs of nineteen degrees."
    ),
    "The museum is free on the first Sunday of every month.",
    "Please send me the invoice for March as a PDF.",
    (
        "After four sets and more than three hours, the young qualifier won her first match "
        "on centre court."
    ),
    (
        "Mix the flour with the yeast and a pinch of salt, add lukewarm water, and let the "
        "dough rest for two hours."
    ),
    "Patient reports mild headache since Tuesday, no fever, sleeps well.",
    (
        "Parliament will vote next week on a bill that would give tenants more time to "
        "object to a rise in rent."
    ),
    "Love this song!",
    ("The update fixes a fault that kept some phones from connecting to older wireless networks."),
    "Could you tell me whether the hotel has parking, and how much it costs a night?",
)


@dataclass(frozen=True)
class Options:
    """The options of `Classify`."""

    labels: Sequence[str] | Mapping[str, str] | None = option(
        "Two or more different strings in a list, since their order is part of the prompt; "
        "descriptive words work best. A mapping adds a description to each: "
        '`{"refund": "wants money back", ...}`. For a classifier, some of its own labels; by '
        "default all.",
        None,
        positional=True,
    )
    multi: bool = option(
        "Whether a text may have several labels. Each label is then decided on its own, yes or no, "
        "and the answer lists the labels with a probability of 0.5 or more, as JSON text "
        """('["refund"]'), which pandas, polars and Parquet store alike. Each label has a column """
        "of its probability, and there is no score. For causal models and multi-label classifiers.",
        False,
    )
    instruction: str | None = option(
        "The beginning of the prompt, instead of a sentence that lists the labels.", None
    )
    examples: Examples | None = option(
        "(text, label) pairs for the prompt: a list, a mapping of text to label, or dicts or a "
        'frame with the names "text" (or the column\'s) and "label". With `multi`, a text may '
        "occur in several pairs.",
        None,
    )
    probabilities: bool = option("Whether to add a column per label with its probability.", False)


class Classify(Verb[Options]):
    """Choose one of your labels for each text, with its probability.

    The probabilities of a causal model are calibrated. A classifier chooses among the labels
    it was trained on. A sentence encoder chooses the label or description whose vector is
    nearest to the text's; its score, the softmax of the cosines divided by 0.05, is suited to
    rank answers, but not calibrated.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        LabelError: Labels are missing, too few, blank, repeated, or unknown to the classifier.
        UnsupportedModelError: The model is of another kind, or gives a text one label only.

    Example:
        >>> df.llm.classify("message", labels=["billing", "delivery"])  # doctest: +SKIP
    """

    name = "classify"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def gives_probabilities(self, options: Options) -> bool:
        return options.probabilities or options.multi

    def can_check(self, options: Options) -> bool:
        return options.labels is not None  # only a classifier has labels of its own

    def task(self, model: Model, subject: str, options: Options) -> Task:
        return choose_label(
            model,
            labels=options.labels,
            multi=options.multi,
            instruction=options.instruction,
            examples=options.examples,
        )


VERB = Classify()


def choose_label(
    model: Model,
    *,
    labels: Sequence[str] | Mapping[str, str] | None = None,
    multi: bool = False,
    instruction: str | None = None,
    examples: Examples | None = None,
) -> Task:
    """Return the task that chooses a label for each text.

    Args:
        model: A causal model, a classifier or a sentence encoder.
        labels: As `Options.labels`; None for all labels of a classifier.
        multi: As `Options.multi`.
        instruction: As `Options.instruction`.
        examples: As `Options.examples`.

    Raises:
        LabelError: Labels are missing, too few, blank, repeated, or unknown to the classifier.
        UnsupportedModelError: The model is of another kind, or gives a text one label only.
    """
    require(model, "classify", "causal", "classifier", "encoder")
    if model.kind == "classifier":
        refuse_prompt(model, instruction=instruction, examples=examples)
        return _classifier_task(model, labels, multi)
    if labels is None:
        raise LabelError(
            f"{model.name} has no labels of its own. Pass those to choose among: labels=[...]."
        )
    names = check_labels(list(labels) if isinstance(labels, Mapping) else labels)
    described = _described(names, labels)
    if model.kind == "encoder":
        refuse_prompt(model, instruction=instruction, examples=examples)
        if multi:
            raise UnsupportedModelError(
                f"multi=True asks for a yes or no to each label, and {model.name} only says which "
                "is nearest. Pass a causal language model."
            )
        return ZeroShotTask(verb="classify", labels=names, descriptions=tuple(described.values()))
    pairs = [] if examples is None else read_examples(examples, _EXAMPLE_FIELDS, names)
    if multi:
        questions = (_yes_or_no(model, name, described[name], instruction, pairs) for name in names)
        return MultiLabelTask(verb="classify", labels=names, questions=tuple(questions))
    return LabelTask(
        verb="classify",
        template=plain(
            model.tokenizer,
            label_parts(instruction or _instruction(described), pairs, text="Text", answer="Label"),
        ),
        labels=names,
        answers=tuple(f" {name}" for name in names),
        calibration=_CALIBRATION,
    )


def _described(names: Sequence[str], labels: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return the description of each label, which is the label itself by default."""
    if not isinstance(labels, Mapping):
        return dict(zip(names, names, strict=True))
    described = dict(zip(names, labels.values(), strict=True))
    for name, text in described.items():
        if not isinstance(text, str) or is_blank(text):
            raise LabelError(
                f"the label {name!r} is described by {text!r}, which is no text. Describe it in "
                "some words, or pass a list of labels."
            )
    return described


def _instruction(described: Mapping[str, str]) -> str:
    if all(name == text for name, text in described.items()):
        return f"Classify each text as one of: {', '.join(described)}."
    lines = "".join(f"\n- {name}: {text}" for name, text in described.items())
    return f"Classify each text as one of:{lines}"


def _yes_or_no(
    model: Model,
    name: str,
    description: str,
    instruction: str | None,
    examples: Sequence[tuple[str, str]],
) -> LabelTask:
    """Return the task that decides whether a text has a label."""
    about = name if description == name else f"{name} ({description})"
    question = f"Is each text about {about}? Answer yes or no."
    labelled = {text for text, label in examples if label == name}
    pairs = [(text, "yes" if text in labelled else "no") for text in dict(examples)]
    head = f"{instruction}\n{question}" if instruction else question
    return LabelTask(
        verb="classify",
        template=plain(model.tokenizer, label_parts(head, pairs, text="Text", answer="Answer")),
        labels=("yes", "no"),
        answers=(" yes", " no"),
        calibration=_CALIBRATION,
    )


def _classifier_task(
    model: Model, labels: Sequence[str] | Mapping[str, str] | None, multi: bool
) -> HeadTask | MultiLabelHeadTask:
    own = head_labels(model)
    if isinstance(labels, Mapping):
        raise LabelError(
            f"{model.name} is a classifier, which knows its labels by what it was trained on and "
            "reads no descriptions. Pass a list of labels, or none for all."
        )
    names = check_labels(own if labels is None else labels)
    unknown = [name for name in names if name not in own]
    if unknown:
        raise LabelError(
            f"{model.name} was not trained to give {', '.join(map(repr, unknown))}. It gives "
            f"{', '.join(own)}."
        )
    heads = tuple(own.index(name) for name in names)
    if not multi:
        return HeadTask(verb="classify", labels=names, heads=heads)
    if model.network.config.problem_type != "multi_label_classification":
        raise UnsupportedModelError(
            f"{model.name} was trained to give one label a text, so its probabilities are no yes "
            "or no to each. Leave multi=True out, or pass a causal language model."
        )
    return MultiLabelHeadTask(verb="classify", labels=names, heads=heads)
