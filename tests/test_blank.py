"""What a reader cannot see is blank, over all of Unicode."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.blank import is_blank

# One of each kind that Unicode draws as nothing.
UNSEEN = [
    "", " ", "\n\t\r\v\f", "\x00", "\x1b", "\x7f", "\x85", "\xa0", "\xad", "\u034f", "\u061c",
    "\u115f", "\u1160", "\u1680", "\u17b4", "\u180b", "\u180e", "\u2000", "\u200b", "\u200c",
    "\u200d", "\u200e", "\u2028", "\u2029", "\u202e", "\u202f", "\u2060", "\u2064", "\u2066",
    "\u2800", "\u3000", "\u3164", "\ufe0f", "\ufeff", "\uffa0", "\ufff9", "\U0001d159",
    "\U0001d173", "\U000e0001", "\U000e0020", "\U000e0100",
]  # fmt: skip
SEEN = [
    "a", ".", "0", "é", "中", "ㅎ", "ก", "👍", "👩\u200d🍳", "❤\ufe0f", "🏴\U000e0067\U000e007f",
    "e\u0301", "\u0301", "\u0600", "\u06dd", "\ufffd", "\ud800", "\ue000", "́", "⠁", "𝄞",
]  # fmt: skip


@pytest.mark.parametrize("text", UNSEEN, ids=ascii)
def test_what_cannot_be_seen_is_blank(text: str) -> None:
    assert is_blank(text) and is_blank(f" {text}\n{text}")


@pytest.mark.parametrize("text", SEEN, ids=ascii)
def test_what_can_be_seen_is_not(text: str) -> None:
    assert not is_blank(text)
    assert not is_blank(f"\ufeff{text}\u200b")


@given(
    st.lists(st.sampled_from(UNSEEN)).map("".join),
    st.lists(st.sampled_from(SEEN), min_size=1).map("".join),
)
def test_one_sign_among_others_is_enough(unseen: str, seen: str) -> None:
    assert is_blank(unseen) and not is_blank(unseen + seen + unseen)


def test_all_of_unicode() -> None:
    """Letters, marks, numbers, punctuation and signs are seen; controls and separators are not."""
    blank = {c for c in map(chr, range(sys.maxunicode + 1)) if is_blank(c)}
    kinds = {unicodedata.category(c) for c in blank}
    assert kinds == {"Cc", "Cf", "Cn", "Lo", "Mn", "So", "Zl", "Zp", "Zs"}
    by_kind = {kind: [c for c in blank if unicodedata.category(c) == kind] for kind in kinds}
    assert {unicodedata.name(c).split()[0] for c in by_kind["Lo"]} == {"HANGUL", "HALFWIDTH"}
    assert all(
        "SELECTOR" in unicodedata.name(c)
        or c in ("\u034f", "\u17b4", "\u17b5")  # a joiner and two vowels that are never written
        for c in by_kind["Mn"]
    )
    assert sorted(by_kind["So"]) == ["\u2800", "\U0001d159"]
    whole = {chr(c) for c in range(sys.maxunicode + 1)}
    assert {c for c in whole if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Zs")} <= blank
    assert all(c in blank for c in whole if c.isspace())
