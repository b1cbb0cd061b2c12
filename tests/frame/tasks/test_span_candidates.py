"""Which spans of a text may be values, and the numbers and dates that they spell."""

import pytest

from nbllm.frame.tasks.span_candidates import (
    date_of,
    integer_of,
    is_allowed,
    number_of,
    spans_of,
)


def spans(text: str) -> list[str]:
    found = list(spans_of(text))
    assert all(0 <= start < end <= len(text) for start, end in found)
    return [text[start:end] for start, end in found]


def test_a_span_goes_over_no_mark_between_words() -> None:
    assert spans('He said "go now", twice.') == [
        "He",
        "He said",
        "said",
        "go",
        "go now",
        "now",
        "twice",
    ]


def test_a_title_and_a_date_stay_whole() -> None:
    assert {"Mr. Smith", "from Mr. Smith"} <= {*spans("a bill from Mr. Smith")}
    assert "May 4, 2026" in spans("It came on May 4, 2026.")
    assert "order. Smith" not in spans("my order. Smith called")


@pytest.mark.parametrize(
    "word", ["#37777", "ORD-2291", "113542617735902", "a.b@c.org", "$299", "66-4012", "Müller"]
)
def test_a_word_with_signs_is_one_span(word: str) -> None:
    assert word in spans(f"see ({word}), please")


def test_five_words_are_the_most_and_blank_texts_have_none() -> None:
    assert max(len(span.split()) for span in spans("a b c d e f g")) == 5
    assert spans(" \n") == spans("...") == spans("") == []


def test_chinese_needs_no_spaces() -> None:
    assert "张三" in spans("你好，我叫张三。")
    assert not any("好我" in span for span in spans("你好，我叫张三。"))


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("$1,200", 1200.0), ("40 euros", 40.0), ("-2.5", -2.5), ("15%", 15.0), ("7", 7.0),
        ("forty", None), ("A-12", None), ("66-4012", None), ("40 euros each", None), ("", None),
        ("12 May 3", None), ("1,2", None),
    ],
)  # fmt: skip
def test_numbers(words: str, number: float | None) -> None:
    assert number_of(words) == number


def test_whole_numbers_and_dates() -> None:
    assert (integer_of("3 pans"), integer_of("2.5"), integer_of("9" * 30)) == (3, None, None)
    assert (
        date_of("4 June 2026") == date_of("2026-06-04") == date_of("June 4, 2026") == "2026-06-04"
    )
    assert date_of("4 June") is date_of("31.02.2026") is None


def test_bounds_of_the_schema() -> None:
    assert is_allowed("ab", {"type": "string", "minLength": 2, "maxLength": 2, "pattern": "^a"})
    assert not is_allowed("ab", {"pattern": "^b"}) and not is_allowed("ab", {"maxLength": 1})
    assert is_allowed(3, {"minimum": 3, "maximum": 3}) and not is_allowed(
        3, {"exclusiveMinimum": 3}
    )
