"""The source texts of answers, and the overlap of an answer with them.

An answer is compared with its sources word by word. This detects invented words and numbers, but
not false statements made with the words of the sources.
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
from nbllm.frame.prompts.arguments import as_list
from nbllm.frame.retrieval.words import terms
from nbllm.wording import counted

__all__ = ["content_words", "groundedness", "read_sources", "unsupported_numbers"]

# Longer words, numbers and pairs of unspaced characters; short words occur in every text.
_CONTENT = regex.compile(r".*\p{N}.*|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]{2}|\S{4,}")


def groundedness(draft: str, sources: str) -> float:
    """Return the share of a draft's content words that occur in its sources, 0 to 1.

    Args:
        draft: The drafted answer.
        sources: The texts of its sources.

    Example:
        >>> groundedness("Returns take fourteen days.", "A return takes fourteen days.")
        0.5
    """
    words = set(content_words(draft))
    return len(words & set(content_words(sources))) / len(words) if words else 0.0


def unsupported_numbers(draft: str, sources: str) -> list[str]:
    """Return the numbers of a draft that do not occur in its sources, in order.

    Args:
        draft: The drafted answer.
        sources: The texts of its sources, and the message that it answers.

    Example:
        >>> unsupported_numbers("In 14 to 30 days.", "It takes 14 days.")
        ['30']
    """
    known = set(regex.findall(r"\p{N}+", sources))
    return [n for n in dict.fromkeys(regex.findall(r"\p{N}+", draft)) if n not in known]


def content_words(text: str) -> list[str]:
    """Return the terms of a text that carry meaning: long words and numbers."""
    return [term for term in terms(text) if _CONTENT.fullmatch(term)]


def read_sources(sources: Any, column: str | None) -> tuple[list[str], list[Any]]:
    """Return the texts of the sources that are not blank, and their labels.

    Args:
        sources: A list of texts, a mapping or Series of label to text, or a frame.
        column: The column of texts in the frame; None if it has only one.

    Raises:
        FrameError: There is no text, or several columns hold texts.
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
        values = [None if i is None else rows.texts[i][0] for i in rows.text_indices]
        labels = index_labels(sources)
    else:
        labels, values = _labelled(sources)
        odd = [x for x in values if not is_missing(x) and not isinstance(x, str)]
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
    """Return the labels and values of sources that are not a frame."""
    if isinstance(sources, Mapping):
        return list(sources), list(sources.values())
    values = as_list(sources, "sources")
    is_series = nw.dependencies.is_pandas_series(sources)
    return index_labels(sources) if is_series else range(len(values)), values
