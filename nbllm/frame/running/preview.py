"""What a verb would send to the model for one row."""

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
    """One row's exact prompt; the row's own text is marked."""

    prompt: Prompt

    @property
    def text(self) -> str:
        """The prompt as the model sees it."""
        return self.prompt.text

    @property
    def tokens(self) -> int:
        """Its length."""
        return len(self.prompt.ids)

    @property
    def marked(self) -> list[tuple[int, int]]:
        """Where the row's own texts are, as character offsets."""
        spans = self.prompt.spans
        found = []
        for mark in self.prompt.field_spans:
            if mark.stop > mark.start:
                start, stop = spans[mark.start][0], spans[mark.stop - 1][1]
                # The space before a word may be a part of its token.
                blank = len(self.text[start:stop]) - len(self.text[start:stop].lstrip())
                found.append((start + blank, stop))
        return found

    @property
    def length(self) -> str:
        """What it costs, in words."""
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
    """One thing that a verb does with a row."""

    title: str
    text: str
    marked: Sequence[tuple[int, int]] = ()  # character offsets of what is of the row
    note: str = ""

    @classmethod
    def of(cls, title: str, preview: Preview) -> PreviewStep:
        """A step that sends a prompt."""
        return cls(title, preview.text, preview.marked, preview.length)


@dataclass(frozen=True)
class StepsPreview:
    """What a verb of several steps does with one row."""

    verb: str
    steps: tuple[PreviewStep, ...]

    @property
    def text(self) -> str:
        """All steps, one below the other."""
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
