"""The order of rows: each once an epoch, the same after a restart, whatever the memory."""

from __future__ import annotations

import numpy as np

from nbllm.train.order import Order

LENGTHS = [int(n) for n in np.random.default_rng(0).integers(3, 60, size=103)]


def test_each_row_comes_once_an_epoch_and_epochs_differ() -> None:
    order = Order(LENGTHS, rows=8, part=3, seed=0)
    first = list(order)
    assert sorted(n for part in first for n in part) == list(range(103))
    assert len(first) == len(order)
    order.epoch = 1
    assert list(order) != first
    order.epoch = 0
    assert list(order) == first


def test_the_rows_of_a_step_do_not_depend_on_the_memory() -> None:
    whole = [sorted(part) for part in Order(LENGTHS, rows=8, part=8, seed=5)]
    halves = list(Order(LENGTHS, rows=8, part=4, seed=5))
    # The last step has 7 rows: 4 and 3.
    joined = [sorted(halves[n] + halves[n + 1]) for n in range(0, len(halves), 2)]
    assert joined == whole
    assert len(whole) == Order(LENGTHS, 8, 8, 5).steps == 13


def test_rows_of_about_one_length_lie_together() -> None:
    batches = Order(LENGTHS, rows=8, part=8, seed=0).batches()[:-1]
    padding = sum(8 * max(LENGTHS[n] for n in b) - sum(LENGTHS[n] for n in b) for b in batches)
    unsorted = [range(start, start + 8) for start in range(0, 96, 8)]
    loose = sum(8 * max(LENGTHS[n] for n in b) - sum(LENGTHS[n] for n in b) for b in unsorted)
    assert padding < loose / 3
