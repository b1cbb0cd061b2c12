"""From figures to verdicts, and what a ledger may hold."""

import json
from typing import Any

import pytest

from nbllm.frame.tasks.evidence import CONTRADICTED, NOT_IN_TEXT, SUPPORTED, EvidenceTask

SENTENCE: dict[str, Any] = {
    "sentence": "Eleven plants flower near Lake Maren.",
    "evidence": "Eleven plants are in flower.",
    "start": 55,
    "end": 83,
    "gain": 2.0,
    "likelihood": -1.0,
    "coverage": 1.0,
    "names": [["Lake", -0.5, True], ["Maren", -0.1, True]],
    "numbers": [["Eleven", -1.0, True]],
    "negated": False,
    "denied": False,
}


def judge(threshold: float = 0.5, **changed: Any) -> tuple[Any, ...]:
    """The verdict, score and sentences of one sentence."""
    task = EvidenceTask("check", (), threshold)
    [verdict], [score], [sentences] = task.decode([[{**SENTENCE, **changed}]], None)
    return verdict, score, json.loads(sentences)


@pytest.mark.parametrize(
    ("changed", "verdict", "misquoted"),
    [
        ({}, SUPPORTED, []),
        ({"gain": -0.5, "coverage": 0.1, "likelihood": -4.0}, NOT_IN_TEXT, []),
        ({"names": [["Lake", -0.5, True], ["Geneva", -18.0, False]]}, CONTRADICTED, ["Geneva"]),
        ({"names": [["Lake", -0.5, True], ["Park", -25.0, True]]}, CONTRADICTED, ["Park"]),
        ({"numbers": [["Twelve", -9.0, False]]}, CONTRADICTED, ["Twelve"]),
        ({"negated": True}, CONTRADICTED, []),
    ],
)
def test_the_smallest_part_says_what_is_wrong(
    changed: dict[str, Any], verdict: str, misquoted: list[str]
) -> None:
    found, score, [sentence] = judge(**changed)
    assert (found, sentence["misquoted"]) == (verdict, misquoted)
    assert (score >= 0.5) == (verdict == SUPPORTED)
    assert sentence["score"] == score


def test_a_name_that_the_text_lacks_is_never_supported() -> None:
    verdict, score, [sentence] = judge(names=[["Kew", -0.2, False]])
    assert (verdict, sentence["misquoted"]) == (CONTRADICTED, ["Kew"]) and score >= 0.5


def test_what_the_text_has_word_for_word_is_supported() -> None:
    unlikely = {"gain": -9.0, "names": [["A", -25.0, True]]}
    verdict, score, [sentence] = judge(sentence="A  fox.", evidence="A fox.", **unlikely)
    assert (verdict, sentence["misquoted"]) == (SUPPORTED, []) and score < 0.5


def test_without_evidence_nothing_is_contradicted() -> None:
    changed = {"evidence": None, "start": None, "end": None, "negated": True, "coverage": 0.0}
    assert judge(**changed)[0] == NOT_IN_TEXT


def test_the_worst_sentence_counts_and_the_threshold_decides() -> None:
    task = EvidenceTask("check", (), 0.5)
    other = {**SENTENCE, "sentence": "It is not.", "negated": True}
    [verdict], [score], [sentences] = task.decode([[SENTENCE, other]], None)
    assert verdict == CONTRADICTED
    assert score == min(one["score"] for one in json.loads(sentences))
    assert judge(threshold=0.999)[0] != SUPPORTED
    assert judge(threshold=0.0, negated=True)[0] == SUPPORTED


@pytest.mark.parametrize(
    "changed",
    [
        {"sentence": 3},
        {"evidence": None},
        {"start": 1.5},
        {"gain": "much"},
        {"likelihood": float("nan")},
        {"coverage": None},
        {"names": [["Lake", -0.5]]},
        {"numbers": [["Lake", "x", True]]},
        {"negated": 1},
    ],
    ids=str,
)
def test_what_a_ledger_may_not_hold(changed: dict[str, Any]) -> None:
    task = EvidenceTask("check", (), 0.5)
    assert task.is_answer([SENTENCE]) and not task.is_answer([])
    assert not task.is_answer([{**SENTENCE, **changed}])
    assert not task.is_answer({}) and not task.is_answer([[]])
