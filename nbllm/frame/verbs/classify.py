"""Classification: which label fits a text, of the caller's or of a classifier's own?"""

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

_FIELDS = ("text", "label")  # of an example

# On many subjects, so that their mean tells what the model prefers whatever it reads.
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
    """What labels are chosen among, and how."""

    labels: Sequence[str] | Mapping[str, str] | None = option(
        "two or more different strings in a list, since their order is part of what is asked; "
        "words that mean what they name do best. A mapping describes each: "
        '{"refund": "wants money back", ...}. For a classifier, which of its own, by default all.',
        None,
        positional=True,
    )
    multi: bool = option(
        "ask about each label on its own, yes or no. The answer is then the list of those with a "
        """probability of 0.5 or more, as JSON text ('["refund"]'), which pandas, polars and """
        "Parquet hold alike, beside one column of probability a label and no score. For causal "
        "models, and classifiers trained to give several.",
        False,
    )
    instruction: str | None = option("what to say first, instead of the list of labels.", None)
    examples: Examples | None = option(
        "(text, label) pairs to show the model: in a list, as a mapping of text to label, or as "
        'dicts or a frame by name: "text" (or the column) and "label"; with `multi` a text may '
        "be in several.",
        None,
    )
    probabilities: bool = option("add one column a label.", False)


class Classify(Verb[Options]):
    """Choose one of your labels for each text, with a probability.

    A causal model's is calibrated. A classifier gives the labels it was trained on. A
    sentence encoder takes the label, or description, whose vector is nearest; its score,
    the softmax of cosines divided by 0.05, ranks answers and is not calibrated.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        LabelError: labels that are missing, too few, blank, repeated, or none of a
            classifier's.
        UnsupportedModelError: the model cannot give several labels a text.

    Example:
        >>> df.llm.classify("message", labels=["billing", "delivery"])  # doctest: +SKIP
    """

    name = "classify"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _FIELDS

    def gives_probabilities(self, options: Options) -> bool:
        return options.probabilities or options.multi

    def can_check(self, options: Options) -> bool:
        return options.labels is not None  # else a classifier has labels of its own

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
    """The task of choosing one label a text, or all that fit.

    Args:
        labels: two or more different strings; words that mean what they name do best. A mapping
            describes each. A classifier has its own: None takes all of them.
        multi: yes or no to each label, instead of one of them.
        instruction: what to say first, instead of the list of labels.
        examples: (text, label) pairs to show; with `multi` a text may be in several.

    Raises:
        LabelError: labels that are missing, too few, blank, repeated, or none of a classifier's.
        UnsupportedModelError: the model cannot give several labels a text.
    """
    require(model, "classify", "causal", "classifier", "encoder")
    if model.kind == "classifier":
        refuse_prompt(model, instruction=instruction, examples=examples)
        return _by_head(model, labels, multi)
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
        return ZeroShotTask(verb="classify", labels=names, described=tuple(described.values()))
    shown = [] if examples is None else read_examples(examples, _FIELDS, names)
    if multi:
        questions = (_is_about(model, name, described[name], instruction, shown) for name in names)
        return MultiLabelTask(verb="classify", labels=names, questions=tuple(questions))
    return LabelTask(
        verb="classify",
        template=plain(
            model.tokenizer,
            label_parts(instruction or _instruction(described), shown, text="Text", answer="Label"),
        ),
        labels=names,
        answers=tuple(f" {name}" for name in names),
        calibration=_CALIBRATION,
    )


def _described(names: Sequence[str], labels: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Each label and what it is about: itself, where nothing else is said."""
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


def _is_about(
    model: Model,
    name: str,
    description: str,
    instruction: str | None,
    examples: Sequence[tuple[str, str]],
) -> LabelTask:
    """The question whether a label fits, yes or no."""
    about = name if description == name else f"{name} ({description})"
    asked = f"Is each text about {about}? Answer yes or no."
    fitting = {text for text, label in examples if label == name}
    shown = [(text, "yes" if text in fitting else "no") for text in dict(examples)]
    head = f"{instruction}\n{asked}" if instruction else asked
    return LabelTask(
        verb="classify",
        template=plain(model.tokenizer, label_parts(head, shown, text="Text", answer="Answer")),
        labels=("yes", "no"),
        answers=(" yes", " no"),
        calibration=_CALIBRATION,
    )


def _by_head(
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
