"""Tasks for customer service: the urgency of a message, and the draft of a reply.

Examples and calibration texts were written for this project. The prompts were chosen on messages
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

__all__ = ["MESSAGE", "SENTIMENT_EXAMPLES", "SOURCES", "draft_task", "urgency_task"]

SOURCES, MESSAGE = "sources", "message"  # fields of the draft's template

# The model scores these phrases: on "high" and "low" themselves, SmolLM2-135M is at chance level.
_URGENCY_PHRASES = {"high": "is urgent", "low": "can wait"}
_URGENCY_EXAMPLES = (
    ("My card was stolen and someone is buying things with it right now!", "high"),
    ("Just out of interest, will the lamp come in other colours one day?", "low"),
    ("I fly in three hours and my ticket still has not arrived.", "high"),
    ("Thanks for the newsletter, I enjoyed the article about bread.", "low"),
)

# Most messages are neutral questions: with reviews as its only examples, a model takes them for
# complaints.
SENTIMENT_EXAMPLES = (
    ("Can you tell me when the parcel will be here?", "neutral"),
    ("Many thanks for the quick help, I am very happy with the chair.", "positive"),
    ("I have called five times and nobody cares. Never again.", "negative"),
    ("I would like to change my address.", "neutral"),
    ("What a lovely surprise, the gift wrapping was beautiful!", "positive"),
    ("The screen broke on the first day, what a waste of money.", "negative"),
    ("how do i pay by card", "neutral"),
)

# Urgent and not urgent alternate.
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

# With a customer service role in the prompt, SmolLM2-135M writes about itself, not the facts.
_DRAFT = "Answer the question in one or two sentences, with what the text says."


def urgency_task(model: Model, verb: str) -> LabelTask:
    """Return the task that labels a message's urgency as high or low.

    Args:
        model: The causal model that reads the messages.
        verb: The name of the verb.
    """
    head = "".join(
        f"Text: {text}\nThe text {_URGENCY_PHRASES[label]}.\n\n"
        for text, label in _URGENCY_EXAMPLES
    )
    parts = [Part("text", f"{head}Text: "), Part("field", TEXT), Part("text", "\nThe text")]
    return LabelTask(
        verb=verb,
        template=plain(model.tokenizer, parts),
        labels=tuple(_URGENCY_PHRASES),
        answers=tuple(f" {phrase}." for phrase in _URGENCY_PHRASES.values()),
        calibration=_URGENCY_CALIBRATION,
    )


def draft_task(
    model: Model, verb: str, *, instruction: str | None, max_new_tokens: int
) -> TextTask:
    """Return the task that drafts a reply to a message from sources.

    Args:
        model: The causal model that writes.
        verb: The name of the verb.
        instruction: The instruction, or None for one or two sentences.
        max_new_tokens: The maximum length of a reply, which is cut at the end of a sentence.
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
