"""Masking: what is found, what is left, and that nothing leaves the machine."""

import json

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.tasks.mask import Masker

pytest.importorskip("presidio_analyzer")

TEXTS = [
    "Write to ann.o'neil@mail.example.co.uk or call +44 20 7946 0958 today.",
    "Card 4012 8888 8888 1881, IBAN DE89 3704 0044 0532 0130 00, from 192.168.10.4.",
    "Order 12345 of 2019 has 3 parts.",
    None,
    " ",
]


@pytest.mark.parametrize("module", [pd, pl])
def test_personal_data_is_replaced(module) -> None:
    frame = module.DataFrame({"text": TEXTS, "n": range(5)})
    answered = frame.llm.mask("text")
    assert type(answered) is type(frame)
    assert list(answered.columns) == ["text", "n", "text_mask", "text_mask_entities",
                                      "text_mask_error"]  # fmt: skip
    assert answered["text_mask"].to_list()[:3] == [
        "Write to <EMAIL_ADDRESS> or call <PHONE_NUMBER> today.",
        "Card <CREDIT_CARD>, IBAN <IBAN_CODE>, from <IP_ADDRESS>.",
        TEXTS[2],
    ]
    assert all(pd.isna(value) for value in answered["text_mask"].to_list()[3:])
    found = json.loads(answered["text_mask_entities"].to_list()[1])
    assert [TEXTS[1][item["start"] : item["end"]] for item in found] == [
        "4012 8888 8888 1881", "DE89 3704 0044 0532 0130 00", "192.168.10.4"
    ]  # fmt: skip
    assert all(0.4 <= item["score"] <= 1 for item in found)
    # What was masked is not written down beside it.
    assert "4012" not in answered["text_mask_entities"].to_list()[1]
    assert answered.llm.mask("text").equals(answered)


def test_numbers_that_fail_their_check_sum_stay() -> None:
    text = "4012 8888 8888 1882 and DE89 3704 0044 0532 0130 01"
    assert Masker(["CREDIT_CARD", "IBAN_CODE"]).find(text) == []


def test_a_word_nearby_makes_a_number_surer() -> None:
    masker = Masker(["US_SSN"])
    bare, named = (masker.find(f"{word} 536-22-8145.") for word in ("It is", "His SSN is"))
    assert bare[0].score < named[0].score


@pytest.mark.parametrize("language", ["de", "zh"])
def test_other_languages_have_patterns_too(language: str) -> None:
    found = Masker(language=language).find("请写信给 ann@example.org，谢谢。")
    assert [item.entity for item in found] == ["EMAIL_ADDRESS"]


def test_only_what_was_asked_for_is_masked() -> None:
    frame = pd.DataFrame({"text": TEXTS})
    answered = frame.llm.mask("text", ["PHONE_NUMBER"], into="safe", keep=("value",))
    assert list(answered.columns) == ["text", "safe", "safe_entities"]
    assert (
        answered["safe"][0]
        == "Write to ann.o'neil@mail.example.co.uk or call <PHONE_NUMBER> today."
    )


def test_names_need_a_model_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import spacy

    monkeypatch.setattr(spacy.util, "get_installed_models", list)
    with pytest.raises(FrameError, match=r"PERSON by a spaCy model.*spacy download"):
        Masker(["EMAIL_ADDRESS", "PERSON"])


def test_what_cannot_be_masked_is_refused() -> None:
    frame = pd.DataFrame({"text": TEXTS, "text_mask": 1})
    with pytest.raises(ColumnError, match="into="):
        frame.llm.mask("text")
    with pytest.raises(FrameError, match=r"no entity 'SHOE_SIZE'.*EMAIL_ADDRESS"):
        frame.llm.mask("text", ["SHOE_SIZE"])
    with pytest.raises(FrameError, match="keep='run'"):
        frame.llm.mask("text", keep=("run",))


def test_a_text_that_fails_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = Masker.find

    def poisoned(self: Masker, text: str):
        if "Card" in text:
            raise RuntimeError("poisoned")
        return find(self, text)

    monkeypatch.setattr(Masker, "find", poisoned)
    with pytest.warns(UserWarning, match=r"mask: 1 of 5 rows.*poisoned"):
        answered = pd.DataFrame({"text": TEXTS}).llm.mask("text")
    assert answered["text_mask"].notna().tolist() == [True, False, True, False, False]
    assert answered["text_mask_error"].notna().tolist() == [False, True, False, False, False]
