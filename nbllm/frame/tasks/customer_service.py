"""Customer service: how urgent is a message, and what could be replied to it?

Examples and calibration texts were written for this project, and the prompts chosen on messages
written for it and on the training split of Bitext's customer support utterances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat, plain
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.label import LabelTask
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["MESSAGE", "MOODS", "SOURCES", "draft", "urgency"]

SOURCES, MESSAGE = "sources", "message"  # fields of a draft's template

# What a message is said to be, by the label it stands for. Asked for high or low, SmolLM2-135M
# answered by chance.
_URGENCIES = {"high": "is urgent", "low": "can wait"}
_URGENT = (
    ("My card was stolen and someone is buying things with it right now!", "high"),
    ("Just out of interest, will the lamp come in other colours one day?", "low"),
    ("I fly in three hours and my ticket still has not arrived.", "high"),
    ("Thanks for the newsletter, I enjoyed the article about bread.", "low"),
)

# Most messages only ask; shown reviews alone, a model takes a question for a complaint.
MOODS = (
    ("Can you tell me when the parcel will be here?", "neutral"),
    ("Many thanks for the quick help, I am very happy with the chair.", "positive"),
    ("I have called five times and nobody cares. Never again.", "negative"),
    ("I would like to change my address.", "neutral"),
    ("What a lovely surprise, the gift wrapping was beautiful!", "positive"),
    ("The screen broke on the first day, what a waste of money.", "negative"),
    ("how do i pay by card", "neutral"),
)

# Urgent and not in turn.
_URGENCY_CALIBRATION = (
    "I am locked out of my account and have to pay the rent today.",
    "Which colours does the jacket come in?",
    "The medicine that you were to bring this morning is not here.",
    "How do I change my newsletter settings?",
    "Somebody has changed my password. Please block the account at once.",
    "I would like to tell you how much I like the new bottle.",
    "The battery of the bike is hot and smoking.",
    "Do you have a shop in Lyon?",
    "The wedding is tomorrow and you sent the wrong dress.",
    "can I use two vouchers at once",
    "You charged me ten times, my account is empty and I cannot buy food.",
    "Please send me last year's invoices when you find the time.",
    "Stop the order now, it goes out in ten minutes to the wrong address!",
    "What is the difference between the two models?",
    "My child swallowed a part of the toy. What is it made of?",
    "Is there a discount for students?",
)

# Told that it is customer service, SmolLM2-135M spoke of itself and not of the facts.
_DRAFT = "Answer the question in one or two sentences, with what the text says."


def urgency(model: Model, verb: str) -> LabelTask:
    """The task of telling how urgent a message is: high or low."""
    head = "".join(f"Text: {text}\nThe text {_URGENCIES[label]}.\n\n" for text, label in _URGENT)
    parts = [Part("text", f"{head}Text: "), Part("field", TEXT), Part("text", "\nThe text")]
    return LabelTask(
        verb=verb,
        template=plain(model.tokenizer, parts),
        labels=tuple(_URGENCIES),
        answers=tuple(f" {said}." for said in _URGENCIES.values()),
        calibration=_URGENCY_CALIBRATION,
    )


def draft(model: Model, verb: str, *, instruction: str | None, max_new_tokens: int) -> TextTask:
    """The task of writing a reply to a message from what sources say.

    Args:
        instruction: what to ask, instead of one or two sentences.
        max_new_tokens: where a reply is cut, at the end of a sentence.
    """
    parts = [
        Part("text", "Text:\n"),
        Part("field", SOURCES),
        Part("text", "\n\nQuestion: "),
        Part("field", MESSAGE),
        Part("text", f"\n\n{instruction or _DRAFT}"),
    ]
    if model.tokenizer.chat_template is None:
        template = plain(model.tokenizer, [*parts, Part("text", "\n\nAnswer:")])
        return TextTask(verb, template, max_new_tokens, stop="\n", whole_sentences=True)
    template = chat(model.tokenizer, [("user", parts)])
    return TextTask(verb, template, max_new_tokens, whole_sentences=True)
