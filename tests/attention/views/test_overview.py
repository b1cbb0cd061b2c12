"""The sink, and where the view opens, on attention made by hand."""

import numpy as np
import pytest

from nbllm.attention.analysis.measures import head_measures
from nbllm.attention.recording.capture import record
from nbllm.attention.views import overview
from nbllm.attention.views.overview import survey
from nbllm.engine.prompt import FieldSpan


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
    found = survey(recording_of(weights, kind="causal", marks=(FieldSpan("review", 5, 8),)))
    # Layer 0 reads it as well, and is of the lower half.
    assert (found.layer, found.head, found.token) == (3, 1, 9)
    assert found.share == pytest.approx(weights[3, 1, 9, 5:8].sum(), rel=1e-4)


def looking_at(offset: int, rows: int = 10) -> np.ndarray:
    """Each row looks at the key so far away, as far as there is one."""
    weights = np.full((rows, rows), 0.03 / (rows - 1))
    for row in range(rows):
        weights[row, min(max(row + offset, 0), rows - 1)] = 0.97
    return weights


@pytest.mark.parametrize("marks", [(), (FieldSpan("review", 4, 10),)], ids=["no marks", "marked"])
@pytest.mark.parametrize(
    ("kind", "by_position"),
    [("causal", [-1, 0]), ("decoder", [-1, 0]), ("encoder", [0, 1])],
)
def test_a_head_that_looks_by_position_is_not_opened(
    recording_of, kind, by_position, marks
) -> None:
    # What it puts on itself and beside itself it puts there whatever the text says.
    reads = spread(10, k0=0.5, k6=0.2)
    heads = [*map(looking_at, by_position), reads, *[spread(10, k0=0.9)] * 5]
    weights = np.stack([heads, heads])
    found = survey(recording_of(weights, kind=kind, marks=marks))
    assert (found.sink, found.head) == (0, 2)
    assert found.share < 0.5


def test_layers_go_by_their_numbers_in_the_model(recording_of) -> None:
    quiet, reads = spread(10, k0=0.8), spread(10, k0=0.5, k6=0.4)
    recording = recording_of(np.stack([[quiet, quiet], [quiet, reads]]), kind="causal")
    recording.layer_numbers = (4, 11)
    assert survey(recording).layer == 11


def test_cross_attention_opens_at_the_last_token_written(recording_of) -> None:
    weights = np.stack([[spread(4, 12, k11=0.9), spread(4, 12, k11=0.6, k3=0.3)]])
    found = survey(recording_of(weights, kind="cross", marks=(FieldSpan("text", 2, 5),)))
    assert (found.sink, found.token, found.head) == (11, 3, 1)
    assert found.share == pytest.approx(weights[0, 1, 3, 2:5].sum(), rel=1e-4)


def test_a_long_text_is_sampled_and_the_sink_is_found_all_the_same(
    recording_of, monkeypatch
) -> None:
    heads = [spread(200, k4=0.6), spread(200, k9=0.3)] * 6
    weights = np.stack([heads] * 12)
    weights[-1, 1] = spread(200, k150=0.8)
    recording = recording_of(weights, kind="causal", marks=(FieldSpan("review", 140, 160),))
    everything = survey(recording)
    monkeypatch.setattr(overview, "SURVEYED_WEIGHTS", 1)
    assert [len(sampled) for sampled in overview._sampled(recording)] == [8, 4, 8]
    assert survey(recording) == everything
    assert (everything.sink, everything.layer, everything.head) == (4, 11, 1)


@pytest.mark.parametrize(
    "text",
    [
        "The plot was thin, but I loved it.",
        "Two hours of shouting, and not a single line that I can remember.",
        "When Mary and John went to the store, John gave a drink to",
    ],
)
def test_the_default_model_opens_at_a_head_that_reads_what_lies_further_away(smollm2, text) -> None:
    recording = record(smollm2, text)
    found = survey(recording)
    row = recording.weights(found.layer, found.head, rows=[found.token])[0]
    beside = row[found.token - 1 :].sum()
    assert found.share == pytest.approx(1 - beside - row[found.sink], abs=0.01)
    assert found.share > beside and found.share > 0.5
    # Elsewhere it is no head of the token before, either.
    before = head_measures(recording, layers=[found.layer]).set_index("head")["previous_token"]
    assert before[found.head] < 0.5
