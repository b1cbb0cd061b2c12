"""Renders the words of a row, coloured by attribution to its label, as HTML without script."""

from __future__ import annotations

import math

import pandas as pd

from nbllm.escaping import escape
from nbllm.frame.explanation.contrast import Contrast
from nbllm.wording import counted

__all__ = ["attribution_html"]

# Colour-blind readers can distinguish orange and blue, and text on them at half opacity is readable
# on a light page and on a dark one.
_FOR, _AGAINST = "var(--nbllm-for, 230, 126, 20)", "var(--nbllm-against, 50, 120, 230)"
_STRONGEST = 0.5  # opacity


def attribution_html(
    contrast: Contrast, words: pd.DataFrame, gap: float, steps: int, shared: tuple[int, int]
) -> str:
    """Return the coloured words as HTML, with a caption that explains the colours.

    Args:
        contrast: The label of the row and the label that it is compared with.
        words: The columns word, attribution (in logits) and attention, in the order of the text.
        gap: The completeness gap of the attribution, a share.
        steps: The number of integration steps.
        shared: The number of top words by attribution that are also top words by attention, and the
            number of top words.
    """
    label, other = escape(contrast.label), escape(contrast.other)
    strongest = float(words["attribution"].abs().max()) or 1.0
    shown = " ".join(
        _word(word, score, score / strongest)
        for word, score in zip(words["word"], words["attribution"], strict=True)
    )
    total = float(words["attribution"].sum())
    odds = f"{abs(total):.2f} {'towards' if total >= 0 else 'away from'} “{label}”"
    complete = (
        "without a difference to add up to"
        if math.isnan(gap)
        else f"their sum misses the model's own difference by {gap:.1%}"
    )
    both, count = shared
    return (
        '<figure class="nbllm-explanation" style="margin:8px 0;max-width:700px;'
        'color:var(--jp-ui-font-color1, inherit)">'
        f'<p style="margin:0 0 6px"><strong>{label}</strong> {contrast.probability:.2f}, not '
        f"<strong>{other}</strong> {contrast.other_probability:.2f}.</p>"
        f'<p style="margin:0 0 6px;line-height:1.9">{shown}</p>'
        '<figcaption style="font-size:90%">'
        f"{_key(_FOR, 'solid')} speaks for “{label}”, {_key(_AGAINST, 'dashed')} for “{other}”. "
        "Attribution (integrated gradients): compared with blanks in their place, the words move "
        f"the log-odds by {odds}; {complete} ({counted(steps, 'step')}). The attention below is "
        f"another thing: attention and attribution share {both} of their top {count} "
        f"{'word' if count == 1 else 'words'}.</figcaption></figure>"
    )


def _word(word: str, score: float, share: float) -> str:
    colour, line = (_FOR, "solid") if score >= 0 else (_AGAINST, "dashed")
    share = abs(share)
    return (
        f'<span title="{score:+.3f}" style="background:rgba({colour},{_STRONGEST * share:.3f});'
        f"border-bottom:2px {line} rgba({colour},{share:.3f});border-radius:2px;"
        f'padding:1px 2px">{escape(word)}</span>'
    )


def _key(colour: str, line: str) -> str:
    return (
        f'<span aria-hidden="true" style="display:inline-block;width:1.2em;height:.8em;'
        f"background:rgba({colour},{_STRONGEST});border-bottom:2px {line} rgb({colour})"
        '"></span> '
        f"{'Orange, underlined,' if line == 'solid' else 'blue, dashed,'}"
    )
