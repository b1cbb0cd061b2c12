"""Attribution against sums and gradients written out by hand, and against captum itself."""

import copy
import dataclasses
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from nbllm.attention.analysis.attribution import attribute
from nbllm.attention.analysis.integrated_gradients import integrated
from nbllm.attention.analysis.rank_agreement import agreement
from nbllm.attention.recording.capture import record
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.errors import LabelError, SelectionError, TextError, UnsupportedModelError

TEXT = "The soup was warm and the staff were kind."


def logit(model, target, against=None):
    """The answer as a function of embeddings (rows, tokens, width), by `inputs_embeds`."""

    def score(embedded):
        logits = model.network(inputs_embeds=embedded).logits
        logits = logits if model.kind == "classifier" else logits[:, -1]
        return logits[:, target] - (0 if against is None else logits[:, against])

    return score


def ends(model, text=TEXT):
    """Embeddings of the text and of the baseline: a space, or a mask, in the place of its words."""
    ids = torch.tensor([model.tokenizer(text).input_ids])
    special = torch.isin(ids, torch.tensor(model.tokenizer.all_special_ids))
    [nothing] = model.tokenizer(
        model.tokenizer.mask_token or " ", add_special_tokens=False
    ).input_ids
    blank = torch.where(special, ids, nothing)
    table = model.network.get_input_embeddings()
    with torch.no_grad():
        return table(ids), table(blank)


def riemann(score, present, absent, steps):
    """The integral of the gradient by the midpoint rule, (tokens,)."""
    shares = (torch.arange(steps) + 0.5) / steps
    way = (absent + shares[:, None, None] * (present - absent)).requires_grad_()
    gradient = torch.autograd.grad(score(way).sum(), way)[0].mean(0, keepdim=True)
    return ((present - absent) * gradient).sum(-1)[0].numpy()


def marked(model, text, word):
    """A prompt of the text in which one word is the user's."""
    coded = model.tokenizer(text, return_offsets_mapping=True)
    start = text.index(word)
    inside = [
        place
        for place, (a, b) in enumerate(coded.offset_mapping)
        if a >= start - 1 and b <= start + len(word) and b > a
    ]
    marks = (FieldSpan("review", inside[0], inside[-1] + 1),)
    return Prompt(tuple(coded.input_ids), text, tuple(coded.offset_mapping), marks)


@pytest.mark.parametrize(
    ("kind", "target", "against"),
    [
        ("tiny_llama", 70, None),
        ("tiny_llama", 70, 200),
        ("tiny_classifier", 1, None),
        ("tiny_classifier", 0, 1),
    ],
)
def test_integrated_gradients_are_a_sum_written_by_hand(request, kind, target, against) -> None:
    model = request.getfixturevalue(kind)
    present, absent = ends(model)
    score = logit(model, target, against)
    found = attribute(model, TEXT, target=target, against=against, steps=128)
    expected = riemann(score, present, absent, 500)
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=5e-3 * np.abs(expected).max())
    with torch.no_grad():
        difference = float(score(present) - score(absent))
    assert found.scores.sum() == pytest.approx(difference, rel=0.01)
    # The rounding of logits weighs more where they differ little, and the tokenizer's training
    # gives each process another vocabulary, so another difference.
    rounding = 1e-5 + 4e-6 / abs(difference)
    assert found.gap == pytest.approx(
        abs(found.scores.sum() - difference) / abs(difference), abs=rounding
    )
    assert found.gap <= 0.01


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_classifier"])
def test_integrated_gradients_are_captums(request, kind) -> None:
    """Over one piece of the way to rounding, over many to the error of captum's one rule."""
    from captum.attr import IntegratedGradients

    model = request.getfixturevalue(kind)
    present, absent = ends(model)
    direct = IntegratedGradients(logit(model, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbllm.attention.analysis.integrated_gradients.LARGEST_GAP", math.inf)
        patch.setattr("nbllm.attention.analysis.attribution.LARGEST_GAP", math.inf)
        coarse = attribute(model, TEXT, target=1, steps=4)
    expected = direct.attribute(present, absent, n_steps=4).sum(-1)[0].detach()
    assert coarse.steps == 4
    np.testing.assert_allclose(coarse.scores, expected, rtol=0, atol=1e-5)
    fine = attribute(model, TEXT, target=1, steps=128)
    expected = direct.attribute(present, absent, n_steps=128).sum(-1)[0].detach().numpy()
    np.testing.assert_allclose(fine.scores, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_of_a_linear_answer_each_score_is_worked_by_hand() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.0, 4.0]])
    present = torch.tensor([[[2.0, 1.0], [1.0, 1.0], [5.0, -1.0]]])
    absent = torch.tensor([[[1.0, 1.0], [0.0, 3.0], [5.0, -1.0]]])
    expected = [1.0 * (2 - 1) - 2.0 * (1 - 1), 3.0 * (1 - 0) + 0.5 * (1 - 3), 0.0]

    def score(embedded: torch.Tensor) -> torch.Tensor:
        return (embedded * weight).sum((1, 2)) + 7

    found = integrated(score, present, absent, steps=32)
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)
    assert found.steps == 32 and found.gap == pytest.approx(0, abs=1e-6)


def test_the_way_is_cut_finer_where_the_answer_changes_fast() -> None:
    """A step of a hundredth of the way, which 32 even points do not see."""

    def score(embedded: torch.Tensor) -> torch.Tensor:
        place = embedded[:, 0, 0]
        return torch.tanh((place - 0.613) * 400) + 0.1 * embedded[:, 1, 0]

    present, absent = torch.ones(1, 2, 1), torch.zeros(1, 2, 1)
    found = integrated(score, present, absent, steps=32)
    np.testing.assert_allclose(found.scores, [2.0, 0.1], rtol=0.011)
    assert found.gap <= 0.01 and found.steps <= 128


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma3Text", "GPT2"])
def test_what_stands_before_the_first_word_is_read_once(tiny_llama, name) -> None:
    """As if the whole text went through at each step; with windows shorter than the text too."""
    import transformers

    sizes = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.2,
        **dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id"], 0),
    }
    if name in ("Mistral", "Gemma3Text"):
        sizes |= {"sliding_window": 4, "num_key_value_heads": 2, "head_dim": 8}
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    model = dataclasses.replace(tiny_llama, network=network)
    prompt = marked(model, "Here is a review: warm and kind. Answer:", "warm and kind")
    found = attribute(model, prompt, target=1, against=0, method="input_x_gradient")
    present = network.get_input_embeddings()(torch.tensor([prompt.ids])).detach().requires_grad_()
    logits = network(inputs_embeds=present).logits[:, -1]
    gradient = torch.autograd.grad(logits[0, 1] - logits[0, 0], present)[0]
    expected = (present * gradient).sum(-1)[0].detach().numpy()
    assert found.scores[: prompt.field_spans[0].start].tolist() == [0] * prompt.field_spans[0].start
    np.testing.assert_allclose(found.scores, np.where(found.varied, expected, 0), atol=1e-5)


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_classifier"])
def test_input_x_gradient_is_autograds(request, kind) -> None:
    model = request.getfixturevalue(kind)
    present, _ = ends(model)
    found = attribute(model, TEXT, target=1, against=0, method="input_x_gradient")
    present.requires_grad_()
    gradient = torch.autograd.grad(logit(model, 1, 0)(present).sum(), present)[0]
    expected = (present * gradient).sum(-1)[0].detach().numpy()
    np.testing.assert_allclose(found.scores, np.where(found.varied, expected, 0), atol=1e-5)
    assert math.isnan(found.gap) and found.steps == 1
    assert np.abs(found.scores).max() > 0


def test_only_the_users_own_words_are_varied(tiny_llama, tiny_classifier) -> None:
    prompt = marked(tiny_llama, "Review: warm and kind. Answer:", "warm and kind")
    found = attribute(tiny_llama, prompt, target=70)
    inside = range(prompt.field_spans[0].start, prompt.field_spans[0].stop)
    assert [place for place, varied in enumerate(found.varied) if varied] == list(inside)
    outside = np.delete(found.scores, list(inside))
    assert (outside == 0).all() and (found.scores[list(inside)] != 0).all()

    found = attribute(tiny_classifier, "the staff were kind")
    assert found.tokens[0] == "[CLS]" and found.tokens[-1] == "[SEP]"
    assert not found.varied[0] and not found.varied[-1] and all(found.varied[1:-1])


def test_the_answer_is_the_models_own_unless_named(tiny_llama, tiny_classifier) -> None:
    for model in (tiny_llama, tiny_classifier):
        ids = torch.tensor([model.tokenizer(TEXT).input_ids])
        with torch.inference_mode():
            logits = model.network(ids).logits[0]
        own = int((logits if model is tiny_classifier else logits[-1]).argmax())
        assert attribute(model, TEXT).target == own
    number = tiny_llama.tokenizer(" the").input_ids
    assert attribute(tiny_llama, TEXT, target=" the").target == number[0]
    found = attribute(tiny_classifier, TEXT, target="positive", against="negative")
    assert (found.target, found.against) == (1, 0)


def test_there_are_more_steps_until_the_scores_add_up(tiny_llama) -> None:
    found = attribute(tiny_llama, TEXT, target=70, steps=2)
    assert 4 < found.steps <= 256
    assert found.gap <= 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(tiny_llama, TEXT, target=70)


def test_scores_that_do_not_add_up_are_said_to(tiny_llama, monkeypatch) -> None:
    monkeypatch.setattr("nbllm.attention.analysis.integrated_gradients.LARGEST_GAP", 1e-12)
    monkeypatch.setattr("nbllm.attention.analysis.integrated_gradients._MOST_STEPS", 8)
    with pytest.warns(UserWarning, match=r"only within .* after 8 steps"):
        found = attribute(tiny_llama, TEXT, target=70, steps=2)
    assert found.steps == 8


def test_a_batch_holds_what_fits(tiny_llama, monkeypatch) -> None:
    whole = attribute(tiny_llama, TEXT, target=70)
    monkeypatch.setattr("nbllm.attention.analysis.integrated_gradients._TOKENS", 40)
    np.testing.assert_allclose(
        attribute(tiny_llama, TEXT, target=70).scores, whole.scores, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_classifier"])
def test_half_precision_weights_are_computed_with_in_float32(request, kind) -> None:
    model = request.getfixturevalue(kind)
    model.network.to(torch.bfloat16)
    whole = dataclasses.replace(model, network=copy.deepcopy(model.network).float())
    found = attribute(model, TEXT, target=1)
    expected = attribute(whole, TEXT, target=1)
    scale = np.abs(expected.scores).max()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4 * scale)
    assert {weight.dtype for weight in model.network.parameters()} == {torch.bfloat16}


def test_gpt2_in_half_precision(tiny_llama) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2)
    network = GPT2LMHeadModel(config).eval().to(torch.bfloat16)
    model = dataclasses.replace(tiny_llama, network=network)
    whole = dataclasses.replace(model, network=copy.deepcopy(network).float())
    found, expected = (attribute(one, TEXT, target=7) for one in (model, whole))
    scale = np.abs(expected.scores).max()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("quantize", ["nf4", "int8", "int4"])
def test_quantized_weights(tiny_folder, tmp_path, monkeypatch, quantize, used) -> None:
    """Also where bitsandbytes has packed them for inference, which has no gradient."""
    import nbllm

    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    with nbllm.load(str(tiny_folder("causal")), quantize=quantize) as model:
        assert model.quantization == quantize
        if used:
            with torch.inference_mode():
                model.network(torch.tensor([model.tokenizer(TEXT).input_ids]))
        found = attribute(model, TEXT, target=70)
        whole = dataclasses.replace(model, network=dequantized(model.network))
        expected = attribute(whole, TEXT, target=70)
    assert found.gap <= 0.01
    scale = np.abs(expected.scores).max()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-3 * scale)


def dequantized(network):
    """A float32 copy, each of whose matrices is read off what the layer makes of unit vectors."""
    whole = type(network)(copy.deepcopy(network.config)).eval()
    with torch.no_grad():
        for name, module in whole.named_modules():
            weights = dict(module.named_parameters(recurse=False))
            theirs = network.get_submodule(name)
            if isinstance(module, torch.nn.Linear):
                own = theirs.weight
                dtype = own.dtype if own.is_floating_point() else torch.float32
                units = torch.eye(module.in_features, dtype=dtype)
                module.weight.copy_(theirs(units).T)
            else:
                for part, weight in weights.items():
                    weight.copy_(getattr(theirs, part))
    return whole


def test_a_part_without_a_way_back_is_refused(tiny_llama) -> None:
    class Cut(torch.nn.Module):
        def forward(self, hidden):
            return hidden.detach() * 2

    tiny_llama.network.model.layers[0].mlp = Cut()
    with pytest.raises(UnsupportedModelError, match=r"through a part of the network, Cut\. Load"):
        attribute(tiny_llama, TEXT, target=70)

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, hidden):
            return hidden * 2

        @staticmethod
        def backward(ctx, gradient):
            raise NotImplementedError("no such kernel")

    Cut.forward = lambda self, hidden: Wrong.apply(hidden)
    with pytest.raises(UnsupportedModelError, match=r"No gradient goes back.*no such kernel"):
        attribute(tiny_llama, TEXT, target=70)


@pytest.mark.parametrize("method", ["integrated_gradients", "input_x_gradient"])
def test_the_network_is_left_as_it_was(tiny_llama, method) -> None:
    network = tiny_llama.network
    network.lm_head.weight.requires_grad_(False)
    before = {name: (w.requires_grad, w.clone()) for name, w in network.named_parameters()}
    with torch.inference_mode():  # as a caller may be in
        attribute(tiny_llama, TEXT, target=70, method=method)
    for name, weight in network.named_parameters():
        assert weight.grad is None
        assert weight.requires_grad == before[name][0]
        assert torch.equal(weight, before[name][1])
    assert not network.training
    for module in network.modules():
        ours = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        assert not [hook for hook in ours if "nbllm" in hook.__module__]
    network.train()
    attribute(tiny_llama, TEXT, target=70, method=method)
    assert network.training and all(module.training for module in network.modules())


def test_the_real_model(smollm2) -> None:
    text = "A warm and funny film, and I was very"
    prompt = marked(smollm2, text, "funny film")
    found = attribute(smollm2, prompt, target=" happy", against=" sad", steps=8)
    assert found.gap <= 0.01
    assert "".join(found.tokens) == text
    local = attribute(
        smollm2, prompt, target=" happy", against=" sad", method="input_x_gradient"
    ).scores
    whole = dataclasses.replace(smollm2, network=copy.deepcopy(smollm2.network).float())
    present = whole.network.get_input_embeddings()(torch.tensor([prompt.ids])).detach()
    happy, sad = (smollm2.tokenizer(word).input_ids[0] for word in (" happy", " sad"))
    gradient = torch.autograd.grad(
        logit(whole, happy, sad)(present.requires_grad_()).sum(), present
    )[0]
    expected = np.where(found.varied, (present * gradient).sum(-1)[0].detach().numpy(), 0)
    np.testing.assert_allclose(local, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_the_frame_is_one_row_a_token(tiny_llama) -> None:
    found = attribute(tiny_llama, TEXT, target=70)
    frame = found.frame()
    assert list(frame) == ["token", "start", "stop", "varied", "score"]
    assert [TEXT[a:b] for a, b in zip(frame["start"], frame["stop"], strict=True)] == list(
        frame["token"]
    )
    assert "".join(frame["token"]) == TEXT
    np.testing.assert_array_equal(frame["score"], found.scores)


def test_answers_that_the_model_does_not_have(tiny_llama, tiny_classifier) -> None:
    with pytest.raises(SelectionError, match="not in the vocabulary of tiny-causal"):
        attribute(tiny_llama, TEXT, target=10**6)
    with pytest.raises(SelectionError, match=r"' zebra' is \d tokens .* one token"):
        attribute(tiny_llama, TEXT, target=" zebra")
    with pytest.raises(SelectionError, match=r"'' is 0 tokens of tiny-causal. Give"):
        attribute(tiny_llama, TEXT, target="")
    with pytest.raises(LabelError, match=r"no class 'neutral'. Give one of 'negative', 'positive'"):
        attribute(tiny_classifier, TEXT, target="neutral")
    with pytest.raises(SelectionError, match=r"class 2 is not one of .* 0 to 1"):
        attribute(tiny_classifier, TEXT, target=1, against=2)


def test_what_cannot_be_attributed(tiny_llama, tiny_classifier, tiny_encoder) -> None:
    with pytest.raises(UnsupportedModelError, match="of kind encoder"):
        attribute(tiny_encoder, TEXT)
    with pytest.raises(TextError, match="no text to read"):
        attribute(tiny_llama, "")
    with pytest.raises(TextError, match="only special tokens"):
        attribute(tiny_classifier, "")
    with pytest.raises(ValueError, match="method='saliency' is none of"):
        attribute(tiny_llama, TEXT, method="saliency")
    with pytest.raises(ValueError, match="steps=0 is no whole number"):
        attribute(tiny_llama, TEXT, steps=0)


@pytest.mark.parametrize(
    ("kind", "row", "left_out"), [("tiny_llama", -1, [0]), ("tiny_classifier", 0, [0, -1])]
)
def test_agreement_is_spearmans_over_the_compared_tokens(request, kind, row, left_out) -> None:
    model = request.getfixturevalue(kind)
    recording, found = record(model, TEXT), attribute(model, TEXT, target=1)
    frame = agreement(recording, found)
    assert len(frame) == 2 * 4
    sizes = np.delete(np.abs(found.scores), left_out)
    for layer, head, spearman, overlap in frame.itertuples(index=False):
        weights = np.delete(recording.weights(layer, head)[row], left_out)
        assert spearman == pytest.approx(spearmanr(weights, sizes).statistic, abs=1e-6)
        both = set(np.argsort(-weights)[:5]) & set(np.argsort(-sizes)[:5])
        assert overlap == len(both) / 5
    pd.testing.assert_frame_equal(
        agreement(recording, found, layer=1),
        frame[frame["layer"] == 1].reset_index(drop=True),
    )


def test_agreement_with_the_scores_themselves_is_whole(tiny_llama) -> None:
    recording, found = record(tiny_llama, TEXT), attribute(tiny_llama, TEXT, target=70)
    same = dataclasses.replace(found, scores=-recording.weights(1, 2)[-1])
    frame = agreement(recording, same, layer=1)
    assert frame["spearman"][2] == pytest.approx(1)
    assert frame["top5_overlap"][2] == 1
    assert (frame["spearman"][[0, 1, 3]] < 1).all()


def test_agreement_of_two_texts(tiny_llama) -> None:
    recording, found = record(tiny_llama, TEXT), attribute(tiny_llama, TEXT, target=70)
    with pytest.raises(SelectionError, match="of different texts"):
        agreement(record(tiny_llama, "The soup was cold."), found)
    with pytest.raises(SelectionError, match="layer 2 is not in this recording"):
        agreement(recording, found, layer=2)
