"""explain(row): why this label and not the other, on results frames."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

import nbllm  # noqa: F401  registers df.llm
from nbllm.attention.analysis.rank_agreement import attended
from nbllm.errors import (
    FrameError,
    LabelError,
    ProvenanceError,
    SelectionError,
    TextError,
    UnsupportedModelError,
)

TEXTS = ["The soup was warm, the staff kind.", "<b>We waited</b> an hour.", None]


@pytest.fixture(params=["tiny_llama", "tiny_classifier"])
def model(request):
    return request.getfixturevalue(request.param)


def answered(model, **options) -> pd.DataFrame:
    return pd.DataFrame({"review": TEXTS}).llm.sentiment("review", model=model, **options)


def log_odds(model, ids, why) -> float:
    with torch.inference_mode():
        logits = model.network(torch.tensor([ids])).logits[0]
    logits = logits if model.kind == "classifier" else logits[-1]
    return float(logits[why.contrast.target] - logits[why.contrast.against])


def test_the_rows_words_add_up_to_the_difference_that_they_make(model) -> None:
    why = answered(model).llm.explain(0, model=model)
    tokenizer = model.tokenizer
    [nothing] = tokenizer(tokenizer.mask_token or " ", add_special_tokens=False).input_ids
    blank = [
        nothing if varied else token
        for token, varied in zip(why.prompt.ids, why.attribution.varied, strict=True)
    ]
    moved = log_odds(model, why.prompt.ids, why) - log_odds(model, blank, why)
    assert why.attribution.gap <= 0.01
    assert why.frame()["attribution"].sum() == pytest.approx(moved, rel=0.011)
    # Of two labels the log-odds are those of the label that was given, up to the calibration.
    assert why.contrast.label == answered(model)["review_sentiment"][0]


def test_only_the_rows_text_is_told_of(model) -> None:
    why = answered(model).llm.explain(0, model=model)
    frame, words = why.frame(), why.words()
    said = "".join(why.prompt.text[a:b] for a, b in zip(frame["start"], frame["stop"], strict=True))
    assert said.replace(" ", "").lower() == TEXTS[0].replace(" ", "").lower()
    assert list(words["word"])[:4] == ["The", "soup", "was", "warm"]
    assert list(frame) == ["token", "start", "stop", "attribution", "attention"]
    assert words["attribution"].sum() == pytest.approx(frame["attribution"].sum(), abs=1e-5)
    row = -1 if model.kind == "causal" else 0
    mean = np.mean(
        [why.recording.weights(layer, head)[row] for layer in range(2) for head in range(4)], 0
    )
    np.testing.assert_allclose(attended(why.recording), mean, atol=1e-6)
    inside = np.array(why.attribution.varied)
    np.testing.assert_allclose(frame["attention"], mean[inside], atol=1e-6)


def test_lens_and_parts_of_a_causal_model(tiny_llama) -> None:
    why = answered(tiny_llama).llm.explain(1, model=tiny_llama)
    odds = log_odds(tiny_llama, why.prompt.ids, why)
    assert why.parts["contribution"].sum() == pytest.approx(odds, abs=1e-4)
    assert list(why.lens) == ["layer", "label", "token", "log_probability"]
    last = why.lens[why.lens["layer"] == 2].set_index("label")["log_probability"]
    assert last[why.contrast.label] - last[why.contrast.other] == pytest.approx(odds, abs=1e-4)
    assert why.lens["layer"].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(why.agreement) == 2 * 4


def test_a_classifier_has_no_next_token_to_read(tiny_classifier) -> None:
    why = answered(tiny_classifier).llm.explain(0, model=tiny_classifier)
    assert len(why.agreement) == 2 * 4
    with pytest.raises(UnsupportedModelError, match="requires a causal model"):
        _ = why.parts
    with pytest.raises(UnsupportedModelError, match="requires a causal model"):
        _ = why.lens


def test_labels_that_begin_alike_are_told_apart_where_they_part(tiny_llama) -> None:
    frame = pd.DataFrame({"review": TEXTS})
    found = frame.llm.classify("review", labels=["neutral", "neutrality"], model=tiny_llama)
    why = found.llm.explain(0, model=tiny_llama)
    assert why.contrast.shared and why.prompt.ids[-len(why.contrast.shared) :] == (
        why.contrast.shared
    )
    assert why.prompt.ids == why.recording.ids == why.attribution.ids
    assert why.attribution.gap <= 0.01


def html(outputs) -> list[str]:
    return [output.get("text/html", "") for output in outputs]


def test_the_words_are_shown_above_the_view(model, outputs_of) -> None:
    why = answered(model).llm.explain(1, model=model)
    words, still, *_ = html(outputs_of(why))
    text = re.sub(r"<[^>]+>", "", words)
    assert f"{why.contrast.label} {why.contrast.probability:.2f}" in text
    assert "attention and attribution share" in text
    assert "<b>" not in words and ">waited</span>" in words.lower()
    assert "nbllm-attention-static" in still
    assert repr(why).startswith(f"Explanation({why.contrast.label!r} 0.")


def test_where_no_gradient_goes_back_the_view_is_shown_and_the_reason_said(
    tiny_llama, outputs_of
) -> None:
    class Cut(torch.nn.Module):
        def forward(self, hidden):
            return hidden.detach() * 2

    found = answered(tiny_llama)
    tiny_llama.network.model.layers[0].mlp = Cut()
    words, still, *_ = html(outputs_of(found.llm.explain(0, model=tiny_llama)))
    assert "No attribution: No gradient goes back through a part of the network, Cut" in words
    assert "nbllm-attention-static" in still


def test_the_view_can_be_read_and_set(model) -> None:
    view = answered(model).llm.explain(0, model=model).attention
    view.layer, view.head = 1, 3
    assert (view.layer, view.head) == (1, 3)


def test_a_written_answer_has_its_attention_only(tiny_llama, outputs_of) -> None:
    frame = pd.DataFrame({"review": TEXTS})
    written = frame.llm.prompt("Why? {review}", into="why", model=tiny_llama, max_new_tokens=3)
    why = written.llm.explain(0, model=tiny_llama)
    assert "nbllm-attention-static" in html(outputs_of(why))[0]
    assert repr(why).startswith("Explanation(attention of tiny-causal")
    for part in ("attribution", "parts", "lens", "agreement"):
        with pytest.raises(SelectionError, match="no choice between labels"):
            getattr(why, part)


def test_rows_that_cannot_be_explained(model) -> None:
    found = answered(model)
    with pytest.raises(FrameError, match="no row is labelled 7"):
        found.llm.explain(7, model=model)
    with pytest.raises(ProvenanceError, match="was not asked"):
        found.llm.explain(2, model=model)
    found.loc[0, "review_sentiment"] = "glad"
    with pytest.raises(LabelError, match="none of the labels"):
        found.llm.explain(0, model=model)
    found = answered(model, ledger=False)
    found["review"] = found["review"].astype(object)
    found.loc[1, "review"] = ""
    with pytest.raises(FrameError, match="has no text"):
        found.llm.explain(1, model=model)


def test_a_text_that_is_all_special_tokens_is_said_to_have_no_words(
    tiny_classifier, outputs_of
) -> None:
    odd = pd.DataFrame({"review": ["\ufffd\ufffd"]})  # BERT's normalizer removes them
    found = odd.llm.sentiment("review", model=tiny_classifier)
    why = found.llm.explain(0, model=tiny_classifier)
    with pytest.raises(TextError, match="nothing to attribute to"):
        _ = why.attribution
    assert "No attribution: The text has only special tokens" in html(outputs_of(why))[0]
