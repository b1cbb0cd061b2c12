"""Nothing that reads a user's text or a model's takes longer than in proportion to its length.

A megabyte may take a second of processor time, and five on a machine that has other work. What
takes time as the square of a length, as regular expressions easily do, takes hundreds here.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest
from transformers import PreTrainedTokenizerFast

from nbllm.blank import is_blank
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Part
from nbllm.engine.structured import names, prose, sentences
from nbllm.errors import NbllmError
from nbllm.frame.evaluation import masks, text_metrics
from nbllm.frame.evaluation.truth import label_text
from nbllm.frame.prompts import field_types
from nbllm.frame.retrieval import sources, words
from nbllm.frame.running import pieces
from nbllm.frame.tasks.bound_span import locate
from nbllm.frame.verbs import prompt
from nbllm.models import readme
from tests.conftest import byte_tokenizer

LENGTH = 15_000
SECONDS = 5e-6  # a character

# What repeats in a text; a text may also end in what makes an expression look back.
UNITS = (
    "a", "A", "Aa ", "ab ", "é", "e\u0301", "中", "，", "。", "あ", "한", "\U0001f600", "\u200d",
    "1", "1 ", "1-", "1.", "1,", "1:", "+1", "00 ", "(1", "1/1", "//1", "1a", "1a1a", "٣", "１",
    ".", "..", "…", "! ", "? ", "Mr. ", ". ", ".\"", "。」", ",", ":", "::", ";", "-", "_", "*",
    "**", "`", "#", "# ", "~", "&", "=", "@", "a@", "a.", "a@a.", "a@a.a ", "a-", "a_", "http://",
    "www.", "\"", "'", "“", "(", "([", "[", "{", "{{", "}}", "{a}", "<", "</", "<a ", "<!--",
    "[a](", "![", "> ", "- ", "***a", "|a|\n|-|\n", "\\", "/", " ", "\n", "\n ", "\r", "\t",
    "\u2028", "\u00a0", "\x00", "4111 ", "4012 8888 8888 1881 ", "DE89 ", "bc1", "aa:bb:",
    "fe80::1 ", "1.1.1.", "2020-01-02 ",
)  # fmt: skip
ENDS = ("", "@x.\n!")


def finished(text: str) -> str | Exception:
    """A text as it is left where a model was stopped in it."""
    generator = object.__new__(TextGenerator)
    generator.stop, generator.whole_sentences = "</s>", True
    return generator._finish(text, ended=False)


def typed(text: str) -> object:
    return field_types._type("field", text)


def encoded(text: str) -> object:
    template = CompiledTemplate((Part("field", "text"),), byte_tokenizer_once())
    return template.encode([(text,)], limit=LENGTH * 8)


@cache
def byte_tokenizer_once() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


READERS: dict[str, Callable[[str], object]] = {
    "is_blank": is_blank,
    "label_text": label_text,
    "sentences of a model": finished,
    "whole sentences": sentences.whole_sentences,
    "the end of a sentence": sentences.close_sentence,
    "sentences of a text": sentences.sentence_spans,
    "names of a sentence": names.names_of,
    "number of words": prose.count_words,
    "a loop": lambda text: prose._loop_start(text[:1000]),
    "names of a source": lambda text: names.Vocabulary(text[:100]).allows(text),
    "an answer's place": lambda text: locate("a 1 a. b", text),
    "the place of a long answer": lambda text: locate(text[:200], text[1:] + "x"),
    "a row of a prompt": encoded,
    "search terms": words.terms,
    "words to search among": lambda text: words.WordIndex([text, "a b"]).scores("a 1"),
    "numbers of a draft": lambda text: sources.unsupported_numbers(text, text[:100]),
    "words in common": lambda text: sources.groundedness(text, "a b"),
    "words": text_metrics.words,
    "first sentences": lambda text: text_metrics.first_sentences(text, like=text + " b c"),
    "baseline spans": masks.baseline_spans,
    "a prompt": prompt._parse,
    "a type": typed,
    "a model card": readme._passages,
    "pieces of a long text": lambda text: pieces._pieces(
        text, [(n, n + 2) for n in range(0, len(text), 2)], 500
    ),
}


def spent(read: Callable[[str], object], text: str) -> float:
    """Processor seconds of this thread; what cannot be read may be refused."""
    start = time.thread_time()
    with suppress(NbllmError):
        read(text)
    return time.thread_time() - start


def slow(
    read: Callable[[str], object],
    *,
    length: int = LENGTH,
    seconds_a_character: float = SECONDS,
    ends: tuple[str, ...] = ENDS,
) -> list[str]:
    """Texts that take longer, also when they are read again."""
    most = seconds_a_character * length
    texts = {(unit, end): (unit * length)[:length] + end for unit in UNITS for end in ends}
    return [
        f"{unit!r} and so on, then {end!r}"
        for (unit, end), text in texts.items()
        if spent(read, text) > most and spent(read, text) > most
    ]


@pytest.mark.parametrize("reader", READERS)
def test_any_text_is_read_in_proportion_to_its_length(reader: str) -> None:
    assert slow(READERS[reader]) == []


def test_any_text_is_masked_in_proportion_to_its_length() -> None:
    pytest.importorskip("presidio_analyzer")
    from nbllm.frame.masking.masker import Masker

    entities = [name for name in Masker().entities if name != "PHONE_NUMBER"]
    # A match costs more than a text without one, and these units are hundreds of matches.
    words = " ann@example.org card email ip 4012888888881881 ::1"
    masker = Masker([*entities, "DATE_TIME"])
    assert slow(masker.find, length=9_000, seconds_a_character=10 * SECONDS, ends=("", words)) == []


def test_a_megabyte_is_masked_in_a_second_or_refused_in_words() -> None:
    pytest.importorskip("presidio_analyzer")
    from nbllm.frame.masking.masker import Masker

    masker = Masker([*Masker().entities, "DATE_TIME"])
    masker.find("0123456789 a@example.org")
    assert slow(masker.find, length=1_000_000, ends=("",)) == []


@pytest.mark.parametrize(
    ("unit", "fits", "what"),
    [
        ("call 0171 1234567, ", 1_500, "telephone numbers among 1,500"),
        ("::1 ", 10_000, "10,000 pieces of personal data"),
    ],
)
def test_the_most_that_is_masked_in_one_text_is_masked_in_a_second(
    unit: str, fits: int, what: str
) -> None:
    pytest.importorskip("presidio_analyzer")
    from nbllm.errors import FrameError
    from nbllm.frame.masking.masker import Masker

    masker = Masker()
    prose = "a word or two " * 50_000
    start = time.thread_time()
    assert len(masker.find(prose + unit * fits)) == fits
    assert time.thread_time() - start < 5
    with pytest.raises(FrameError, match=what):
        masker.find(prose + unit * (fits + 1))
