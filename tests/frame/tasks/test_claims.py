"""Sentences beside the text that they are about, by words alone."""

import json

import pytest

from nbllm.frame.tasks.claims import Claim, Source, evidence_json

TEXT = (
    "Hikers near Lake Maren found a rare orchid on Tuesday. Eleven plants are in flower.\n"
    "No one may visit the slope before 1 October, said Ines Park."
)


def claim(sentence: str, text: str = TEXT) -> Claim:
    [found] = Source(text).claims(sentence)
    return found


def evidence(sentence: str, text: str = TEXT) -> str | None:
    return Source(text).slice(claim(sentence, text).evidence)


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("A rare orchid was found.", "Hikers near Lake Maren found a rare orchid on Tuesday."),
        ("11 plants flower", "Eleven plants are in flower."),
        ("Park closed it.", "No one may visit the slope before 1 October, said Ines Park."),
        ("Zebras!", None),
    ],
)  # fmt: skip
def test_the_nearest_sentence_is_the_evidence(sentence: str, found: str | None) -> None:
    assert evidence(sentence) == found


def test_chinese_has_evidence_too() -> None:
    text = "天气很好。北京地铁开通了三条新线路！市民高兴吗？"
    assert evidence("北京有新的地铁线路。", text) == "北京地铁开通了三条新线路！"


@pytest.mark.parametrize("text", ["", " \n", "...", "<p></p>"])
def test_without_words_there_is_no_evidence(text: str) -> None:
    found = claim("It rained.", text or " ")
    assert found.evidence is None and found.coverage == 0.0


def test_names_and_numbers_that_the_text_lacks_are_named() -> None:
    found = claim("Ines Berg saw 11 plants and 12 people on the first Tuesday.")
    assert [word for *_, word in found.names] == ["Berg", "Tuesday"]
    assert [word for *_, word in found.numbers] == ["11", "12"]
    assert [word for *_, word in found.lacking] == ["Berg", "12"]


@pytest.mark.parametrize(
    ("sentence", "negated", "denied"),
    [
        ("Hikers found an orchid.", False, False),
        ("Hikers didn't find an orchid.", True, False),
        ("People may visit the slope before October.", False, True),
        ("People may not visit the slope before October.", False, False),
    ],
)
def test_negations_are_compared_with_those_of_the_evidence(
    sentence: str, negated: bool, denied: bool
) -> None:
    found = claim(sentence)
    assert (found.negated, found.denied) == (negated, denied)


def test_evidence_as_json_has_offsets_in_the_text() -> None:
    found = json.loads(evidence_json("Eleven plants flower. Zebras!", TEXT))
    assert [one["sentence"] for one in found] == ["Eleven plants flower.", "Zebras!"]
    assert TEXT[found[0]["start"] : found[0]["end"]] == found[0]["evidence"]
    assert found[1] == {"sentence": "Zebras!", "evidence": None, "start": None, "end": None}
