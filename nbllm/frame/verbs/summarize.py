"""Summarization: a text in a few words of the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import FrameError
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import FIELDS, Examples, read_examples
from nbllm.frame.prompts.few_shot import TEXT, label_parts
from nbllm.frame.prompts.seq2seq import configured_prefixes, refuse_examples, seq2seq_template
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["summarize"]

_EXAMPLES = (
    (
        (
            "The public library in Harlow Bridge will stay open until ten in the evening from "
            "next month, after a trial in the spring drew almost twice as many visitors as "
            "expected. Students and shift workers had asked for longer hours for years. During "
            "the trial two volunteers helped the staff each night, and the council has now "
            "agreed to pay for a permanent evening team of three. The children's section will "
            "still close at six. The extra cost is put at forty thousand pounds a year."
        ),
        (
            "Harlow Bridge library will open until ten in the evening after a successful trial, "
            "with a permanent evening team paid for by the council."
        ),
    ),
    (
        (
            "A rare orchid that had not been seen in the region since 1987 has been found by two "
            "hikers on a slope above Lake Maren. They sent a photograph to the botanical garden, "
            "which confirmed the find a day later. Eleven plants are in flower. The exact place "
            "is being kept secret, because collectors have dug up orchids elsewhere. The garden "
            "has put a fence around the slope and plans to gather seed in the autumn so that the "
            "species can be grown at other sites."
        ),
        (
            "Hikers found eleven plants of an orchid last seen in 1987, and the botanical garden "
            "is guarding the secret site and will gather seed."
        ),
    ),
)

# Words of English run to 1.3 tokens; the rest is room to end a sentence.
_TOKENS_PER_WORD = 1.6


def summarize(
    model: Model,
    *,
    max_words: int = 40,
    style: str | None = None,
    instruction: str | None = None,
    examples: Examples | None = None,
) -> TextTask:
    """The task of summarizing texts.

    Args:
        max_words: what the model is asked to keep to, and about where it is cut.
        style: how it should read, in words that go on after "Summarize the text": "for a child".
        instruction: what to ask, instead of a summary of so many words in that style; to an
            encoder-decoder, the words that it was trained to see before a text.
        examples: (text, summary) pairs to show a causal model.

    Raises:
        FrameError: a style beside an instruction, or a style or examples for an encoder-decoder.
    """
    require(model, "summarize", "causal", "seq2seq")
    if style is not None:
        _check_style(model, instruction)
    room = round(max_words * _TOKENS_PER_WORD) + 8
    if model.kind == "seq2seq":
        refuse_examples(model, "summarize", examples)
        template = seq2seq_template(model, instruction or _prefix(model))
        return TextTask("summarize", template, max_new_tokens=room, whole_sentences=True)
    manner = f" {style.strip()}" if style else ""
    asked = instruction or (
        f"Summarize the text{manner} in one or two sentences, at most {max_words} words."
    )
    given = None if examples is None else read_examples(examples, FIELDS["summarize"])
    instruct = model.tokenizer.chat_template is not None
    if instruct:
        turns = []
        for text, summary in given or []:
            turns.append(("user", [Part("text", f"{asked}\n\n{text}")]))
            turns.append(("assistant", [Part("text", summary)]))
        turns.append(("user", [Part("text", f"{asked}\n\n"), Part("field", TEXT)]))
        template = chat(model.tokenizer, turns)
    else:
        shown = _EXAMPLES if given is None else given
        template = plain(model.tokenizer, label_parts(asked, shown, text="Text", answer="Summary"))
    return TextTask(
        verb="summarize",
        template=template,
        max_new_tokens=room,
        stop=None if instruct else "\n",
        whole_sentences=True,
    )


def _check_style(model: Model, instruction: str | None) -> None:
    if instruction is not None:
        raise FrameError("an instruction says the style too. Pass style= or instruction=.")
    if model.kind == "seq2seq":
        raise FrameError(
            f"{model.name} is an encoder-decoder, which summarizes as it was trained to. Leave "
            "style= out, or ask a causal model."
        )


def _prefix(model: Model) -> str:
    """What the encoder was trained to see before a text that is to be summarized."""
    t5 = "t5" in model.network.config.model_type
    return configured_prefixes(model).get("summarization", "summarize: " if t5 else "")
