"""What nbllm does with a model, each as a function from the model to numbers or texts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertForQuestionAnswering

import nbllm
from nbllm.attention import logit_lens
from nbllm.attention.analysis import measures, rank_agreement, rollout
from nbllm.attention.analysis.ablation import head_importance
from nbllm.attention.analysis.attribution import attribute
from nbllm.attention.analysis.logit_parts import direct_logit_attribution
from nbllm.attention.recording.capture import record_batch
from nbllm.attention.recording.recording import Recording
from nbllm.attention.views import overview, tiles
from nbllm.engine.encoding import HeadScorer, TextEncoder
from nbllm.engine.generation import TextGenerator
from nbllm.engine.perplexity import perplexity
from nbllm.engine.prompt import CompiledTemplate, Part, chat
from nbllm.engine.scoring import LabelScorer
from nbllm.engine.spans import SpanExtractor
from nbllm.models.kind import Kind
from nbllm.models.model import Model
from tests.conftest import seeded, tiny_model, word_tokenizer

TEXT = "The soup was warm and the staff were kind, so we stayed until they closed."
TEXTS = [TEXT, "Terrible service.", "Is this review positive or negative?"]
SCHEMA = {
    "type": "object",
    "properties": {"dish": {"enum": ["soup", "film"]}},
    "required": ["dish"],
    "additionalProperties": False,
}
Job = Callable[[Model], Any]


def prompts_of(model: Model, texts: list[str]) -> tuple[tuple[int, ...], Any]:
    """Chat prompts of some texts, and the tokens that they all start with."""
    turns = [("user", (Part("text", "Summarize this: "), Part("field", "text")))]
    compiled = CompiledTemplate(chat(model.tokenizer, turns), model.tokenizer)
    return compiled.prefix_ids, compiled.encode([[text] for text in texts], limit=1000)


def scores(model: Model, *, shared: bool = True) -> Any:
    prefix, prompts = prompts_of(model, TEXTS)
    words = (" good", " bad", " warm soup", " warm film")
    labels = [model.tokenizer(word, add_special_tokens=False).input_ids for word in words]
    return LabelScorer(model, prefix if shared else (), labels).score(prompts)


def texts(model: Model, **options: Any) -> Any:
    prefix, prompts = prompts_of(model, TEXTS)
    return TextGenerator(model, prefix, max_new_tokens=16, **options)(prompts)


def texts_that_end(model: Model) -> Any:
    """Rows that are finished are left behind: what the first of them write early stops them."""
    whole = texts(model)
    return [*map(str, texts(model, stop=whole[0][3:5]))]


def all_weights(recording: Recording) -> Any:
    return [
        recording.weights(layer, head)
        for layer in recording.layer_numbers
        for head in range(recording.heads)
    ]


def pictures(recording: Recording) -> Any:
    """All that is painted of a recording: of its last layer, for spread models the farthest."""
    layer = recording.layer_numbers[-1]
    return [
        tiles.pooled(recording, layer, 1, side=8),
        tiles.pooled(recording, layer, 1, side=8, rows=(3, 9), columns=(2, 7), masked=2),
        tiles.combined(recording, layer, "mean", side=8),
        tiles.combined(recording, layer, "max", side=8, masked=0),
        tiles.thumbnails(recording, layer, sink=0, size=8) / 255,
        tiles.top_edges(recording, layer, 1, k=9, without=0),
        tiles.dimension_scores(recording, layer, 1, query=5, key=3),
        recording.weights(layer, 1, rows=[5, 3], columns=[0, 2, 2], masked=2),
        recording.weights(layer, 1, rows=slice(2, 6), columns=slice(None, None, -1)),
        recording.log_sum_exp(layer, 0).cpu().numpy(),
    ]


def both_lenses(model: Model) -> Any:
    lens = logit_lens(model, TEXT, top=3)
    frame = lens.frame()
    return [
        frame["probability"],
        frame["prediction"].tolist(),
        lens.rank_of(7),
        lens.log_probabilities([7, 9]),
        lens.logits(layer=1, position=-1),
        [value for _, _, value in lens.top(layer=1, position=2)],
    ]


def agreement(model: Model) -> Any:
    recording = nbllm.record(model, TEXT)
    attribution = attribute(model, TEXT, target=7, method="input_x_gradient")
    return rank_agreement.agreement(recording, attribution), rank_agreement.attended(recording)


def explained(model: Model) -> Any:
    answered = _frame().llm.sentiment("text", model=model)
    explanation = answered.llm.explain(0, model=model)
    return explanation.words(), explanation.parts, explanation.lens


def _frame() -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS})


CAUSAL: Mapping[str, Job] = {
    "scores": scores,
    "scores without a prefix": lambda model: scores(model, shared=False),
    "texts": texts,
    "texts that end": texts_that_end,
    "texts of a schema": lambda model: texts(model, schema=SCHEMA),
    "perplexity": lambda model: perplexity(model, TEXTS).nll,
    "recording": lambda model: all_weights(nbllm.record(model, TEXT)),
    "recordings of a batch": lambda model: [all_weights(r) for r in record_batch(model, TEXTS)],
    "recording of a generation": lambda model: all_weights(nbllm.record(model, TEXT, generate=6)),
    "recording in a file": lambda model: all_weights(nbllm.record(model, TEXT, offload=True)),
    "pictures": lambda model: pictures(nbllm.record(model, TEXT)),
    "pictures of a file": lambda model: pictures(nbllm.record(model, TEXT, offload=True)),
    "overview": lambda model: vars(overview.survey(nbllm.record(model, TEXT))),
    "measures": lambda model: measures.head_measures(nbllm.record(model, TEXT)),
    "induction": lambda model: measures.induction_scores(model, length=9, sequences=2),
    "rollout": lambda model: [
        rollout.attention_rollout(nbllm.record(model, TEXT), rows=[9, 3], masked=0),
        rollout.attention_rollout(nbllm.record(model, TEXT)),
    ],
    "rank agreement": agreement,
    "lens": both_lenses,
    "ablation": lambda model: head_importance(model, TEXT),
    # Long enough that heads are tried in parts, of which a later one leaves lower layers out.
    "ablation by means": lambda model: head_importance(
        model, TEXT * 9, target=7, replacement="mean"
    ),
    "logit parts": lambda model: direct_logit_attribution(model, TEXT, 7, 9)["contribution"],
    "attribution": lambda model: attribute(model, "A warm soup.", target=7, steps=4).scores,
    "sentiment": lambda model: _frame().llm.sentiment("text", model=model, ledger=False),
    "explain": explained,
    "summarize": lambda model: _frame().llm.summarize(
        "text", model=model, ledger=False, max_words=4
    ),
    "extract": lambda model: _frame().llm.extract("text", SCHEMA, model=model, ledger=False),
}
OTHERS: Mapping[str, Job] = {
    "encoder: vectors": lambda model: _read(TextEncoder(model)),
    "encoder: embed": lambda model: np.stack(
        _frame().llm.embed("text", model=model, ledger=False)["text_embed"]
    ),
    "encoder: search": lambda model: _frame().llm.search(
        "text", "warm soup", k=2, how="dense", model=model, ledger=False
    ),
    "encoder: recording": lambda model: [all_weights(r) for r in record_batch(model, TEXTS)],
    "classifier: labels": lambda model: _read(HeadScorer(model)),
    "classifier: sentiment": lambda model: _frame().llm.sentiment(
        "text", model=model, ledger=False
    ),
    "classifier: ablation": lambda model: head_importance(model, TEXT),
    "classifier: attribution": lambda model: attribute(model, TEXT, steps=4).scores,
    "seq2seq: texts": lambda model: TextGenerator(model, (), max_new_tokens=9)(
        prompts_of(model, TEXTS)[1]
    ),
    "seq2seq: summarize": lambda model: _frame().llm.summarize(
        "text", model=model, ledger=False, max_words=4
    ),
    "seq2seq: recording": lambda model: [
        all_weights(part)
        for pair in (
            nbllm.record(model, TEXT, target=TEXTS[1]),
            nbllm.record(model, TEXT, generate=6),
        )
        for part in (pair.encoder, pair.decoder, pair.cross)
    ],
    "extractive_qa: answers": lambda model: _frame().llm.answer(
        "text", question="Who was kind?", model=model, ledger=False
    ),
    "extractive_qa: spans": lambda model: _spans(SpanExtractor(model)),
}


def _read(reader: TextEncoder | HeadScorer) -> Any:
    return reader(reader.encode(TEXTS, limit=64, truncate=True))


def _spans(reader: SpanExtractor) -> Any:
    return [vars(span) for span in reader(reader.encode([("Who was kind?", t) for t in TEXTS]))]


def made(job: str) -> Model:
    """The model of a job: of two layers, with random weights, on the processor."""
    first = _made(job.partition(":")[0] if job in OTHERS else "causal")
    return replace(first, network=copy.deepcopy(first.network))


@cache
def _made(kind: Kind) -> Model:
    # Once: tokenizers that are trained anew may number their tokens otherwise.
    return _reader() if kind == "extractive_qa" else tiny_model(kind)


def _reader() -> Model:
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.5,
    )
    network = seeded(BertForQuestionAnswering, config)
    return replace(
        tiny_model("classifier"), network=network, tokenizer=tokenizer, kind="extractive_qa"
    )


@cache
def on_the_processor(job: str) -> Any:
    """What a job gives without any other device."""
    return {**CAUSAL, **OTHERS}[job](made(job))


def assert_same(found: Any, expected: Any) -> None:
    """The same to rounding in float32; texts to the letter."""
    if isinstance(expected, pd.DataFrame):
        assert list(found.columns) == list(expected.columns)
        for name in expected.columns:
            if not name.endswith("_run"):  # which names the device too
                assert_same(found[name].tolist(), expected[name].tolist())
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert_same(list(found.values()), list(expected.values()))
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, str):
        assert found == expected
    elif np.ndim(expected) == 0 and pd.isna(expected):
        assert pd.isna(found)
    else:
        assert not isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
