"""Reads a checkpoint's README.md: the model card of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

from nbllm.errors import ModelError
from nbllm.storage.json_file import read_text

__all__ = ["Readme", "read_readme"]

# Headings as publishers write them, after the hub's template for model cards
# (https://huggingface.co/docs/hub/model-card-annotated).
_LIMITS = re.compile(r"limit|bias|risk|out[- ]of[- ]scope|intended|misuse|caveat|ethic", re.I)
_LEFT_BLANK = re.compile(r"\[?more information needed\]?", re.I)
_HEADER = re.compile(r"\s*---\r?\n(?P<yaml>.*?)\n---[ \t]*(?:\r?\n|$)", re.DOTALL)
# Scores of benchmarks, which may be 10,000 lines and take seconds to parse.
_RESULTS = re.compile(r"^model-index:.*\n?(?:(?:[ \t-].*)?\n)*", re.MULTILINE)
_LEVELS = re.compile(r"[\[{]|-[ \t]+-|\?[ \t]")
_MOST = 5_000_000  # bytes of a file
_MOST_OF_HEADER = 20_000  # characters
_MOST_LEVELS = 300
_READ = 50_000  # characters of a text that may be of any length
_LONGEST = 300  # characters of one passage
_SHORTEST = 30  # below, it is a badge, a link or a lead-in


@dataclass(frozen=True)
class Readme:
    """A model card; every part may be missing."""

    licence: str | None = None
    terms: str | None = None  # address of the licence's text
    task: str | None = None  # as in "text-generation"
    base_model: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    about: str | None = None  # its first paragraph
    limits: Mapping[str, str] = field(default_factory=dict)  # heading to first sentences


def read_readme(folder: Path) -> Readme:
    """Return the model card of a folder; an empty one where there is none or it cannot be read.

    Args:
        folder: the model's.
    """
    file = folder / "README.md"
    if not file.is_file():
        return Readme()
    try:
        text = read_text(file, error=ModelError, max_bytes=_MOST)
    except ModelError:
        return Readme()
    parts = _HEADER.match(text)
    stated = "" if parts is None else _RESULTS.sub("", parts["yaml"])
    # Each mark opens another level, on which the parser calls itself.
    if len(stated) > _MOST_OF_HEADER or len(_LEVELS.findall(stated)) > _MOST_LEVELS:
        return Readme()
    if parts is not None:
        text = f"---\n{stated}\n---\n{text[parts.end() :][:_READ]}"
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        card: Any = ModelCard(text, ignore_metadata_errors=True)
    except (ValueError, TypeError, AttributeError, RecursionError, YAMLError):
        return Readme()  # a broken header only means that it is not known
    header = card.data.to_dict()
    named = header.get("license_name") if header.get("license") == "other" else None
    return Readme(
        licence=_first(named or header.get("license")),
        terms=_first(header.get("license_link")),
        task=_first(header.get("pipeline_tag")),
        base_model=_first(header.get("base_model")),
        languages=_texts(header.get("language")),
        datasets=_texts(header.get("datasets")),
        **_passages(card.text),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """A value of the header, which may be one text or a list of them."""
    values = value if isinstance(value, list) else [value]
    # YAML takes the code of Norwegian for a boolean.
    return tuple("no" if v is False else v for v in values if v is False or isinstance(v, str))


def _first(value: Any) -> str | None:
    return next(iter(_texts(value)), None)


def _passages(markdown: str) -> dict[str, Any]:
    """The first paragraph, and the first sentences of each section about limits."""
    about: str | None = None
    limits: dict[str, str] = {}
    heading: tuple[int, str] | None = None  # the section about limits that is still unanswered
    for level, text, is_list in _blocks(markdown[:_READ]):
        if level:
            if heading is None or level <= heading[0]:
                heading = None
            if _LIMITS.search(text):
                heading = (level, text.strip(" :#"))
        elif len(text) >= _SHORTEST and not _LEFT_BLANK.search(text):
            if heading is not None:
                limits.setdefault(heading[1], _shortened(text))
                heading = None
            elif about is None and not is_list:
                about = _shortened(text)
    return {"about": about, "limits": limits}


def _blocks(markdown: str) -> Iterator[tuple[int, str, bool]]:
    """(level, text, is a list) of headings, paragraphs and lists; only headings have a level."""
    import mistune

    parse: Any = mistune.create_markdown(renderer="ast", plugins=["table"])
    lead = ""  # a paragraph that ends in a colon belongs to the list after it, if there is one
    for block in parse(markdown):
        kind = block["type"]
        if kind == "blank_line":
            continue
        if kind == "list":
            items = (_sentence(_plain(item)) for item in block["children"])
            yield 0, " ".join([lead, *items]).strip(), not lead
            lead = ""
            continue
        if lead:
            yield 0, _sentence(lead), False
            lead = ""
        if kind == "heading":
            yield block["attrs"]["level"], _plain(block), False
        elif kind in ("paragraph", "block_quote"):
            text = _plain(block)
            if text.endswith(":"):
                lead = text
            else:
                yield 0, text, False
    if lead:
        yield 0, _sentence(lead), False


def _plain(block: Mapping[str, Any]) -> str:
    """The words of a block without its markup; images and raw HTML are left out."""

    def words(token: Mapping[str, Any]) -> Iterator[str]:
        if token["type"] in ("image", "inline_html", "block_html", "block_code"):
            return
        if token["type"] in ("softbreak", "linebreak", "blank_line"):
            yield " "
        yield token.get("raw", "")
        for child in token.get("children", ()):
            yield from words(child)

    return " ".join(unescape("".join(words(block))).split())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "。")) else f"{text.rstrip(' :;,')}."


def _shortened(text: str) -> str:
    """Whole sentences up to the longest that is shown, else whole words."""
    if len(text) <= _LONGEST:
        return text
    start = text[:_LONGEST]
    end = max(start.rfind(mark) for mark in (". ", "! ", "? ", "。"))
    if end >= _SHORTEST:
        return start[: end + 1]
    return start.rpartition(" ")[0].rstrip(",;:") + "…"
