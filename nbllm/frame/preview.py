"""What a verb would send to the model for one row."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from nbllm.engine.prompt import Prompt

__all__ = ["Preview"]


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

    def _ranges(self) -> list[tuple[int, int]]:
        spans = self.prompt.spans
        return [
            (spans[mark.start][0], spans[mark.stop - 1][1])
            for mark in self.prompt.marks
            if mark.stop > mark.start
        ]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{self.text}\n[{self.tokens:,} tokens, {self.prompt.prefix_length:,} shared]"

    def _repr_html_(self) -> str:
        pieces, position = [], 0
        for start, stop in self._ranges():
            pieces.append(escape(self.text[position:start]))
            pieces.append(f"<mark>{escape(self.text[start:stop])}</mark>")
            position = stop
        pieces.append(escape(self.text[position:]))
        return (
            f"<pre style='white-space:pre-wrap'>{''.join(pieces)}</pre>"
            f"<small>{self.tokens:,} tokens, the first {self.prompt.prefix_length:,} shared by "
            "all rows; the row's own text is marked.</small>"
        )
