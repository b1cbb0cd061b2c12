"""The sink, and where the view opens, on attention made by hand."""

import numpy as np
import pytest

from nbllm.attention import overview
from nbllm.attention.overview import survey
from nbllm.engine.prompt import Mark


def spread(count: int, columns: int | None = None, **share: float) -> np.ndarray:
    """Rows that give the named keys ("k3") their share and divide the rest evenly."""
    columns = columns or count
    named = {int(name[1:]): weight for name, weight in share.items()}
    row = np.full(columns, (1 - sum(named.values())) / (columns - len(named)))
    for key, weight in named.items():
        row[key] = weight
    return np.tile(row, (count, 1))


def test_recordings_made_by_hand_have_their_weights(recording_of) -> None:
    weights = spread(6, k2=0.5)[None, None]
    np.testing.assert_allclose(recording_of(weights).weights(0, 0), weights[0, 0], rtol=1e-5)


def test_the_sink_is_found_where_it_is(recording_of) -> None:
    weights = np.stack([[spread(10, k4=0.6), spread(10, k4=0.3, k7=0.3)]])
    assert survey(recording_of(weights)).sink == 4


def test_even_attention_has_no_sink(recording_of) -> None:
    assert survey(recording_of(spread(10)[None, None])).sink is None


def test_the_view_opens_at_the_head_that_reads_the_users_text(recording_of) -> None:
    quiet, reads = spread(10, k0=0.8), spread(10, k0=0.5, k6=0.4)
    weights = np.stack([[reads, quiet], [quiet, quiet], [quiet, quiet], [quiet, reads]])
    found = survey(recording_of(weights, kind="causal", marks=(Mark("review", 5, 8),)))
    # Layer 0 reads it as well, and is of the lower half.
    assert (found.layer, found.head, found.token) == (3, 1, 9)
    assert found.share == pytest.approx(weights[3, 1, 9, 5:8].sum(), rel=1e-4)


def test_layers_go_by_their_numbers_in_the_model(recording_of) -> None:
    quiet, reads = spread(10, k0=0.8), spread(10, k0=0.5, k6=0.4)
    recording = recording_of(np.stack([[quiet, quiet], [quiet, reads]]), kind="causal")
    recording.layer_numbers = (4, 11)
    assert survey(recording).layer == 11


def test_cross_attention_opens_at_the_last_token_written(recording_of) -> None:
    weights = np.stack([[spread(4, 12, k11=0.9), spread(4, 12, k11=0.6, k3=0.3)]])
    found = survey(recording_of(weights, kind="cross", marks=(Mark("text", 2, 5),)))
    assert (found.sink, found.token, found.head) == (11, 3, 1)
    assert found.share == pytest.approx(weights[0, 1, 3, 2:5].sum(), rel=1e-4)


def test_a_long_text_is_sampled_and_the_sink_is_found_all_the_same(
    recording_of, monkeypatch
) -> None:
    heads = [spread(200, k4=0.6), spread(200, k9=0.3)] * 6
    weights = np.stack([heads] * 12)
    weights[-1, 1] = spread(200, k150=0.8)
    recording = recording_of(weights, kind="causal", marks=(Mark("review", 140, 160),))
    everything = survey(recording)
    monkeypatch.setattr(overview, "SURVEYED_WEIGHTS", 1)
    assert [len(sampled) for sampled in overview._sampled(recording)] == [8, 4, 8]
    assert survey(recording) == everything
    assert (everything.sink, everything.layer, everything.head) == (4, 11, 1)
