"""Blocks, and the value that stands for each."""

import numpy as np
import pytest

from nbllm.attention.views.pooling import Pooled, block_edges, block_extreme, block_max


@pytest.fixture(params=[1, 3, 16, 40])
def blocks(request) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], list[list[np.ndarray]]]:
    """Where blocks of up to so many positions begin, down and across, and the blocks."""
    longest = request.param
    draw = np.random.default_rng(longest)
    lengths = [np.r_[draw.integers(1, longest + 1, 20), longest] for _ in range(2)]
    down, across = (np.cumsum(each) - each for each in lengths)
    values = draw.normal(size=(lengths[0].sum(), lengths[1].sum())).astype(np.float32)
    bands = np.split(values, down[1:])
    return values, (down, across), [np.split(band, across[1:], axis=1) for band in bands]


def test_block_max_takes_blocks_of_any_length(blocks) -> None:
    values, starts, parts = blocks
    wanted = [[-abs(part).min() for part in band] for band in parts]
    assert np.array_equal(block_max(-abs(values), *starts), wanted)


def test_block_extreme_keeps_the_sign(blocks) -> None:
    values, starts, parts = blocks
    wanted = [[part.flat[abs(part).argmax()] for part in band] for band in parts]
    assert np.array_equal(block_extreme(values, *starts), wanted)


@pytest.mark.parametrize("most", [1, 4, 100])
def test_a_picture_filled_in_bands_is_that_of_the_whole(most) -> None:
    whole = np.random.default_rng(0).random((40, 30), np.float32)
    pooled = Pooled(range(5, 38), range(2, 29), size=7, empty=-1)
    bands = pooled.bands(most)
    assert [row for band in bands for row in band] == list(range(5, 38))
    for band in bands:
        pooled.fill(band, range(2, 29), whole[band.start : band.stop, 2:29])
    down, across = block_edges(33, 7)[:-1], block_edges(27, 7)[:-1]
    assert np.array_equal(pooled.picture, block_max(whole[5:38, 2:29], down, across))


def test_keys_that_are_not_filled_in_stay_empty() -> None:
    pooled = Pooled(range(4), range(6), size=3, empty=-1)
    pooled.fill(range(4), range(2, 5), np.ones((4, 3), np.float32))
    assert (pooled.picture == [-1, 1, 1]).all()
