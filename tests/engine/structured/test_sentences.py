"""Where sentences end."""

import pytest

from nbllm.engine.structured.sentences import close_sentence, sentence_spans, whole_sentences


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("It rained. They went ho", "It rained."),
        ('He said "No." Then he le', 'He said "No."'),
        ("It rained. Mr. Lee came wi", "It rained."),
        ("It rained. J. Lee ca", "It rained."),
        ("version 3.5 is", ""),
        ("Mr.", ""),
        ("下雨了。他们回", "下雨了。"),
    ],
)
def test_whole_sentences(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


@pytest.mark.parametrize(
    ("text", "closed"),
    [("It rained,", "It rained."), ("下雨了", "下雨了。"), ("No!", "No!"), (", ", ""), ("", "")],
)
def test_a_sentence_is_closed(text: str, closed: str) -> None:
    assert close_sentence(text) == closed


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rained. Mr. Lee left.", ["It rained.", "Mr. Lee left."]),
        ("Storm warning\n\nIt rained", ["Storm warning", "It rained"]),
        ("下雨了。他们回家！好", ["下雨了。", "他们回家！", "好"]),
        ("<p>It rained.</p> <br>Snow!", ["<p>It rained.</p> <br>Snow!"]),
        ("...", []),
        ("", []),
    ],
)
def test_sentences_of_a_text(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences
