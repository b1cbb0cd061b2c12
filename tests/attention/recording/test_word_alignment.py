"""Tokens joined to words, in scripts with and without spaces."""

import pytest

from nbllm.attention.recording.word_alignment import word_numbers


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["un", "like", "ly", "!"], [0, 0, 0, 1]),
        ([" A", " fine", ",", " fi", "lm", "."], [0, 1, 2, 3, 3, 4]),
        (["don", "'", "t"], [0, 1, 2]),
        (["房", "间", "很", "干净"], [0, 1, 2, 3]),
        (["schö", "n", "\n", "es"], [0, 0, 1, 1]),
        (["a", " ", "fi", "lm"], [0, 1, 1, 1]),
        (["ह", "िन", "्द", "ी", " है"], [0, 0, 0, 0, 1]),
        (["caf", "e", "\u0301", "s", " \u05e9", "\u05b8\u05c1", "ל"], [0, 0, 0, 0, 1, 1, 1]),
        (["19", "84", " شك", "را"], [0, 0, 1, 1]),
    ],
)
def test_a_word_goes_on_where_letters_meet(pieces, expected) -> None:
    ends = [len("".join(pieces[: n + 1])) for n in range(len(pieces))]
    spans = list(zip([0, *ends], ends, strict=False))
    assert word_numbers("".join(pieces), spans) == expected


def test_bytes_of_one_character_belong_together() -> None:
    assert word_numbers("a 👍 b", [(0, 1), (1, 3), (2, 3), (2, 3), (3, 5)]) == [0, 1, 1, 1, 2]


def test_no_tokens_no_words() -> None:
    assert word_numbers("", []) == []
