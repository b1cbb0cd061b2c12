"""Measures against scipy and numpy over eager attention, and on heads made by hand."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

import nbllm.attention.analysis.measures as measures
from nbllm.attention.analysis.measures import head_measures, induction_scores
from nbllm.attention.recording.capture import record, record_batch
from nbllm.errors import ArgumentError, SelectionError, TextTooLongError, UnsupportedModelError

# Its tokens repeat.
TEXT = "The soup was warm and the staff were kind, and the soup was warm again and we stayed."
COLUMNS = [
    *("layer", "head", "entropy", "normalized_entropy", "mean_distance", "sink_mass"),
    *("previous_token", "duplicate_token"),
]


def reference(weights: np.ndarray, ids, sink: int | None, rows) -> dict[str, float]:
    """The measures of one causal head, from its whole matrix in float64."""
    weights = weights.astype(float)
    places = np.arange(len(ids))
    duplicates = [
        weights[row, [key for key in range(row) if ids[key] == ids[row]]].sum()
        for row in rows
        if ids[row] in ids[:row]
    ]
    entropies = [scipy.stats.entropy(weights[row]) for row in rows]
    return {
        "entropy": np.mean(entropies),
        "normalized_entropy": np.mean(
            [
                entropy / np.log(row + 1) if row else 0
                for row, entropy in zip(rows, entropies, strict=True)
            ]
        ),
        "mean_distance": np.mean([(weights[row] * np.abs(row - places)).sum() for row in rows]),
        "sink_mass": np.nan
        if sink is None
        else np.mean([weights[row, sink] for row in rows if row >= sink]),
        "previous_token": np.mean([weights[row, row - 1] for row in rows if row >= 1]),
        "duplicate_token": np.mean(duplicates) if duplicates else np.nan,
    }


@pytest.mark.parametrize("at_once", [2**20, 300])
@pytest.mark.parametrize("most", [256, 32])
def test_measures_of_a_model(tiny_llama, eager_weights, monkeypatch, at_once, most) -> None:
    monkeypatch.setattr("nbllm.attention.recording.layer.SCORES_AT_ONCE", at_once)
    monkeypatch.setattr(measures, "MOST_ROWS", most)
    recording = record(tiny_llama, TEXT)
    count = len(recording)
    rows = sorted({int(row) for row in np.linspace(0, count - 1, min(most, count)).round()})
    frame = head_measures(recording)
    assert list(frame.columns) == COLUMNS
    assert len(rows) == (count if most == 256 else 32) and count > 32
    assert frame.attrs["rows"] == len(rows) and frame.attrs["of"] == count
    eager = eager_weights(tiny_llama.network, recording.ids)
    expected = [
        reference(eager[layer][head], recording.ids, frame.attrs["sink"], rows)
        for layer, head in zip(frame["layer"], frame["head"], strict=True)
    ]
    for name in COLUMNS[2:]:
        np.testing.assert_allclose(frame[name], [row[name] for row in expected], atol=1e-5)
    assert frame["duplicate_token"].notna().all()


def test_heads_made_by_hand(recording_of) -> None:
    count = 8
    previous, sinking, even = np.zeros((3, count, count))
    previous[range(1, count), range(count - 1)] = 1
    previous[0, 0] = 1
    sinking[:, 0] = 1
    even[:] = 1 / count
    duplicate = np.eye(count)
    duplicate[[4, 7], [4, 7]] = 0
    duplicate[4, 1] = duplicate[7, 1] = 1
    recording = recording_of(
        np.stack([[previous, sinking, even, duplicate]]), ids=[0, 9, 2, 3, 9, 5, 6, 9]
    )
    frame = head_measures(recording).set_index("head")
    assert frame.attrs["sink"] == 0
    np.testing.assert_allclose(frame["previous_token"], [1, 1 / 7, 1 / 8, 0], atol=1e-6)
    np.testing.assert_allclose(frame["sink_mass"], [1 / 4, 1, 1 / 8, 1 / 8], atol=1e-6)
    np.testing.assert_allclose(frame["duplicate_token"], [0, 0, 3 / 16, 1], atol=1e-6)
    np.testing.assert_allclose(frame["entropy"], [0, 0, np.log(8), 0], atol=1e-5)
    np.testing.assert_allclose(frame["normalized_entropy"], [0, 0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(frame["mean_distance"], [7 / 8, 3.5, 2.625, 9 / 8], atol=1e-5)


def test_what_there_is_nothing_of_is_missing(recording_of) -> None:
    even = np.full((1, 1, 6, 6), 1 / 6)
    frame = head_measures(recording_of(even))
    assert frame.attrs["sink"] is None
    assert frame[["sink_mass", "duplicate_token"]].isna().all(axis=None)
    assert frame[["entropy", "previous_token"]].notna().all(axis=None)


def test_cross_attention_has_no_distances(recording_of) -> None:
    weights = np.tile([0.7, 0.1, 0.1, 0.1], (1, 1, 3, 1))
    frame = head_measures(recording_of(weights, kind="cross"))
    missing = ["mean_distance", "previous_token", "duplicate_token"]
    assert frame[missing].isna().all(axis=None)
    assert frame["sink_mass"][0] == pytest.approx(0.7, abs=1e-5)
    assert frame["entropy"][0] == pytest.approx(scipy.stats.entropy([0.7, 0.1, 0.1, 0.1]), abs=1e-5)


def test_a_models_own_sink_counts_as_sink_mass(random_recording) -> None:
    recording = random_recording(30, causal=True, sinks=True)
    frame = head_measures(recording)
    weights = recording.weights(1, 2).astype(float)
    sink = frame.attrs["sink"]
    seeing = weights if sink is None else weights[sink:]
    expected = 1 - seeing.sum(1) + (0 if sink is None else seeing[:, sink])
    found = frame.set_index(["layer", "head"])["sink_mass"][1, 2]
    assert found == pytest.approx(expected.mean(), abs=1e-5)
    assert scipy.stats.entropy(weights, axis=1).mean() == pytest.approx(
        frame.set_index(["layer", "head"])["entropy"][1, 2], abs=1e-5
    )


def test_beyond_its_window_a_query_does_not_see_the_sink(recording_of) -> None:
    even = np.tril(np.ones((64, 64)))
    sink = np.zeros((64, 64))
    sink[:, 0] = 1
    # The second layer sees eight keys, of which all weight is on the sink where that is one.
    recording = recording_of(np.stack([sink, np.where(sink > 0, 1, even * 1e-9)])[:, None])
    whole, local = recording.layers
    local = dataclasses.replace(local, causal=True, window=8)
    recording = dataclasses.replace(recording, kind="causal", layers=(whole, local))
    frame = head_measures(recording)
    assert frame.attrs["sink"] == 0
    np.testing.assert_allclose(frame["sink_mass"], 1, atol=1e-5)


def test_some_layers_by_their_numbers(random_recording) -> None:
    recording = random_recording(12, causal=True)
    everything = head_measures(recording)
    recording.layer_numbers = (3, 8)
    frame = head_measures(recording, layers=[8])
    assert frame["layer"].tolist() == [8] * 4
    np.testing.assert_array_equal(frame["entropy"], everything["entropy"][4:])
    with pytest.raises(SelectionError, match="layer 1 is not in this recording"):
        head_measures(recording, layers=[1])
    with pytest.raises(SelectionError, match="names no layer"):
        head_measures(recording, layers=[])


def test_one_token(random_recording) -> None:
    frame = head_measures(random_recording(1, causal=True))
    assert frame["entropy"].abs().max() < 1e-6
    assert frame["normalized_entropy"].abs().max() < 1e-6
    assert frame["previous_token"].isna().all()


def test_induction_of_a_model(tiny_llama, eager_weights, monkeypatch) -> None:
    texts = []

    def spied(model, prompts):
        texts.extend(prompts)
        return record_batch(model, prompts)

    monkeypatch.setattr(measures, "record_batch", spied)
    frame = induction_scores(tiny_llama, length=12, sequences=3)
    assert len({text.ids for text in texts}) == 3
    scores = []
    for text in texts:
        begin, *twice = text.ids
        assert begin == tiny_llama.tokenizer.bos_token_id
        assert twice[:12] == twice[12:] and len({*twice}) == 12
        assert not {*twice} & {*tiny_llama.tokenizer.all_special_ids}
        eager = np.stack(eager_weights(tiny_llama.network, text.ids)).astype(float)
        # Token 13 + i is that of 1 + i, which 2 + i followed.
        scores.append(np.mean([eager[:, :, 13 + i, 2 + i] for i in range(12)], axis=0))
    assert list(frame.columns) == ["layer", "head", "induction"]
    assert frame["layer"].tolist() == [0] * 4 + [1] * 4
    assert frame["head"].tolist() == [0, 1, 2, 3] * 2
    np.testing.assert_allclose(frame["induction"], np.mean(scores, axis=0).ravel(), atol=1e-5)


def test_the_real_model_has_induction_heads(smollm2) -> None:
    frame = induction_scores(smollm2, length=30, sequences=2)
    best = frame.nlargest(3, "induction")
    assert best["induction"].min() > 0.5
    # They need a layer below them, which looks at the token before (Olsson et al. 2022).
    assert best["layer"].min() > 0
    assert frame["induction"].median() < 0.05


def test_induction_asks_for_a_causal_model_and_a_length_that_fits(tiny_llama, tiny_encoder) -> None:
    with pytest.raises(UnsupportedModelError, match="of kind encoder"):
        induction_scores(tiny_encoder)
    for name, value in {"length": 1, "sequences": 0}.items():
        with pytest.raises(ArgumentError, match=f"{name}={value} is no whole number"):
            induction_scores(tiny_llama, **{name: value})
    with pytest.raises(ArgumentError, match="length=10000 is more than"):
        induction_scores(tiny_llama, length=10_000)
    tiny_llama.context_length = 30
    with pytest.raises(TextTooLongError):
        induction_scores(tiny_llama, length=15)
