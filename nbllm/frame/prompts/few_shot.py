"""The form of a prompt with solved examples, which a model continues with an answer."""

from __future__ import annotations

from collections.abc import Iterable

from nbllm.engine.prompt import Part

__all__ = ["TEXT", "label_parts"]

TEXT = "text"  # the field of tasks that read one column


def label_parts(
    instruction: str | None, examples: Iterable[tuple[str, str]], *, text: str, answer: str
) -> list[Part]:
    """Instruction, examples and the row's text, ending where the label is to be written.

    Args:
        text: what a text is called, as in "Review: ...".
        answer: what its label is called, as in "Sentiment: ...".
    """
    head = f"{instruction}\n\n" if instruction else ""
    shown = "".join(f"{text}: {read}\n{answer}: {label}\n\n" for read, label in examples)
    return [
        Part("text", f"{head}{shown}{text}: "),
        Part("field", TEXT),
        Part("text", f"\n{answer}:"),
    ]
