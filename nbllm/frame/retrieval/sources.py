"""The texts that answers are made of, and what of an answer stands in them.

An answer is compared with its sources by their words. That finds what a model made up in words
of its own, above all numbers, and not what it made up in theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import regex

from nbllm.blank import is_blank
from nbllm.checks import shown
from nbllm.errors import FrameError
from nbllm.frame.columns import index_labels, is_missing, read_rows
from nbllm.frame.prompts.arguments import listed
from nbllm.frame.retrieval.words import terms
from nbllm.wording import counted

__all__ = ["content_words", "grounded", "read_sources", "strange_numbers"]

# What says something of a text: not the short words that all texts have.
_CONTENT = regex.compile(r".*\p{N}.*|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]{2}|\S{4,}")


def grounded(draft: str, sources: str) -> float:
    """The share of a draft's words that stand in its sources, of those that say something.

    Example:
        >>> grounded("Returns take fourteen days.", "A return takes fourteen days.")
        0.5
    """
    said = set(content_words(draft))
    return len(said & set(content_words(sources))) / len(said) if said else 0.0


def strange_numbers(draft: str, known: str) -> list[str]:
    """The numbers of a draft that are not among what is known, in order.

    Example:
        >>> strange_numbers("In 14 to 30 days.", "It takes 14 days.")
        ['30']
    """
    given = set(regex.findall(r"\p{N}+", known))
    return [n for n in dict.fromkeys(regex.findall(r"\p{N}+", draft)) if n not in given]


def content_words(text: str) -> list[str]:
    """Return the words of a text that say something of it."""
    return [term for term in terms(text) if _CONTENT.fullmatch(term)]


def read_sources(sources: Any, column: str | None) -> tuple[list[str], list[Any]]:
    """The texts of sources and their labels, without those that are blank.

    Args:
        sources: texts, a mapping or Series of label to text, or a frame of texts.
        column: of the texts in that frame, where it has several.

    Raises:
        FrameError: there is no text, or no telling which column holds them.
    """
    if nw.dependencies.is_into_dataframe(sources):
        data = nw.from_native(sources, eager_only=True)
        if column is None:
            named: list[str] = [n for n in data.columns if data[n].dtype in (nw.String, nw.Object)]
            if len(named) != 1:
                raise FrameError(
                    f"sources has {counted(len(named), 'column')} of text. Say which holds the "
                    "sources: source_column=."
                )
            [column] = named
        rows = read_rows(sources, [column])
        values = [None if i is None else rows.texts[i][0] for i in rows.position]
        labels = index_labels(sources)
    else:
        labels, values = _labelled(sources)
        odd = [value for value in values if not is_missing(value) and not isinstance(value, str)]
        if odd:
            raise FrameError(
                f"sources= holds {shown(odd[0])}, which is not a text. Pass strings, or a frame of "
                "them."
            )
    found = [
        (value, label)
        for value, label in zip(values, labels, strict=True)
        if isinstance(value, str) and not is_blank(value)
    ]
    if not found:
        raise FrameError("sources has no text. Pass what replies may be made of.")
    return [text for text, _ in found], [label for _, label in found]


def _labelled(sources: Any) -> tuple[Sequence[Any], list[Any]]:
    """Labels and values of sources that are no frame."""
    if isinstance(sources, Mapping):
        return list(sources), list(sources.values())
    values = listed(sources, "sources")
    is_series = nw.dependencies.is_pandas_series(sources)
    return index_labels(sources) if is_series else range(len(values)), values
