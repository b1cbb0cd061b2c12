"""Writes a view as one HTML file that works from disk, without kernel and network.

The file has the widget's script and style, and stored answers to the browser's requests, so that it
shows what the notebook shows. The page reports requests without a stored answer. Its content has a
format number, which widgets/attention/page.ts checks; widgets/shared/offline.ts reads the answers.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbllm.escaping import escape
from nbllm.widgets.protocol.attention import (
    PAGE_CONTENT,
    PAGE_FORMAT,
    AttentionRequest,
    StoredAnswer,
)

__all__ = ["AnswerStore", "page"]

Handler = Callable[[AttentionRequest], tuple[Mapping[str, Any], NDArray[Any] | None]]

STYLE = """
html { color-scheme: light dark; }
body {
  max-width: 1240px; margin: 24px auto; padding: 0 16px;
  background: Canvas; color: CanvasText; font: 14px/1.5 system-ui, sans-serif;
}
footer { margin: 10px 4px; font-size: 12px; }
"""
# With this policy the browser blocks every fetch.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


class AnswerStore:
    """Answers to a browser's requests, up to a number of bytes; equal numbers are stored once.

    Args:
        answer: Returns the content and the numbers of the answer to a request.
        budget: The bytes that the answers may take.
    """

    def __init__(self, answer: Handler, budget: int) -> None:
        self.budget = budget
        self.size: int = 0  # bytes that the answers take
        self._answer = answer
        self._stored: set[str] = set()
        self._entries: list[str] = []
        self._blocks: list[str] = []  # numbers, as zlib streams in base64
        self._known: dict[bytes, int] = {}  # the index of each block, by its hash

    def cost(self, request: AttentionRequest) -> int:
        """Return the bytes that the answer to a request would take."""
        entry, _, block = self._encoded(request)
        return len(entry) + len(block or "")

    def store(self, request: AttentionRequest) -> bool:
        """Store the answer to a request; return False if the budget is exceeded."""
        name = json.dumps(request)
        if name in self._stored:
            return True
        entry, key, block = self._encoded(request)
        size = len(entry) + len(block or "")
        if self.size + size > self.budget:
            return False
        self.size += size
        self._stored.add(name)
        self._entries.append(entry)
        if block is not None:
            self._known[key] = len(self._blocks)
            self._blocks.append(block)
        return True

    def json(self) -> str:
        """Return all answers as the JSON of `StoredAnswers`."""
        entries, blocks = ",".join(self._entries), json.dumps(self._blocks)
        return f'{{"entries": [{entries}], "blocks": {blocks}}}'

    def _encoded(self, request: AttentionRequest) -> tuple[str, bytes, str | None]:
        """Return an answer's entry, the hash of its numbers and, if they are new, their block."""
        content, numbers = self._answer(request)
        entry = StoredAnswer(request=request, content=content)
        if numbers is None:
            return json.dumps(entry), b"", None
        data = np.ascontiguousarray(numbers).tobytes()
        key = sha256(data).digest()
        entry["block"] = self._known.get(key, len(self._blocks))
        if key in self._known:
            return json.dumps(entry), key, None
        return json.dumps(entry), key, b64encode(zlib.compress(data, 6)).decode("ascii")


def page(
    title: str, about: str, script: str, style: str, state: dict[str, Any], answers: AnswerStore
) -> str:
    """Return the text of the HTML file.

    Args:
        title: The title of the page.
        about: The text below the view, on what the file contains.
        script: The widget's script.
        style: The widget's style sheet.
        state: The synced traits of the view.
        answers: The stored answers.
    """
    content = f'{{"format": {PAGE_FORMAT}, "state": {json.dumps(state)}, '
    content += f'"about": {json.dumps(about)}, "answers": '
    content += answers.json() + "}"
    # A script element has no escapes: "</script" or "<!--" in a text would end or change it. In
    # JSON, "<" occurs in strings only, which can escape it.
    content = content.replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        "<noscript>This page draws what it holds with JavaScript, which is off.</noscript>\n"
        f'<script type="application/json" id="{PAGE_CONTENT}">{content}</script>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )
