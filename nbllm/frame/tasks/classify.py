"""Classification: which of the caller's labels fits a text?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.engine.prompt import plain
from nbllm.frame.tasks.few_shot import label_parts
from nbllm.frame.tasks.kinds import Examples, LabelTask, check_labels, read_examples, require_causal

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["classify"]

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


def classify(
    model: Model,
    *,
    labels: Sequence[str],
    instruction: str | None = None,
    examples: Examples | None = None,
) -> LabelTask:
    """The task of choosing one label a text.

    Args:
        labels: two or more different strings; words that mean what they name do best.
        instruction: what to say first, instead of the list of labels.
        examples: (text, label) pairs to show.

    Raises:
        LabelError: labels that are too few, blank or repeated.
    """
    require_causal(model, "classify")
    names = check_labels(labels)
    asked = instruction or f"Classify each text as one of: {', '.join(names)}."
    shown = [] if examples is None else read_examples(examples, names)
    return LabelTask(
        verb="classify",
        template=plain(model.tokenizer, label_parts(asked, shown, text="Text", answer="Label")),
        labels=names,
        answers=tuple(f" {name}" for name in names),
        calibration=_CALIBRATION,
    )
