"""The verbs that answer with labels, on each kind of model; and what they are worth."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import nbllm
from nbllm.errors import LabelError, UnsupportedModelError
from nbllm.models.model import Model
from tests.frame.conftest import REVIEWS

OPTIONS = {"ledger": False, "probabilities": True}


def frame_of(module=pd):
    return module.DataFrame({"review": REVIEWS})


def texts() -> list[str]:
    return [text for text in REVIEWS if text and text.strip()]


def head_of(model: Model, *names: str) -> Model:
    """The classifier with a fresh head of these labels."""
    config = model.network.config
    config.id2label = dict(enumerate(names))
    config.label2id = {name: n for n, name in enumerate(names)}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model.network.classifier = torch.nn.Linear(config.hidden_size, len(names))
    model.network.num_labels = len(names)
    return model


def logits(model: Model, text: str) -> np.ndarray:
    """As transformers has them, one text at a time and without padding."""
    with torch.inference_mode():
        return model.network(**model.tokenizer(text, return_tensors="pt")).logits[0].numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


# -- sentiment -------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_neutral_is_a_third_label(module, tiny_llama: Model) -> None:
    answered = frame_of(module).llm.sentiment("review", neutral=True, model=tiny_llama, **OPTIONS)
    names = ["positive", "neutral", "negative"]
    chances = [answered[f"review_sentiment_{name}"].to_numpy()[[0, 1, 3]] for name in names]
    np.testing.assert_allclose(np.sum(chances, axis=0), 1.0, atol=1e-12)
    best = [names[n] for n in np.argmax(chances, axis=0)]
    assert [answered["review_sentiment"][n] for n in (0, 1, 3)] == best


def test_the_two_label_prompt_is_as_it_was_measured(tiny_llama: Model) -> None:
    two = str(frame_of().llm.preview("sentiment", "review", model=tiny_llama))
    three = str(frame_of().llm.preview("sentiment", "review", neutral=True, model=tiny_llama))
    assert two.startswith("Tell whether each review is positive or negative.\n\nReview: An ")
    assert "neutral" not in two
    assert two.count("Sentiment:") == 9
    assert three.startswith("Tell whether each review is positive, neutral or negative.")
    assert three.count("Sentiment: neutral") == 4 and three.count("Sentiment:") == 13


def test_neutral_examples_are_refused_where_it_is_no_label(tiny_llama: Model) -> None:
    shown = [("It rained.", "neutral")]
    with pytest.raises(LabelError, match="neutral"):
        frame_of().llm.sentiment("review", examples=shown, model=tiny_llama)
    preview = frame_of().llm.preview(
        "sentiment", "review", neutral=True, examples=shown, model=tiny_llama
    )
    assert "Review: It rained.\nSentiment: neutral" in str(preview)


@pytest.mark.parametrize("names", [("NEG", "Pos"), ("positive", "neutral", "negative")])
def test_a_classifier_answers_by_its_head(names, tiny_classifier: Model) -> None:
    model = head_of(tiny_classifier, *names)
    answered = frame_of().llm.sentiment("review", model=model, **OPTIONS)
    wanted = [
        next(n for n, name in enumerate(names) if name.lower().startswith(start))
        for start in ("pos", "neg")
    ]
    for row in (0, 1, 3, 6):
        expected = softmax(logits(model, REVIEWS[row])[wanted])
        line = answered.loc[row]
        found = [line["review_sentiment_positive"], line["review_sentiment_negative"]]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert line["review_sentiment"] == ("positive", "negative")[int(expected.argmax())]
        assert line["review_sentiment_score"] == pytest.approx(expected.max(), abs=1e-5)
    assert answered["review_sentiment"].isna().tolist() == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("names", "neutral", "message"),
    [
        (("LABEL_0", "LABEL_1"), False, r"LABEL_0, LABEL_1.*Use classify"),
        (("negative", "positive"), True, r"means neutral.*leave out neutral=True"),
        (("1 star", "2 stars"), False, "Use classify"),
        (("pos", "positive", "neg"), False, "means positive"),
    ],
)
def test_a_head_that_does_not_say_is_refused(
    names, neutral, message, tiny_classifier: Model
) -> None:
    model = head_of(tiny_classifier, *names)
    with pytest.raises(LabelError, match=message):
        frame_of().llm.sentiment("review", neutral=neutral, model=model)


@pytest.mark.parametrize("told", [{"instruction": "Judge."}, {"examples": [("x", "positive")]}])
@pytest.mark.parametrize("verb", ["sentiment", "classify"])
def test_a_classifier_can_be_told_nothing(verb, told, tiny_classifier: Model) -> None:
    with pytest.raises(LabelError, match="reads the text alone"):
        getattr(frame_of().llm, verb)("review", model=tiny_classifier, **told)


def test_three_labels_on_real_reviews(data_dir, smollm2: Model) -> None:
    """SST-5 validation, which no prompt was chosen on; a cut of it, to be quick."""
    from sklearn.metrics import f1_score

    frame = pd.read_parquet(data_dir / "research-only" / "sst5.parquet")
    frame = frame[frame["split"] == "validation"].sample(200, random_state=0)
    names = ["negative", "negative", "neutral", "positive", "positive"]
    truth = [names[int(label)] for label in frame["label"]]
    answered = frame.llm.sentiment("text", neutral=True, model=smollm2)
    found = f1_score(truth, answered["text_sentiment"], average="macro")
    majority = max(
        f1_score(truth, [name] * 200, average="macro", zero_division=0) for name in set(truth)
    )
    print(f"\nSST-5 validation, 200 rows: macro-F1 {found:.3f}, majority {majority:.3f}")
    assert found >= 0.45 > majority + 0.2


# -- classify --------------------------------------------------------------------------------


def test_descriptions_stand_in_the_prompt(tiny_llama: Model) -> None:
    labels = {"refund": "wants money back", "delivery": "asks where a parcel is"}
    preview = frame_of().llm.preview("classify", "review", labels=labels, model=tiny_llama)
    assert str(preview).startswith(
        "Classify each text as one of:\n- refund: wants money back\n"
        "- delivery: asks where a parcel is\n\nText: The soup"
    )
    answered = frame_of().llm.classify("review", labels, model=tiny_llama, **OPTIONS)
    assert set(answered["review_classify"].dropna()) <= set(labels)
    with pytest.raises(LabelError, match="described by ' '"):
        frame_of().llm.classify("review", {"a": "one", "b": " "}, model=tiny_llama)


def test_only_a_classifier_has_labels_of_its_own(
    tiny_llama: Model, tiny_encoder: Model, tiny_classifier: Model
) -> None:
    for model in (tiny_llama, tiny_encoder):
        with pytest.raises(LabelError, match="no labels of its own"):
            frame_of().llm.classify("review", model=model)
    model = head_of(tiny_classifier, "LABEL_0", "LABEL_1", "LABEL_2")
    answered = frame_of().llm.classify("review", model=model, **OPTIONS)
    some = frame_of().llm.classify("review", ["LABEL_2", "LABEL_0"], model=model, **OPTIONS)
    for row in (0, 1, 3, 6):
        values = logits(model, REVIEWS[row])
        line = answered.loc[row, [f"review_classify_LABEL_{n}" for n in range(3)]]
        np.testing.assert_allclose(line.astype(float), softmax(values), atol=1e-5)
        assert answered["review_classify"][row] == f"LABEL_{values.argmax()}"
        chosen = some.loc[row, ["review_classify_LABEL_2", "review_classify_LABEL_0"]]
        np.testing.assert_allclose(chosen.astype(float), softmax(values[[2, 0]]), atol=1e-5)
    with pytest.raises(LabelError, match=r"'other'.*LABEL_0, LABEL_1, LABEL_2"):
        frame_of().llm.classify("review", ["LABEL_0", "other"], model=model)
    with pytest.raises(LabelError, match="reads no descriptions"):
        frame_of().llm.classify("review", {"LABEL_0": "a", "LABEL_1": "b"}, model=model)


@pytest.mark.parametrize("module", [pd, pl])
def test_an_encoder_takes_the_nearest_label(module, tiny_encoder: Model) -> None:
    labels = {"food": "The soup was warm.", "wait": "We waited an hour.", "film": "A quiet film."}
    answered = frame_of(module).llm.classify("review", labels, model=tiny_encoder, **OPTIONS)

    def vector(text: str) -> np.ndarray:
        with torch.inference_mode():
            inputs = tiny_encoder.tokenizer(text, return_tensors="pt")
            hidden = tiny_encoder.network(**inputs).last_hidden_state[0].mean(0).numpy()
        return hidden / np.linalg.norm(hidden)

    meant = np.stack([vector(text) for text in labels.values()])
    for row in (0, 1, 3, 6):
        expected = softmax(meant @ vector(REVIEWS[row]) / 0.05)
        found = [answered[f"review_classify_{label}"][row] for label in labels]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert answered["review_classify"][row] == list(labels)[int(expected.argmax())]
    with pytest.raises(UnsupportedModelError, match="only says which is nearest"):
        frame_of(module).llm.classify("review", labels, multi=True, model=tiny_encoder)
    with pytest.raises(LabelError, match="reads the text alone"):
        frame_of(module).llm.classify("review", labels, instruction="x", model=tiny_encoder)


@pytest.mark.parametrize("module", [pd, pl])
def test_several_labels_are_asked_one_by_one(module, tiny_llama: Model, tmp_path) -> None:
    labels = ["soup", "a long wait", "film"]
    answered = frame_of(module).llm.classify(
        "review", labels, multi=True, model=tiny_llama, ledger=False
    )
    assert "review_classify_score" not in answered.columns
    path = tmp_path / "answered.parquet"
    answered.to_parquet(path) if module is pd else answered.write_parquet(path)
    again = pl.read_parquet(path)
    for row in (0, 1, 3, 6):
        chances = {label: again[f"review_classify_{label}"][row] for label in labels}
        assert json.loads(again["review_classify"][row]) == [
            label for label in labels if chances[label] >= 0.5
        ]
    assert [again["review_classify"][row] for row in (2, 5)] == [None, None]

    # Each is the answer to its question alone: other labels beside it change nothing.
    fewer = frame_of(module).llm.classify(
        "review", labels[:2], multi=True, model=tiny_llama, ledger=False
    )
    for label in labels[:2]:
        np.testing.assert_allclose(
            fewer[f"review_classify_{label}"].to_numpy()[[0, 1, 3, 6]],
            again[f"review_classify_{label}"].to_numpy()[[0, 1, 3, 6]],
            atol=1e-5,
        )


def test_several_labels_with_examples_and_from_the_ledger(tiny_llama: Model, forwards) -> None:
    asked = {
        "labels": ["food", "time"],
        "multi": True,
        "examples": [("Cold soup, late.", "food"), ("Cold soup, late.", "time"), ("Cake.", "food")],
        "model": tiny_llama,
    }
    preview = str(frame_of().llm.preview("classify", "review", **asked))
    assert preview.startswith(
        "Is each text about food? Answer yes or no.\n\nText: Cold soup, late."
    )
    assert preview.count("Answer: yes") == 2 and preview.endswith("\nAnswer:")
    once = frame_of().llm.classify("review", **asked)
    count = len(forwards)
    pd.testing.assert_frame_equal(once, frame_of().llm.classify("review", **asked))
    assert len(forwards) == count


def test_a_classifier_of_several_labels(tiny_classifier: Model) -> None:
    model = head_of(tiny_classifier, "food", "time", "film")
    with pytest.raises(UnsupportedModelError, match="one label a text"):
        frame_of().llm.classify("review", multi=True, model=model)
    model.network.config.problem_type = "multi_label_classification"
    answered = frame_of().llm.classify("review", ["film", "food"], multi=True, model=model)
    for row in (0, 1, 3, 6):
        expected = 1 / (1 + np.exp(-logits(model, REVIEWS[row])[[2, 0]]))
        found = answered.loc[row, ["review_classify_film", "review_classify_food"]]
        np.testing.assert_allclose(found.astype(float), expected, atol=1e-5)
        fitting = [name for name, p in zip(["film", "food"], expected, strict=True) if p >= 0.5]
        assert json.loads(answered["review_classify"][row]) == fitting


# -- filter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_filter_takes_the_rows_of_which_it_holds(module, tiny_llama: Model) -> None:
    frame = frame_of(module)
    with pytest.warns(UserWarning, match="2 blank and 0 failed rows of 7 are left out"):
        everything = frame.llm.filter("review", "is kind", threshold=0.0, model=tiny_llama)
    assert list(everything["review"]) == [REVIEWS[n] for n in (0, 1, 3, 4, 6)]
    scores = everything["review_filter_score"].to_list()
    fence = sorted(scores)[2]
    with pytest.warns(UserWarning, match="left out"):
        some = frame.llm.filter("review", "is kind", threshold=fence, model=tiny_llama)
    taken = [n for n, score in zip((0, 1, 3, 4, 6), scores, strict=True) if score >= fence]
    assert list(some["review"]) == [REVIEWS[n] for n in taken] and 3 <= len(taken) < 5
    assert set(some["review_filter"]) == {"yes"}
    if module is pd:
        assert some.index.tolist() == taken
        assert some.llm.report().verb == "filter"


def test_a_filters_score_is_bayes_rule_on_likelihoods(tiny_llama: Model) -> None:
    from nbllm.frame.verbs.filter import _CALIBRATION

    frame = pd.DataFrame({"review": texts()})
    options = {"threshold": 0.0, "model": tiny_llama, "ledger": False}
    found = frame.llm.filter("review", "The text is kind.", **options)

    def likelihood(text: str) -> float:
        tokens = tiny_llama.tokenizer
        head = str(
            pd.DataFrame({"t": ["@"]}).llm.preview(
                "filter", "t", predicate="is kind", model=tiny_llama
            )
        )
        before, after = head.split("Text: @")
        pieces = [before + "Text:", f" {text}", after, " is kind."]
        ids = tokens(pieces, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        whole = torch.tensor([[token for piece in ids for token in piece]])
        with torch.inference_mode():
            logp = tiny_llama.network(whole).logits[0].log_softmax(-1)
        start = whole.shape[1] - len(ids[-1])
        return sum(float(logp[n - 1, whole[0, n]]) for n in range(start, whole.shape[1]))

    average = np.log(np.mean(np.exp([likelihood(text) for text in _CALIBRATION])))
    for text, score in zip(found["review"], found["review_filter_score"], strict=True):
        ratio = np.exp(likelihood(text) - average)
        assert score == pytest.approx(0.25 * ratio / (0.25 * ratio + 1), abs=1e-4)


def test_a_filters_failed_rows_are_counted(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"review": ["warm soup", "word " * 3000]})
    with pytest.warns(UserWarning) as said:
        frame.llm.filter("review", "is kind", model=tiny_llama)
    assert any("0 blank and 1 failed rows of 2" in str(warning.message) for warning in said)


def test_moving_the_threshold_asks_nothing_new(tiny_llama: Model, forwards) -> None:
    frame = pd.DataFrame({"review": texts()})
    kept = frame.llm.filter(
        "review", "is kind", threshold=0.0, model=tiny_llama, keep=("run",), into="kind"
    )
    assert list(kept.columns) == ["review", "kind_run"]
    count = len(forwards)
    none = frame.llm.filter("review", "is kind", threshold=1.0, model=tiny_llama)
    assert len(none) == 0 and "review_filter" in none and len(forwards) == count


@pytest.mark.parametrize("module", [pd, pl])
def test_a_filter_runs_beside_the_notebook(module, tiny_llama: Model) -> None:
    frame = module.DataFrame({"text": ["The soup was cold.", "x", "We waited an hour."]})
    asked = {"model": tiny_llama, "threshold": 0.0, "ledger": False}
    run = frame.llm.filter("text", "is about food", background=True, **asked)
    found = run.result(60)
    now = frame.llm.filter("text", "is about food", **asked)
    assert found["text_filter_score"].to_list() == now["text_filter_score"].to_list()
    assert len(found) == 3 and run.report.computed == 3


@pytest.mark.parametrize(
    ("predicate", "threshold", "message"),
    [(" ", 0.5, "says nothing"), (3, 0.5, "is no text"), ("is kind", 1.5, "no probability")],
)
def test_what_filters_nothing_is_refused(predicate, threshold, message, tiny_llama: Model) -> None:
    from nbllm.errors import FrameError

    with pytest.raises(FrameError, match=message):
        frame_of().llm.filter("review", predicate, threshold=threshold, model=tiny_llama)


def test_a_filters_examples_are_shown(tiny_llama: Model) -> None:
    preview = frame_of().llm.preview(
        "filter",
        "review",
        predicate="asks for help",
        instruction="Read.",
        examples=[("Where is it?", "asks a question.")],
        model=tiny_llama,
    )
    assert str(preview).startswith(
        "Read.\n\nText: Where is it?\nThe text asks a question.\n\nText: The soup"
    )
    assert str(preview).endswith("\nThe text")


def test_filter_ranks_what_it_is_asked_for_first(smollm2: Model) -> None:
    """Our own messages, on which the form of the prompt was chosen."""
    messages = nbllm.data.load("messages")
    asked = {"payment": "is about a payment", "cancel order": "wants to cancel an order"}
    for label, predicate in asked.items():
        scored = messages.llm.filter("text", predicate, threshold=0.0, model=smollm2)
        scores, holds = scored["text_filter_score"].to_numpy(), messages["label"] == label
        above = (scores[holds][:, None] > scores[~holds]).mean()
        taken = messages.llm.filter("text", predicate, model=smollm2)
        precision = holds[taken.index].mean()
        print(f"\n{predicate}: AUC {above:.2f}, {precision:.2f} of those taken, {holds.mean():.2f}")
        assert above >= 0.75 and precision > 1.5 * holds.mean()
