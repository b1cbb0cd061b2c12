"""Vectors and label likelihoods against the plain forward of transformers, one text at a time."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from nbllm.engine.batching import TokenBudget
from nbllm.engine.encoding import HeadScorer, TextEncoder
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import run
from nbllm.errors import ModelError, TextError, TextTooLongError, UnsupportedModelError
from nbllm.models.kind import Kind
from nbllm.models.loader import load
from nbllm.models.model import Model
from tests.conftest import CORPUS, NetworkGuard, byte_tokenizer, seeded, tiny_model, word_tokenizer

TEXTS = [
    "The soup was cold.",
    "kind staff",
    "We waited an hour and nobody came to the table, and then the meal arrived cold. " * 3,
    "x",
    "A quiet film about two brothers.",
]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LABELS = {"id2label": {0: "bad", 1: "good", 2: "odd"}, "label2id": {"bad": 0, "good": 1, "odd": 2}}


def made(name: str, kind: Kind, **settings: Any) -> Model:
    """A random network of two layers, in fp32."""
    model = tiny_model(kind)
    decoder = name.startswith(("Llama", "GPT2"))
    model.tokenizer = byte_tokenizer() if decoder else word_tokenizer()
    network = getattr(transformers, name)
    special = {
        "pad_token_id": model.tokenizer.pad_token_id,
        "bos_token_id": model.tokenizer.bos_token_id,
        "eos_token_id": model.tokenizer.eos_token_id,
    }
    settings = {"vocab_size": len(model.tokenizer), **special, **SIZES, **settings}
    model.network = seeded(network, network.config_class(**settings))
    return model


MODERN = {"global_attn_every_n_layers": 2, "local_attention": 16}
ENCODERS = [
    ("BertModel", {}),
    ("RobertaModel", {}),
    ("ModernBertModel", MODERN),
    ("LlamaModel", {}),
]
CLASSIFIERS = [
    ("BertForSequenceClassification", {}),
    ("RobertaForSequenceClassification", {}),
    ("ModernBertForSequenceClassification", {**MODERN, "classifier_pooling": "mean"}),
    ("LlamaForSequenceClassification", {}),
    ("LlamaForSequenceClassification", {"pad_token_id": None}),
    ("GPT2ForSequenceClassification", {}),
]


def prompts(engine: TextEncoder | HeadScorer, texts: list[str] = TEXTS) -> list[Prompt]:
    encoded = engine.encode(texts, limit=256, truncate=False)
    return [prompt for prompt in encoded if isinstance(prompt, Prompt)]


def plainly(model: Model, text: str) -> Any:
    with torch.inference_mode():
        return model.network(**model.tokenizer(text, return_tensors="pt"))


def with_modules(model: Model, folder: Path, pooling: dict[str, Any], *modules: str) -> Model:
    """The model with files such as sentence-transformers writes."""
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    ]
    for number, kind in enumerate(modules, start=1):
        path = f"{number}_{kind}"
        kind = f"sentence_transformers.models.{kind}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    model.folder = folder
    return model


# -- tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_a_text_gets_the_tokens_that_the_model_was_trained_with(kind: Kind) -> None:
    model = tiny_model(kind)
    engine = TextEncoder(model) if kind == "encoder" else HeadScorer(model)
    for prompt, text in zip(prompts(engine), TEXTS, strict=True):
        assert list(prompt.ids) == model.tokenizer(text).input_ids
        [mark] = prompt.field_spans
        assert (mark.field, mark.start, mark.stop) == ("text", 1, len(prompt.ids) - 1)
        assert prompt.prefix_length == 0
        assert prompt.text == f"[CLS]{text}[SEP]"
        start, stop = prompt.spans[mark.start][0], prompt.spans[mark.stop - 1][1]
        assert prompt.text[start:stop] == text.strip()


def test_special_tokens_spelled_out_in_a_text_stay_text(tiny_encoder: Model) -> None:
    [prompt] = prompts(TextEncoder(tiny_encoder), ["good [SEP] [MASK] [PAD]"])
    special = tiny_encoder.tokenizer.all_special_ids
    unknown = tiny_encoder.tokenizer.unk_token_id
    inner = [token for token in prompt.ids[1:-1] if token in special and token != unknown]
    assert inner == []


def test_a_text_that_is_too_long_or_unreadable_is_its_own_error(tiny_encoder: Model) -> None:
    encoder = TextEncoder(tiny_encoder)
    texts = ["fine", "word " * 300, "lone \ud800 surrogate", "fine too"]
    first, long, unreadable, last = encoder.encode(texts, limit=20, truncate=False)
    assert isinstance(first, Prompt) and isinstance(last, Prompt)
    assert isinstance(long, TextTooLongError) and "truncate=True" in str(long)
    assert isinstance(unreadable, TextError)
    _, cut, unreadable, _ = encoder.encode(texts, limit=20, truncate=True)
    assert isinstance(cut, Prompt) and isinstance(unreadable, TextError)
    assert len(cut.ids) == 20
    whole = tiny_encoder.tokenizer("word " * 300, truncation=True, max_length=20).input_ids
    assert list(cut.ids) == whole


def test_token_types_that_are_not_given_are_refused(tiny_encoder: Model) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer: Any = tiny_encoder.tokenizer
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A [SEP] [CLS]:2", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(UnsupportedModelError, match="token types"):
        TextEncoder(tiny_encoder)


@pytest.mark.parametrize("engine", [TextEncoder, HeadScorer])
def test_a_model_of_another_kind_is_refused(engine: type, tiny_llama: Model) -> None:
    with pytest.raises(UnsupportedModelError, match="tiny-causal is of kind causal"):
        engine(tiny_llama)


# -- encoders --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), ENCODERS, ids=lambda value: str(value))
def test_vectors_are_the_means_of_the_plain_forward(name: str, settings: dict[str, Any]) -> None:
    model = made(name, "encoder", **settings)
    encoder = TextEncoder(model)
    expected = [plainly(model, text).last_hidden_state[0].mean(0).numpy() for text in TEXTS]
    found = encoder(prompts(encoder))
    assert encoder.dimensions == 64 == len(found[0])
    np.testing.assert_allclose(found, expected, atol=1e-5)


REFERENCES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls_token": lambda hidden: hidden[0],
    "mean_tokens": lambda hidden: hidden.mean(0),
    "max_tokens": lambda hidden: hidden.max(0).values,
    "lasttoken": lambda hidden: hidden[-1],
}


@pytest.mark.parametrize("normalizes", [True, False], ids=["normalized", "as long as it is"])
@pytest.mark.parametrize("switch", REFERENCES)
def test_pooling_is_the_checkpoints_own(switch: str, normalizes: bool, tmp_path: Path) -> None:
    pooling = {f"pooling_mode_{name}": name == switch for name in REFERENCES}
    modules = ["Pooling", "Normalize"] if normalizes else ["Pooling"]
    model = with_modules(made("BertModel", "encoder"), tmp_path, pooling, *modules)
    encoder = TextEncoder(model)
    vectors = np.stack([REFERENCES[switch](plainly(model, t).last_hidden_state[0]) for t in TEXTS])
    if normalizes:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder(prompts(encoder)), vectors, atol=1e-5)


def test_several_poolings_are_joined_in_the_order_of_sentence_transformers(tmp_path: Path) -> None:
    pooling = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    model = with_modules(made("BertModel", "encoder"), tmp_path, pooling, "Pooling")
    encoder = TextEncoder(model)
    hidden = plainly(model, TEXTS[0]).last_hidden_state[0]
    [vector] = encoder(prompts(encoder)[:1])
    np.testing.assert_allclose(vector, torch.cat([hidden[0], hidden.mean(0)]), atol=1e-5)
    assert encoder.dimensions == 128


def test_the_newer_spelling_of_a_pooling_is_read(tmp_path: Path) -> None:
    model = made("BertModel", "encoder")
    with_modules(model, tmp_path, {"pooling_mode": "lasttoken"}, "Pooling")
    assert TextEncoder(model).pooling == ("lasttoken",)


@pytest.mark.parametrize(
    ("pooling", "modules", "named"),
    [
        ({"pooling_mode_weightedmean_tokens": True}, ["Pooling"], "weightedmean"),
        ({"pooling_mode": "attention"}, ["Pooling"], "attention"),
        ({"pooling_mode_mean_tokens": False}, ["Pooling"], "no mode at all"),
        ({"pooling_mode_mean_tokens": True}, ["Pooling", "Dense"], "Dense"),
    ],
    ids=lambda value: str(value),
)
def test_what_is_not_known_is_refused_by_name(
    pooling: dict[str, Any], modules: list[str], named: str, tmp_path: Path
) -> None:
    model = with_modules(tiny_model("encoder"), tmp_path, pooling, *modules)
    with pytest.raises(UnsupportedModelError, match=rf"tiny-encoder .*{named}"):
        TextEncoder(model)


def test_a_damaged_pooling_file_says_so(tmp_path: Path) -> None:
    model = with_modules(tiny_model("encoder"), tmp_path, {}, "Pooling")
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        TextEncoder(model)


def test_minilm_is_what_its_card_shows(network_guard: NetworkGuard) -> None:
    """The card's own example: the mean over the mask, and unit length."""
    with network_guard.open():
        model = load("minilm", quantize="none", dtype="fp32")
    with model:
        encoder = TextEncoder(model)
        inputs = model.tokenizer(TEXTS, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model.network(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        vectors = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        found = np.array(encoder(prompts(encoder)))
        np.testing.assert_allclose(found, vectors, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        assert encoder.dimensions == 384
        near, far = prompts(encoder, ["The food was not warm.", "Stocks fell sharply on Monday."])
        soup, warm, stocks = np.array(encoder([prompts(encoder)[0], near, far]))
        assert soup @ warm > soup @ stocks + 0.2


# -- classifiers -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), CLASSIFIERS, ids=lambda value: str(value))
def test_log_probabilities_are_those_of_the_plain_forward(
    name: str, settings: dict[str, Any]
) -> None:
    model = made(name, "classifier", **LABELS, **settings)
    scorer = HeadScorer(model)
    assert scorer.labels == ("bad", "good", "odd")
    expected = [plainly(model, text).logits[0].log_softmax(-1).numpy() for text in TEXTS]
    found = scorer(prompts(scorer))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)


def test_a_decoder_is_padded_on_the_right_whatever_its_tokenizer_prefers() -> None:
    model = made("GPT2ForSequenceClassification", "classifier", **LABELS)
    scorer = HeadScorer(model)
    right = scorer(prompts(scorer))
    model.tokenizer.padding_side = "left"
    scorer = HeadScorer(model)
    assert scorer(prompts(scorer)) == right


def test_several_labels_a_text_are_each_for_itself() -> None:
    model = made(
        "BertForSequenceClassification",
        "classifier",
        problem_type="multi_label_classification",
        **LABELS,
    )
    scorer = HeadScorer(model)
    logits = torch.stack([plainly(model, text).logits[0] for text in TEXTS]).double()
    found = scorer(prompts(scorer))
    np.testing.assert_allclose(np.exp(found), logits.sigmoid(), atol=1e-5)
    assert np.abs(np.exp(found).sum(1) - 1).max() > 0.1


@pytest.mark.parametrize(
    "settings", [{"num_labels": 1}, {**LABELS, "problem_type": "regression"}], ids=["one", "three"]
)
def test_a_regression_head_is_refused(settings: dict[str, Any]) -> None:
    model = made("BertForSequenceClassification", "classifier", **settings)
    with pytest.raises(UnsupportedModelError, match="tiny-classifier has a regression head"):
        HeadScorer(model)


@pytest.mark.parametrize(
    "name", ["BertForSequenceClassification", "LlamaForSequenceClassification"]
)
def test_scores_are_finer_than_bf16_logits(name: str) -> None:
    model = made(name, "classifier", **LABELS)
    model.network.to(torch.bfloat16)
    scorer = HeadScorer(model)
    texts = [f"{a} {b}" for a in CORPUS[0].split()[:6] for b in CORPUS[1].split()[:6]]
    scores = np.array(scorer(prompts(scorer, texts)))
    plain = [plainly(model, text).logits[0].float().log_softmax(-1).numpy() for text in texts]
    # Apart by less than a step of bf16, which their differences show: 1/64 from 2 to 4.
    np.testing.assert_allclose(scores, plain, atol=0.05)
    steps = (scores[:, 0] - scores[:, 1]) * 256
    assert np.mean(np.abs(steps - steps.round()) > 0.01) > 0.9
    head = model.network.classifier if name.startswith("Bert") else model.network.score
    assert len(head._forward_hooks) == 0


# -- rows are for themselves -----------------------------------------------------------------


def both() -> list[TextEncoder | HeadScorer]:
    """One engine of each kind, in fp32."""
    classifier = made("LlamaForSequenceClassification", "classifier", **LABELS)
    return [TextEncoder(made("BertModel", "encoder")), HeadScorer(classifier)]


def test_a_row_does_not_depend_on_its_batch_or_order() -> None:
    for engine in both():
        rows = prompts(engine)
        together = np.array(engine(rows))
        np.testing.assert_allclose(engine(rows[::-1])[::-1], together, atol=1e-5)
        alone = [engine([row])[0] for row in rows]
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_poisoned_row_fails_alone() -> None:
    for engine in both():
        rows = prompts(engine)
        expected = engine(rows)
        # A token that is in no row but the poisoned one.
        [poisoned] = prompts(engine, ["q"])
        token = poisoned.ids[poisoned.field_spans[0].start]
        assert not any(token in row.ids for row in rows)
        network: Any = engine.model.network
        with torch.no_grad():
            network.get_input_embeddings().weight[token] = math.inf
        found = engine([*rows[:2], poisoned, *rows[2:]])
        assert isinstance(found[2], ModelError) and "finite" in str(found[2])
        np.testing.assert_allclose([*found[:2], *found[3:]], expected, atol=1e-5)


def test_the_runner_drives_it_and_no_row_is_lost() -> None:
    for engine in both():
        rows = prompts(engine, [text * n for n in (1, 2, 3) for text in TEXTS[:2]])
        answers = {}
        for done in run(rows, engine, budget=TokenBudget(64)):
            answers |= done.answers
        np.testing.assert_allclose([answers[n] for n in range(len(rows))], engine(rows), atol=1e-5)
