"""Answers pointed at in a text, against transformers' own windows and a search by hand."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import exp
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForQuestionAnswering,
)

import nbllm
from nbllm.engine.batching import TokenBudget
from nbllm.engine.spans import FoundSpan, Pieces, SpanExtractor, _starts
from nbllm.errors import FrameError, UnsupportedModelError
from nbllm.models.model import Model
from tests.conftest import byte_tokenizer, seeded, tiny_model, word_tokenizer

LENGTH = 64  # of a sequence here
SHAPE = {"initializer_range": 0.5}


def bert() -> tuple[Any, PreTrainedTokenizerFast]:
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=LENGTH, **SHAPE,
    )  # fmt: skip
    return seeded(BertForQuestionAnswering, config), tokenizer


def distilbert() -> tuple[Any, PreTrainedTokenizerFast]:
    tokenizer = word_tokenizer()
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, hidden_dim=64, n_layers=2, n_heads=4,
        max_position_embeddings=LENGTH, **SHAPE,
    )  # fmt: skip
    return seeded(DistilBertForQuestionAnswering, config), tokenizer


def roberta() -> tuple[Any, PreTrainedTokenizerFast]:
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, tokenizer.bos_token_id), (end, tokenizer.eos_token_id)],
    )
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=LENGTH + tokenizer.pad_token_id + 1,
        pad_token_id=tokenizer.pad_token_id, type_vocab_size=1, **SHAPE,
    )  # fmt: skip
    return seeded(RobertaForQuestionAnswering, config), tokenizer


MADE = {"bert": bert, "distilbert": distilbert, "roberta": roberta}


def reader_of(name: str) -> Model:
    network, tokenizer = MADE[name]()
    causal = tiny_model("encoder")
    return replace(
        causal, network=network, tokenizer=tokenizer, kind="extractive_qa", name=name,
        context_length=LENGTH,
    )  # fmt: skip


@pytest.fixture(params=MADE)
def reader(request: pytest.FixtureRequest) -> Model:
    return reader_of(request.param)


PAIRS = [
    ("When?", "The soup was warm and the staff were kind."),
    ("什么？", "Er kam spät an 👍🏽 aber das Zimmer war schön. 房间很干净。"),
    ("Who was kind?", "  We waited an hour.\n\nTerrible service: the meal arrived cold. " * 9),
    ("What is it?", "好"),
]


def by_hand(model: Model, question: str, text: str) -> tuple[str, float]:
    """Transformers' own windows, one forward each, and every span in turn."""
    windows = model.tokenizer(
        question, text, truncation="only_second", max_length=LENGTH,
        stride=min(128, room_of(model, question) // 2), return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    best, nothing = (-float("inf"), "", 0), float("inf")
    for n, ids in enumerate(windows["input_ids"]):
        inputs = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in windows and not isinstance(
            model.network, DistilBertForQuestionAnswering
        ):
            inputs["token_type_ids"] = torch.tensor([windows["token_type_ids"][n]])
        with torch.inference_mode():
            out = model.network(**inputs)
        start, end = out.start_logits[0].tolist(), out.end_logits[0].tolist()
        nothing = min(nothing, start[0] + end[0])
        places, of = windows["offset_mapping"][n], windows.sequence_ids(n)
        inside = [i for i in range(len(ids)) if of[i] == 1]
        for i, j in product(inside, inside):
            if i <= j < i + 30:
                best = max(best, (start[i] + end[j], text[places[i][0] : places[j][1]].strip(), 0))
    return best[1], best[0] - nothing


def room_of(model: Model, question: str) -> int:
    return LENGTH + 1 - len(model.tokenizer(question, "b")["input_ids"])


def test_spans_and_margins_are_those_found_by_hand(reader: Model) -> None:
    engine = SpanExtractor(reader)
    rows = engine.encode(PAIRS)
    assert any(isinstance(row, Pieces) and len(row.sequences) > 2 for row in rows)
    found = engine([row for row in rows if isinstance(row, Pieces)])
    for (question, text), span in zip(PAIRS, found, strict=True):
        assert isinstance(span, FoundSpan)
        words, margin = by_hand(reader, question, text)
        assert text[span.start : span.end] == words and words
        assert span.margin == pytest.approx(margin, abs=1e-4)


def test_sequences_are_those_of_the_tokenizer(reader: Model) -> None:
    engine = SpanExtractor(reader)
    for question, text in PAIRS:
        [row] = engine.encode([(question, text)])
        windows = reader.tokenizer(
            question, text, truncation="only_second", max_length=LENGTH,
            stride=min(128, room_of(reader, question) // 2), return_overflowing_tokens=True,
        )  # fmt: skip
        assert isinstance(row, Pieces)
        assert [list(ids) for ids in row.sequences] == windows["input_ids"]


def test_a_row_does_not_depend_on_its_neighbours(reader: Model) -> None:
    engine = SpanExtractor(reader)
    rows = [row for row in engine.encode(PAIRS) if isinstance(row, Pieces)]
    together = engine(rows)
    engine._budget = TokenBudget(LENGTH)
    for row, span in zip(rows, together, strict=True):
        [alone] = engine([row])
        assert isinstance(alone, FoundSpan) and isinstance(span, FoundSpan)
        assert (alone.start, alone.end) == (span.start, span.end)
        assert alone.margin == pytest.approx(span.margin, abs=1e-4)


def test_special_tokens_spelled_out_stay_text(reader: Model) -> None:
    mark = reader.tokenizer.sep_token or reader.tokenizer.eos_token
    [row] = SpanExtractor(reader).encode([(f"Is {mark} here?", f"No {mark} is here.")])
    plain = SpanExtractor(reader).encode([("a", "b")])[0]
    number = reader.tokenizer.convert_tokens_to_ids(mark)
    assert isinstance(row, Pieces) and isinstance(plain, Pieces)
    assert row.ids.count(number) == plain.ids.count(number)


def test_pieces_overlap_and_end_with_the_text() -> None:
    assert _starts(10, 5, 2) == [0, 3, 6] and _starts(11, 5, 2) == [0, 3, 6]
    assert _starts(5, 5, 2) == [0] and _starts(0, 5, 2) == [0]


def test_what_does_not_point_is_refused(tiny_encoder: Model) -> None:
    with pytest.raises(UnsupportedModelError, match="is of kind encoder"):
        SpanExtractor(tiny_encoder)
    bare = replace(reader_of("bert"), tokenizer=byte_tokenizer())
    with pytest.raises(UnsupportedModelError, match="a special token in front"):
        SpanExtractor(bare)


# -- through `answer` ------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_answers_stand_where_their_offsets_say(module: Any) -> None:
    model = reader_of("roberta")
    frame = module.DataFrame({
        "q": [question for question, _ in PAIRS] + [None, "long " * 60],
        "text": [text for _, text in PAIRS] + ["A text.", "A text."],
    })  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 6 rows have no answer"):
        answered = frame.llm.answer("q", context_column="text", model=model, threshold=0.0)
    starts, ends = (answered[f"q_answer_{end}"].to_list() for end in ("start", "end"))
    for row, (question, text) in enumerate(PAIRS):
        words, margin = by_hand(model, question, text)
        assert answered["q_answer"].to_list()[row] == words == text[starts[row] : ends[row]]
        score = answered["q_answer_score"].to_list()[row]
        assert score == pytest.approx(1 / (1 + exp(-margin)), abs=1e-5)
    assert "reads 64 at once" in answered["q_answer_error"].to_list()[5]
    # By the rule of SQuAD 2.0, as by default, only what beats there being none is an answer.
    with pytest.warns(UserWarning, match="1 of 6 rows have no answer"):
        ruled = frame.llm.answer("q", context_column="text", model=model)
    beats = [score >= 0.5 for score in answered["q_answer_score"].to_list()[:4]]
    assert [isinstance(said, str) for said in ruled["q_answer"].to_list()[:4]] == beats
    assert ruled.llm.report().known == 4


def test_one_question_of_each_text() -> None:
    model = reader_of("bert")
    frame = pd.DataFrame({"text": [text for _, text in PAIRS]})
    answered = frame.llm.answer("text", question=" When? ", model=model, threshold=0.0)
    assert answered["text_answer"].tolist() == [by_hand(model, "When?", t)[0] for _, t in PAIRS]


def test_what_it_reads_is_shown_and_counted_beforehand() -> None:
    model = reader_of("bert")
    frame = pd.DataFrame({"q": [q for q, _ in PAIRS], "text": [text for _, text in PAIRS]})
    shown = frame.llm.preview("answer", "q", context_column="text", model=model, row=2)
    assert shown.text == f"[CLS]{PAIRS[2][0]}[SEP]{PAIRS[2][1]}[SEP]"
    found = frame.llm.estimate("answer", "q", context_column="text", model=model)
    assert found.tokens == sum(len(row.ids) for row in SpanExtractor(model).encode(PAIRS))
    answered = frame.llm.answer("q", context_column="text", model=model)
    assert answered.llm.report().tokens == found.tokens
    with pytest.raises(UnsupportedModelError, match="points at its answer"):
        answered.llm.explain(0, model=model)


def test_what_a_reader_cannot_be_given_is_refused() -> None:
    model, frame = reader_of("bert"), pd.DataFrame({"q": ["Who?"], "t": ["Ann."]})
    with pytest.raises(FrameError, match="Name its column"):
        frame.llm.answer("q", model=model)
    with pytest.raises(FrameError, match="neither instruction= nor"):
        frame.llm.answer("q", context_column="t", model=model, instruction="Be short.")
    with pytest.raises(
        UnsupportedModelError, match="and bert is an extractive question-answering model"
    ):
        frame.llm.sentiment("t", model=model)


def test_it_is_loaded_from_a_folder(tmp_path: Path, capsys: Callable[[], object]) -> None:
    network, tokenizer = bert()
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with nbllm.load(tmp_path, quantize="none", dtype="fp32") as model:
        assert model.kind == "extractive_qa" and model.context_length == LENGTH
        frame = pd.DataFrame({"q": ["When?"], "t": [PAIRS[0][1]]})
        answered = frame.llm.answer("q", context_column="t", threshold=0.0)
        assert answered["q_answer"].iloc[0] == by_hand(model, *PAIRS[0])[0]
        assert "extractive question answering" in repr(model)
