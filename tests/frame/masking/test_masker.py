"""Masking: what is found, what is left, and that nothing leaves the machine."""

import json
import random
from collections import Counter
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.masking.masker import EntityMatch, Masker, _without_overlaps, mask_text

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


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Charge 4000000000000000006, please.", "Charge <CREDIT_CARD>, please."),
        ("Charge 4000 0000 0000 0000 006.", "Charge <CREDIT_CARD>."),
        ("Charge 501800000009.", "Charge <CREDIT_CARD>."),
        ("Charge 2131-0000-0000-001.", "Charge <CREDIT_CARD>."),
        # A valid check sum alone, as every tenth number has: no issuer has this range.
        ("Order 113542617735902 is late.", "Order 113542617735902 is late."),
        ("My card is 113542617735902.", "My card is <CREDIT_CARD>."),
        ("Charge 4000000000000000007.", "Charge 4000000000000000007."),
        ("send it to gb82west12345698765432 now", "send it to <IBAN_CODE> now"),
        ("send it to at61 1904 3002 3457 3201 from here", "send it to <IBAN_CODE> from here"),
        ("send it to gb83west12345698765432", "send it to gb83west12345698765432"),
        ("Please call 60-56-85-91 today.", "Please call <PHONE_NUMBER> today."),
        ("You reach us at (99) 645-791.", "You reach us at <PHONE_NUMBER>."),
        ("Dept. 4, 001-748-088-2851x818-Fax", "Dept. 4, <PHONE_NUMBER>-Fax"),
        ("Mein Telefon: 73 448 266", "Mein Telefon: <PHONE_NUMBER>"),
        ("请拨打电话138 1234 5678。", "请拨打电话<PHONE_NUMBER>。"),
        # The same digits without a word that says what they are.
        ("We made 60-56-85-91 points.", "We made 60-56-85-91 points."),
        ("He reigned (1644–1688) and died in 1688.", "He reigned (1644–1688) and died in 1688."),
        (
            "Called 1999, it reached 450 people.",
            "Called 1999, it reached 450 people.",
        ),
    ],
)
def test_what_is_found_and_what_is_left(text: str, masked: str) -> None:
    [found] = pd.DataFrame({"text": [text]}).llm.mask("text")["text_mask"]
    assert found == masked


def test_each_call_says_what_it_did_not_look_for(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    for _ in range(2):
        frame.llm.mask("text")
        said = capsys.readouterr().out
        assert "in 2 of 5 rows" in said
        for entity in ("PERSON", "LOCATION", "ORGANIZATION", "DATE_TIME", "URL"):
            assert entity in said.partition("Not looked for: ")[2]
        assert "spacy download en_core_web_sm" in said and "entities=" in said
        assert "Never found: street addresses" in said
    frame.llm.mask("text", ["DATE_TIME", "EMAIL_ADDRESS"])
    looked, _, left = capsys.readouterr().out.partition("Not looked for: ")
    assert "DATE_TIME" in looked and "DATE_TIME" not in left and "PHONE_NUMBER" in left


def test_dates_and_licences_are_found_where_they_are_asked_for() -> None:
    text = "Born on 12/24/1990, driver's license H12234567."
    assert Masker().find(text) == []
    found = Masker(["DATE_TIME", "US_DRIVER_LICENSE"]).find(text)
    assert [item.entity for item in found] == ["DATE_TIME", "US_DRIVER_LICENSE"]


def test_a_language_without_words_is_refused() -> None:
    with pytest.raises(FrameError, match="language='Klingon' is none"):
        Masker(language="Klingon")


def test_personal_data_of_a_set_is_found_and_little_else(data_dir: Path) -> None:
    rows = pd.read_parquet(data_dir / "presidio_pii_generated_large.parquet")
    masker = Masker()
    true: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    wrong = 0
    for row in rows.itertuples():
        found = masker.find(row.full_text)
        spans = list(zip(row.entity_types, row.starts, row.ends, strict=True))
        for entity, start, end in spans:
            true[entity] += 1
            seen[entity] += any(f.start <= start and end <= f.end for f in found)
        wrong += sum(not any(f.start < b and a < f.end for _, a, b in spans) for f in found)
    recall = {entity: seen[entity] / true[entity] for entity in masker.entities if true[entity]}
    assert min(recall.values()) > 0.95, recall
    assert wrong == 0
    # Texts without personal data of these kinds; before, years were taken for telephone numbers.
    contexts = pd.read_parquet(data_dir / "squad_v1_dev.parquet")["context"].unique()
    queries = pd.read_parquet(data_dir / "banking77.parquet")["text"][:2000]
    assert [f for text in [*contexts, *queries] for f in masker.find(text)] == []


_PIECES = (
    "+44 20 7946 0958", "(020) 7946-0958", "4012 8888 8888 1881", "DE89 3704 0044 0532 0130 00",
    "gb82west12345698765432", "192.168.1.1", "fe80::1", "ann@example.org", ".o'b@x-y.co=z@q.de",
    "536-22-8145", "00:1A:2B:3C:4D:5E", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "2020-01-02 08:00",
    "call", "phone", "card", "ssn", "电话", "Fax", "ext 22", "int", "доб", "x12", "12345",
    "7", "001", "555-1234", "1 800 555 0199", ",", ".", "-", "/", "@", "(", "a", "#", "~",
    "\n", "ー",
)  # fmt: skip


def _by_presidio(masker: Masker):
    """Presidio's own engine, which asks each recognizer about each text, as a whole."""
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer import predefined_recognizers as presidio
    from presidio_analyzer.nlp_engine import NlpEngine

    words = masker._analyzer.words

    class Words(NlpEngine):
        process_text = staticmethod(lambda text, _language: words(text))
        load = is_loaded = is_stopword = is_punct = get_supported_entities = process_batch = (
            lambda *_: True
        )
        get_supported_languages = staticmethod(lambda: ["en"])

    registry = RecognizerRegistry(supported_languages=["en"])
    for recognizer in masker._analyzer.recognizers:
        if type(recognizer).__name__ == "EmailRecognizer":
            recognizer = type(recognizer)(patterns=presidio.EmailRecognizer.PATTERNS)
        registry.add_recognizer(recognizer)
    return AnalyzerEngine(registry=registry, nlp_engine=Words(), supported_languages=["en"])


def test_what_is_left_out_for_speed_would_have_found_nothing() -> None:
    masker = Masker([*Masker().entities, "DATE_TIME", "US_DRIVER_LICENSE", "URL"])
    engine = _by_presidio(masker)
    draw = random.Random(0)
    for _ in range(300):
        parts = draw.choices(_PIECES, k=draw.randint(1, 12))
        text = "".join(part + draw.choice(["", " ", " "]) for part in parts)
        asked = engine.analyze(text, "en", list(masker.entities), score_threshold=0.4)
        found = [EntityMatch(r.entity_type, r.start, r.end, float(r.score)) for r in asked]
        assert masker.find(text) == _without_overlaps(found), text


def test_a_long_text_is_masked_as_its_sentences_are() -> None:
    draw = random.Random(0)
    sentences = [text for text in TEXTS if text and text.strip()] + [
        "Wir sprachen über Suppe, Brot und Salz, mehr nicht.",
        "Call 60-56-85-91 today, or write to bo@example.net.",
    ]
    masker = Masker()
    text = " ".join(draw.choices(sentences, k=300))
    whole = mask_text(text, masker.find(text))
    shorter = {sentence: mask_text(sentence, masker.find(sentence)) for sentence in sentences}
    expected = text
    for sentence, short in shorter.items():
        expected = expected.replace(sentence, short)
    assert whole == expected
