"""Corrupted summaries: another name, another number, a negation, another article's summary.

Each is a rule over words, seeded by row, so that the same rows are corrupted in the same way. None
knows what the verb that is measured does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

KINDS = (
    "name the text lacks", "name of the text", "number the text lacks", "number of the text",
    "negated", "another text's",
)  # fmt: skip

_WORDS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "twenty", "thirty", "forty", "fifty",
)  # fmt: skip
_NUMBER = re.compile(
    rf"(?<![\w.,-])(?:\d+(?:,\d{{3}})*(?:\.\d+)?|{'|'.join(_WORDS)})(?![\w-])", re.I
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'-]*[\w](?: [A-Z][\w'-]*[\w])*")
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|has|have|had|can|could|will|would|should|may|might|must|does|do|did)\b"
)
_NEGATION = re.compile(
    r"\b(?:(is|are|was|were|does|do|did|has|have|had)n't|(can)not|not|never)\b ?"
)
_WE = re.compile(r"\b([Ww]e|[Tt]hey) (?=[a-z]+\b(?<!ly))")


def corrupted(
    kind: str, summaries: Sequence[str], texts: Sequence[str], row: int, seed: int = 0
) -> str | None:
    """Return the summary of a row, corrupted; None where it holds nothing to corrupt.

    Args:
        kind: One of `KINDS`.
        summaries: All summaries.
        texts: The text of each.
        row: The row to corrupt.
        seed: Changes what is drawn.
    """
    draw = random.Random(f"{seed} {kind} {row}")
    summary, text = summaries[row], texts[row]
    if kind == "another text's":
        return summaries[draw.choice([n for n in range(len(summaries)) if n != row])]
    if kind == "negated":
        return _negated(summary, draw)
    pattern = _NAME if kind.startswith("name") else _NUMBER
    places = list(pattern.finditer(summary))
    if not places:
        return None
    place = draw.choice(places)
    old = place.group()
    if kind.endswith("of the text"):
        found = set(pattern.findall(text))
    elif pattern is _NAME:
        others = draw.sample(range(len(summaries)), min(200, len(summaries)))
        found = {name for n in others if n != row for name in _NAME.findall(summaries[n])}
    elif old[0].isdigit():
        found = {_near(old, draw) for _ in range(20)}
    else:
        found = set(_WORDS)
    known = f"{summary} {'' if kind.endswith('of the text') else text}".lower()
    fit = sorted(new for new in found if new.lower() not in known and _alike(new, old))
    return summary[: place.start()] + draw.choice(fit) + summary[place.end() :] if fit else None


def _near(old: str, draw: random.Random) -> str:
    """Return a number with as many digits; a year stays in its century."""
    kept = 2 if re.fullmatch(r"(?:19|20)\d\d", old) else 0
    new = [str(draw.randrange(10)) if c.isdigit() and n >= kept else c for n, c in enumerate(old)]
    if new[0] == "0" and len(new) > 1:
        new[0] = "1"
    return "".join(new)


def _alike(new: str, old: str) -> bool:
    """Return whether a replacement has the form of what it replaces."""
    if old[0].isdigit() or new[0].isdigit():
        return new[0].isdigit() == old[0].isdigit()
    return new.isupper() == old.isupper()


def _negated(summary: str, draw: random.Random) -> str | None:
    found = _NEGATION.search(summary)
    if found:
        kept = found.group(1) or found.group(2)
        return summary[: found.start()] + (f"{kept} " if kept else "") + summary[found.end() :]
    places = [(m.end(), draw.choice((" not", " never"))) for m in _AUXILIARY.finditer(summary)]
    if not places:
        places = [(m.end(), "do not ") for m in _WE.finditer(summary)]
    if not places:
        return None
    place, word = draw.choice(places)
    return summary[:place] + word + summary[place:]
