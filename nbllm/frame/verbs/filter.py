"""Filtering: does what the caller says hold of a text?

The form of the prompt was chosen on the reviews and messages that come with nbllm. Asked for yes
or no, SmolLM2-135M answered by chance; the likelihood of the statement told the texts apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, plain
from nbllm.errors import LabelError
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import FIELDS, Examples, read_examples
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.predicate import StatementTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["filter_task"]

_EXAMPLES = (
    ("The tram was late again, and nobody told us why.", "is about public transport"),
    ("Many thanks for the quick repair, the oven works perfectly.", "is friendly"),
    ("How many eggs do I need for the cake?", "asks for advice on cooking"),
    ("Our keeper saved a penalty in the last minute.", "mentions a match"),
)

# What is an answer to a predicate, and none itself.
_ANSWERS = frozenset({"yes", "no", "true", "false", "0", "1"})

# On many subjects and of many kinds, so that most statements hold of few of them.
_CALIBRATION = (
    "My parcel should have been here on Monday.",
    "Council votes to close the old swimming pool",
    "Do not forget to pay the window cleaner.",
    "The storm brought down several trees, and the road to the harbour is closed until tomorrow.",
    "How can I change my password? The link in your e-mail leads nowhere.",
    "Profits fell by three per cent, as fewer people bought new cars than a year ago.",
    "The curry was the best I have had in years, and the waiter was charming.",
    "Striker out for six weeks with a knee injury",
    "I would like my money back for the lamp, which arrived in pieces.",
    "Scientists have built a battery that can be charged in two minutes.",
    "The lecture starts at 9:15 in the large hall.",
    "Who wrote the first book about the history of chess?",
    "He put down the letter, looked out of the window, and began to laugh.",
    "Please cancel my subscription at the end of the month.",
    "Cloudy with some drizzle in the west, milder by the evening.",
    "Two hours of noise and not a single idea; I left before the end.",
    "I have attached the signed contract and the plan of the second floor.",
    "Chop the onions, fry them in butter until golden, and stir in the rice.",
    "The patient has slept badly since the operation, but has no pain.",
    "A charming novel about three generations of lighthouse keepers.",
    "Thank you so much for your help yesterday!",
    "Since the last update the app freezes whenever I open the camera.",
    "Is the tent waterproof, and does it fit into a rucksack?",
    "We stayed for three nights; the room was clean and the beds were comfortable.",
)


def filter_task(
    model: Model,
    *,
    predicate: str,
    threshold: float = 0.5,
    instruction: str | None = None,
    examples: Examples | None = None,
) -> StatementTask:
    """The task of telling texts of which a statement holds.

    Args:
        predicate: the statement, as it goes on after "The text".
        threshold: the probability from which the answer is yes.
        instruction: what to say first.
        examples: (text, predicate that holds of it) pairs to show instead of the built-in ones.

    Raises:
        LabelError: an example that says yes or no instead of a predicate.
    """
    require(model, "filter", "causal")
    head = f"{instruction}\n\n" if instruction else ""
    for text, holds in _EXAMPLES if examples is None else read_examples(examples, FIELDS["filter"]):
        if _phrase(holds).lower() in _ANSWERS:
            raise LabelError(
                f"the example {text[:40]!r} says {holds!r}, and not what holds of the text. Write "
                "that, as it goes on after 'The text': 'asks for a refund'."
            )
        head += f"Text: {text}\nThe text {_phrase(holds)}.\n\n"
    parts = [Part("text", f"{head}Text: "), Part("field", TEXT), Part("text", "\nThe text")]
    return StatementTask(
        verb="filter",
        labels=("yes", "no"),
        template=plain(model.tokenizer, parts),
        statement=f" {_phrase(predicate)}.",
        calibration=_CALIBRATION,
        threshold=threshold,
    )


def _phrase(predicate: str) -> str:
    """What goes on after "The text", however it was written."""
    words = predicate.strip().rstrip(".")
    return words[len("the text ") :] if words.lower().startswith("the text ") else words
