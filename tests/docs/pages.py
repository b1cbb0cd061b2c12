"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# What a block may need that these tests do not have. Ray takes half a minute to start workers;
# tests/frame/running/test_ray.py asks it the same.
NEEDS = {"network", "gpu", "ray"}

_BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[\w ]+) -->\n\n?)?^```(?P<language>\S*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what it needs, and where it stands."""

    page: Path
    line: int  # of its first line of code
    language: str
    needs: str | None
    code: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """A page as the tests name it."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            found["needs"],
            found["code"],
        )
        for found in _BLOCK.finditer(text)
    ]
