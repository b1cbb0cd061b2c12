"""The curated notebooks: their titles, summaries and durations, and copies for the user.

The first cell of each has its title as a heading, its summary as the next paragraph and, anywhere,
its duration, as in "About 3 minutes" or "About a minute".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from nbllm.errors import GalleryError

__all__ = [
    "CuratedNotebook",
    "copy_notebook",
    "curated_notebooks",
    "find_notebook",
    "read_notebook",
]

_WHEEL = Path(__file__).parent / "notebooks"
_CHECKOUT = Path(__file__).parents[2] / "notebooks"

_WORDS = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_MINUTES = re.compile(rf"\babout ({'|'.join(_WORDS)}|\d+) minutes?\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\d+_")


@dataclass(frozen=True)
class CuratedNotebook:
    """The description of a curated notebook, from its first cell."""

    name: str  # of the file
    title: str
    summary: str
    minutes: int | None


def curated_notebooks() -> list[CuratedNotebook]:
    """Return the curated notebooks, in the order of their numbers."""
    return [_described(path) for path in _files()]


def find_notebook(name: str) -> CuratedNotebook:
    """Return a curated notebook by its name.

    Args:
        name: The name, as 10_sentiment.ipynb, 10_sentiment or sentiment.

    Raises:
        GalleryError: There is no such notebook.
    """
    available = curated_notebooks()
    for notebook in available:
        stem = notebook.name.removesuffix(".ipynb")
        if name in (notebook.name, stem, _NUMBERED.sub("", stem, count=1)):
            return notebook
    raise GalleryError(
        f"There is no curated notebook {name!r}. There are: "
        f"{', '.join(notebook.name for notebook in available) or 'none in this installation'}."
    )


def read_notebook(name: str) -> dict[str, Any]:
    """Return the content of a curated notebook, without outputs.

    Args:
        name: The name of the file.

    Raises:
        GalleryError: There is no such notebook.
    """
    # Looked up, never joined to a folder, since the name may be `../../secret`.
    path = next((path for path in _files() if path.name == name), None)
    if path is None:
        raise GalleryError(
            f"There is no curated notebook {name!r}. Choose one of the gallery's list."
        )
    return _parsed(path)


def copy_notebook(name: str, folder: str | Path = ".") -> Path:
    """Copy a curated notebook into a folder, without replacing any file.

    Args:
        name: The name of the notebook, as for `find_notebook`.
        folder: An existing folder.

    Returns:
        The path of the copy: 10_sentiment.ipynb or, if that exists, 10_sentiment-1.ipynb and so on.

    Raises:
        GalleryError: There is no such notebook or folder, or the folder cannot be written.
    """
    notebook = find_notebook(name)
    text = json.dumps(read_notebook(notebook.name), ensure_ascii=False, indent=1) + "\n"
    stem = notebook.name.removesuffix(".ipynb")
    target = Path(folder).expanduser()
    for number in count():
        path = target / (f"{stem}-{number}.ipynb" if number else notebook.name)
        try:
            with path.open("x", encoding="utf-8") as out:
                out.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            raise GalleryError(
                f"{notebook.name} could not be copied to {target}: {error}. Name an existing "
                "folder that you may write to."
            ) from error
        return path
    raise AssertionError("count() does not end")


def _files() -> list[Path]:
    folder = _WHEEL if _WHEEL.is_dir() else _CHECKOUT
    return sorted(folder.glob("[0-9]*.ipynb"))


def _parsed(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return notebook


def _described(path: Path) -> CuratedNotebook:
    first = _source(next(iter(_parsed(path)["cells"]), {}))
    paragraphs = _paragraphs(first)
    title = next(paragraphs, "")
    minutes = _MINUTES.search(first)
    return CuratedNotebook(
        name=path.name,
        title=title.lstrip("#").strip() or path.stem,
        summary=next(paragraphs, ""),
        minutes=_number(minutes[1]) if minutes else None,
    )


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _paragraphs(text: str) -> Iterator[str]:
    return (" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _WORDS[word.lower()]
