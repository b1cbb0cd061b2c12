"""Rows of tokens as one batch of equal length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["pad_rows"]


def pad_rows(
    rows: Sequence[Sequence[int]], filler: int, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of tokens as one tensor of ids, and which of these are no padding.

    Args:
        rows: The tokens of each row.
        filler: The id of padding.
        left: Pad before the tokens instead of after them.

    Returns:
        int64 and bool, both (rows, longest).

    Example:
        >>> pad_rows([[5, 6], [7]], 0)[0].tolist()
        [[5, 6], [7, 0]]
    """
    lengths = np.array([len(row) for row in rows])
    places = np.arange(lengths.max())
    seen = places >= places.size - lengths[:, None] if left else places < lengths[:, None]
    ids = np.full(seen.shape, filler, dtype=np.int64)
    ids[seen] = np.concatenate(rows)
    return torch.from_numpy(ids), torch.from_numpy(seen)
