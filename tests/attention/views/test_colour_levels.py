"""Colours tell weights apart, up to the largest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.attention.views.colour_levels import codes, full_colour, levels, scale_ticks

SCALES = ("sqrt", "log")


def test_full_colour_is_the_largest_outside_of_the_sink() -> None:
    weights = np.full((20, 20), 0.06 / 18, np.float32)
    weights[:, 0], weights[:, 5] = 0.9, 0.04
    weights[3, 11] = 0.363  # one cell of 400
    assert full_colour(weights, sink=0) == pytest.approx(0.363)
    assert full_colour(weights, sink=None) == pytest.approx(0.9)
    assert full_colour(-weights, sink=0) == pytest.approx(0.363)
    assert full_colour(np.ones((1, 1), np.float32), sink=0) == 1.0
    assert full_colour(np.zeros((2, 2), np.float32), sink=None) == 1.0


@pytest.mark.parametrize("scale", SCALES)
@given(st.floats(1e-6, 1), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_levels_rise_with_weights_up_to_the_largest(scale, full, shares) -> None:
    shares = np.sort(np.array([*shares, 1.0], np.float32))
    found = levels(shares * np.float32(full), full, scale)
    assert (np.diff(found) >= 0).all()
    assert found[-1] == pytest.approx(1, abs=1e-6) and found.min() >= 0
    # Where one is thirty times another and the scale reaches both, the colours differ.
    if scale == "log":
        pairs = [(a, b) for a in shares for b in shares if a >= 1e-3 and b >= 30 * a]
        for a, b in pairs:
            low, high = levels(np.array([a, b]) * np.float32(full), full, scale)
            assert high - low > 0.35


@pytest.mark.parametrize("scale", SCALES)
def test_ticks_say_what_the_colours_stand_for(scale) -> None:
    least, half, full = map(float, scale_ticks(0.363, scale))
    assert levels(np.array([least, half, full]), 0.363, scale) == pytest.approx(
        [0, 0.5, 1], abs=0.01
    )


@given(st.floats(1e-6, 1), st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_codes_hold_weights_to_a_few_percent_over_four_decades(full, shares) -> None:
    weights = (np.array(shares) * full).astype(np.float32)
    for signed, most in ((True, 127), (False, 255)):
        given_ = weights if signed else np.abs(weights)
        found = codes(given_, full, signed=signed).astype(int)
        # As the browser reads them.
        places = (np.abs(found) - 1) / (most - 1)
        read = np.where(found == 0, 0, np.sign(found) * full * 10 ** (4 * (places - 1)))
        large = np.abs(given_) >= 1.05e-4 * full
        np.testing.assert_allclose(read[large], given_[large], rtol=0.04)
        assert (np.abs(read[~large]) <= 1.1e-4 * full).all()
