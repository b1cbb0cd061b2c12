"""Small pictures, the sink, and where the view opens, on attention made by hand."""

import numpy as np
import pytest
import torch

from nbllm.attention.capture import Recording
from nbllm.attention.layer import Layer
from nbllm.attention.overview import full_colour, pool, survey, thumbnails
from nbllm.engine.prompt import Mark


def recording_of(weights: np.ndarray, *, causal: bool = False, marks: tuple[Mark, ...] = ()):
    """A recording whose heads have exactly these weights, (layers, heads, tokens, tokens)."""
    count = weights.shape[-1]
    layers = tuple(
        Layer(
            # q · k = log p: queries hold the logarithms, keys the unit vectors.
            query=torch.tensor(np.log(layer), dtype=torch.float32),
            key=torch.eye(count).expand(len(layer), count, count),
            scale=1.0,
            mask=None,
            bias=None,
            causal=False,
            window=None,
            softcap=None,
            sinks=None,
        )
        for layer in weights
    )
    return Recording(
        model="made by hand",
        text="x" * count,
        ids=tuple(range(count)),
        tokens=("x",) * count,
        spans=tuple((place, place + 1) for place in range(count)),
        special=(False,) * count,
        marks=marks,
        causal=causal,
        layers=layers,
        gaps=(0.0,) * len(weights),
    )


def spread(count: int, **share: float) -> np.ndarray:
    """Rows that give the named keys ("k3") their share and divide the rest evenly."""
    named = {int(name[1:]): weight for name, weight in share.items()}
    row = np.full(count, (1 - sum(named.values())) / (count - len(named)))
    for key, weight in named.items():
        row[key] = weight
    return np.tile(row, (count, 1))


def test_recordings_made_by_hand_have_their_weights() -> None:
    weights = spread(6, k2=0.5)[None, None]
    np.testing.assert_allclose(recording_of(weights).weights(0, 0), weights[0, 0], rtol=1e-5)


def test_the_sink_is_found_where_it_is() -> None:
    weights = np.stack([[spread(10, k4=0.6), spread(10, k4=0.3, k7=0.3)]])
    assert survey(recording_of(weights)).sink == 4


def test_even_attention_has_no_sink() -> None:
    assert survey(recording_of(spread(10)[None, None])).sink is None


def test_the_view_opens_at_the_head_that_reads_the_users_text() -> None:
    quiet, reads = spread(10, k0=0.8), spread(10, k0=0.5, k6=0.4)
    weights = np.stack([[reads, quiet], [quiet, quiet], [quiet, quiet], [quiet, reads]])
    overview = survey(recording_of(weights, causal=True, marks=(Mark("review", 5, 8),)))
    # Layer 0 reads it as well, and is of the lower half.
    assert (overview.layer, overview.head, overview.token) == (3, 1, 9)
    assert overview.share == pytest.approx(weights[3, 1, 9, 5:8].sum(), rel=1e-4)


def test_pooling_keeps_a_single_hot_key() -> None:
    weights = np.zeros((100, 100), np.float32)
    weights[57, 33] = 0.9
    small = pool(weights, 16)
    assert small.shape == (16, 16)
    assert (small > 0).sum() == 1
    # Block b of 16 begins at b * 100 // 16, as the browser reckons.
    assert small[57 * 16 // 100, 33 * 16 // 100] == np.float32(0.9)
    assert pool(weights, 500).shape == (100, 100)


def test_full_colour_is_set_by_the_other_tokens() -> None:
    weights = spread(20, k0=0.9, k5=0.04).astype(np.float32)
    weights[3, 11] = 0.8  # one odd row
    assert full_colour(weights, sink=0) == pytest.approx(0.04, rel=1e-4)
    assert full_colour(weights, sink=None) == pytest.approx(0.9, rel=1e-4)
    assert full_colour(np.ones((1, 1), np.float32), sink=0) == 1.0


def test_thumbnails_are_levels_by_square_root() -> None:
    weights = np.stack([[spread(10, k0=0.7, k5=0.2), spread(10)]])
    levels = thumbnails(recording_of(weights), 0, sink=0, size=24)
    assert levels.shape == (2, 10, 10) and levels.dtype == np.uint8
    assert (levels[0, :, [0, 5]] == 255).all()
    assert levels[0, 0, 1] == round(255 * np.sqrt(weights[0, 0, 0, 1] / 0.2))
    assert (levels[1] == 255).all()  # an even head is even
