"""Previews of what a verb sends to the model for one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbllm.display.theme import MARK
from nbllm.engine.prompt import Prompt
from nbllm.escaping import escape, visible
from nbllm.wording import counted

__all__ = ["Preview", "PreviewStep", "StepsPreview"]


@dataclass(frozen=True)
class Preview:
    """The exact prompt of one row, with the row's own text highlighted."""

    prompt: Prompt

    @property
    def text(self) -> str:
        """The prompt as the model sees it."""
        return self.prompt.text

    @property
    def tokens(self) -> int:
        """The number of tokens of the prompt."""
        return len(self.prompt.ids)

    @property
    def marked(self) -> list[tuple[int, int]]:
        """The character spans (start, stop) of the row's own texts in the prompt."""
        spans = self.prompt.spans
        found = []
        for tokens in self.prompt.field_spans:
            if tokens.stop > tokens.start:
                start, stop = spans[tokens.start][0], spans[tokens.stop - 1][1]
                # Many tokenizers make the space before a word part of its token.
                space = len(self.text[start:stop]) - len(self.text[start:stop].lstrip())
                found.append((start + space, stop))
        return found

    @property
    def length(self) -> str:
        """The length in words, such as "120 tokens, 80 shared"."""
        shared = self.prompt.prefix_length
        return f"{counted(self.tokens, 'token')}" + (f", {shared:,} shared" if shared else "")

    def __str__(self) -> str:
        return visible(self.text)

    def __repr__(self) -> str:
        return f"{self}\n[{self.length}]"

    def _repr_html_(self) -> str:
        shared = self.prompt.prefix_length
        first = f", the first {shared:,} shared by all rows" if shared else ""
        return (
            _passage(self.text, self.marked)
            + f"<small>{counted(self.tokens, 'token')}{first}; the row's own text is "
            "marked.</small>"
        )


@dataclass(frozen=True)
class PreviewStep:
    """One step of a verb's work on a row."""

    title: str
    text: str
    marked: Sequence[tuple[int, int]] = ()  # character spans of the row's own texts
    note: str = ""

    @classmethod
    def of(cls, title: str, preview: Preview) -> PreviewStep:
        """Return a step that sends a prompt.

        Args:
            title: The heading of the step.
            preview: The prompt.
        """
        return cls(title, preview.text, preview.marked, preview.length)


@dataclass(frozen=True)
class StepsPreview:
    """The steps of a verb's work on one row."""

    verb: str
    steps: tuple[PreviewStep, ...]

    @property
    def text(self) -> str:
        """All steps with their titles, separated by blank lines."""
        return "\n\n".join(f"-- {step.title}\n{step.text}" for step in self.steps)

    def __str__(self) -> str:
        return visible(self.text)

    def __repr__(self) -> str:
        parts = [
            f"-- {step.title}\n{step.text}" + (f"\n[{step.note}]" if step.note else "")
            for step in self.steps
        ]
        return visible("\n\n".join(parts))

    def _repr_html_(self) -> str:
        return "".join(
            f"<p style='margin:0.8em 0 0'><b>{escape(step.title)}</b></p>"
            + _passage(step.text, step.marked)
            + (f"<small>{escape(step.note)}</small>" if step.note else "")
            for step in self.steps
        )


def _passage(text: str, marked: Sequence[tuple[int, int]]) -> str:
    pieces, position = [], 0
    for start, stop in marked:
        pieces.append(escape(text[position:start]))
        pieces.append(f"<mark style='{MARK}'>{escape(text[start:stop])}</mark>")
        position = stop
    pieces.append(escape(text[position:]))
    return f"<pre style='white-space:pre-wrap;margin:0.3em 0'>{''.join(pieces)}</pre>"
