"""Whether a text has anything that a reader could see."""

from __future__ import annotations

import regex

__all__ = ["is_blank"]

# Neither white space, nor what Unicode draws as nothing: control and format characters, fillers,
# variation selectors, and two blanks that it counts as signs (of Braille and of music). The Arabic
# signs that stand before a number are format characters too, and are seen.
_VISIBLE = regex.compile(
    r"[^\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\u2800\U0001D159]"
    r"|\p{Prepended_Concatenation_Mark}"
)


def is_blank(text: str) -> bool:
    r"""Return whether a text is empty, or only white space and characters without a shape.

    Example:
        >>> is_blank(" \u200b\ufeff"), is_blank("a\u200b"), is_blank("👩\u200d🍳")
        (True, False, False)
    """
    return _VISIBLE.search(text) is None
