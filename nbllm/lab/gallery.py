"""The curated notebooks: title, summary and duration of each, and a copy for the user's folder.

The first cell of each begins with a heading, which is its title; the paragraph after it is its
summary; and anywhere in the cell it says how long it takes, as "About 3 minutes" or
"About a minute".
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

__all__ = ["Curated", "copy", "curated", "find", "read"]

_WHEEL = Path(__file__).parent / "notebooks"
_CHECKOUT = Path(__file__).parents[2] / "notebooks"

_WORDS = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_MINUTES = re.compile(rf"\babout ({'|'.join(_WORDS)}|\d+) minutes?\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\d+_")


@dataclass(frozen=True)
class Curated:
    """A notebook of the gallery, as it describes itself."""

    name: str  # of its file
    title: str
    summary: str
    minutes: int | None  # that it says it takes


def curated() -> list[Curated]:
    """Return the notebooks of the gallery, in the order of their numbers."""
    return [_introduced(path) for path in _files()]


def find(name: str) -> Curated:
    """Return a notebook of the gallery.

    Args:
        name: Its name: 10_sentiment.ipynb, 10_sentiment or sentiment.

    Raises:
        GalleryError: There is none.
    """
    here = curated()
    for notebook in here:
        stem = notebook.name.removesuffix(".ipynb")
        if name in (notebook.name, stem, _NUMBERED.sub("", stem, count=1)):
            return notebook
    raise GalleryError(
        f"There is no curated notebook {name!r}. There are: "
        f"{', '.join(notebook.name for notebook in here) or 'none in this installation'}."
    )


def read(name: str) -> dict[str, Any]:
    """Return the content of a notebook, without outputs.

    Args:
        name: The name of its file.

    Raises:
        GalleryError: There is none.
    """
    # Looked for in the list, and never joined to a folder: a name may be `../../secret`.
    path = next((path for path in _files() if path.name == name), None)
    if path is None:
        raise GalleryError(
            f"There is no curated notebook {name!r}. Choose one of the gallery's list."
        )
    return _parsed(path)


def copy(name: str, folder: str | Path = ".") -> Path:
    """Copy a notebook into a folder, beside and never over what is there.

    Args:
        name: The notebook, as `find` takes it.
        folder: An existing folder.

    Returns:
        The copy: 10_sentiment.ipynb or, where that is taken, 10_sentiment-1.ipynb.

    Raises:
        GalleryError: There is no such notebook or folder, or the folder cannot be written.
    """
    notebook = find(name)
    text = json.dumps(read(notebook.name), ensure_ascii=False, indent=1) + "\n"
    stem = notebook.name.removesuffix(".ipynb")
    where = Path(folder).expanduser()
    for number in count():
        path = where / (f"{stem}-{number}.ipynb" if number else notebook.name)
        try:
            with path.open("x", encoding="utf-8") as out:
                out.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            raise GalleryError(
                f"{notebook.name} could not be copied to {where}: {error}. Name an existing "
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


def _introduced(path: Path) -> Curated:
    first = _source(next(iter(_parsed(path)["cells"]), {}))
    paragraphs = _paragraphs(first)
    title = next(paragraphs, "")
    minutes = _MINUTES.search(first)
    return Curated(
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
