"""Names and numbers, and whether a source has them."""

import pytest

from nbllm.engine.structured.names import Vocabulary, names_of, number_of


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("1,000", 1000.0),
        ("2.50", 2.5),
        ("seven", 7.0),
        ("one", None),
        ("3D", None),
        ("1.2.3", None),
    ],
)
def test_numbers_in_digits_and_words(word: str, number: float | None) -> None:
    assert number_of(word) == number


@pytest.mark.parametrize("word", ["1000", "1,000", "Three", "3", "GAN", "gans", "alice"])
def test_a_source_has_a_number_in_any_form_and_a_name_in_any_number(word: str) -> None:
    assert Vocabulary("Alice trained three GANs for 1,000.00 pounds.").has(word)


@pytest.mark.parametrize("word", ["1001", "four", "Bob", "GANx"])
def test_a_source_lacks_others(word: str) -> None:
    assert not Vocabulary("Alice trained three GANs for 1,000.00 pounds.").has(word)


def test_the_first_word_of_a_sentence_is_a_name_only_by_another_capital() -> None:
    assert [word for *_, word in names_of("BBC")] == ["BBC"]
    assert names_of("Paris") == []
    assert [word for *_, word in names_of("In Paris, 12 X-rays")] == ["Paris", "X"]
