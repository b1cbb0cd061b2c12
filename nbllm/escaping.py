"""Text from outside on its way to a page, a chart or a terminal, where parts of it would act.

Everything that nbllm shows goes through here: rows and labels, names of columns, models and
files, model cards, errors, and what a model writes. ruff refuses `html.escape`, `print` and the
standard streams everywhere else (pyproject.toml), and tests/test_escaping.py looks at what comes
out of each of nbllm's displays.
"""

from __future__ import annotations

import html
import re
import sys

__all__ = ["chart_text", "escape", "say", "visible"]

# C0 but for tab and newline, DEL, C1, halves of a surrogate pair, and the two that XML forbids. A
# terminal obeys the first three; the others cannot be written as UTF-8 or read as XML.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_DELETE = 0x7F
_PICTURES = 0x2400  # Unicode's pictures of the control characters

# Beginnings of a direction of writing (https://www.unicode.org/reports/tr9/), and their ends.
_END_OF_ISOLATE = "\u2069"
_ENDS = {
    **dict.fromkeys("\u202a\u202b\u202d\u202e", "\u202c"),
    **dict.fromkeys("\u2066\u2067\u2068", _END_OF_ISOLATE),
}
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return the text with pictures in the place of the characters that a terminal would obey.

    Tabs and newlines stay; a carriage return before a newline is left out. What cannot be
    written as UTF-8, or in XML, becomes U+FFFD.

    Example:
        >>> visible("\x1b[2Jsoup")
        '␛[2Jsoup'
    """
    return _UNSEEN.sub(_picture, text.replace("\r\n", "\n"))


def escape(text: str) -> str:
    """Return the text as HTML and XML, for an element or a quoted attribute.

    A direction of writing that it begins ends with it, so that what stands behind it is read
    the right way round.

    Example:
        >>> escape("<b>soup & 'bread'")
        '&lt;b&gt;soup &amp; &#x27;bread&#x27;'
    """
    return html.escape(visible(text)) + _open_directions(text)


def chart_text(text: str) -> str:
    """Return the text for plotly, which reads some tags, five entities, and TeX between dollars."""
    shown = html.escape(visible(text), quote=False).replace("$", "&#36;")
    return shown + _open_directions(text)


def say(text: object, *, error: bool = False, end: str = "\n") -> None:
    """Print to standard output, or to standard error; at once where no line ends."""
    print(
        visible(str(text)), end=end, file=sys.stderr if error else sys.stdout, flush="\n" not in end
    )


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    return "␡" if code == _DELETE else "\ufffd"


def _open_directions(text: str) -> str:
    """The ends that are missing of the directions of writing that a text begins."""
    missing: list[str] = []
    isolates = 0
    for found in _DIRECTIONS.finditer(text):
        end = _ENDS.get(found[0])
        if end is not None:
            missing.append(end)
            isolates += end == _END_OF_ISOLATE
        elif found[0] != _END_OF_ISOLATE:
            if missing and missing[-1] == found[0]:
                missing.pop()
        elif isolates:
            isolates -= 1
            while missing.pop() != _END_OF_ISOLATE:  # it ends those within, too
                pass
    return "".join(reversed(missing))
