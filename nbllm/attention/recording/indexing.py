"""Positions as plain numbers, for which the host never waits for a device.

A tensor of positions lies on one device: to slice by its numbers the host has to wait for that
device, and layers of a spread model lie on others. Plain numbers do for all layers, and a run of
them takes a view instead of a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["bounds", "evenly_spaced", "gathered", "index", "places_of", "taken"]


def index(places: Sequence[int], device: torch.device) -> torch.Tensor:
    """The positions as a tensor on a device, (places,)."""
    if isinstance(places, range) and len(places):
        return torch.arange(places.start, places.stop, places.step, device=device)
    # CUDA has taken them over before the call returns; MPS may read them later.
    on_cuda = device.type == "cuda"
    return torch.tensor(places, dtype=torch.long).to(device, non_blocking=on_cuda)


def taken(tensor: torch.Tensor, dim: int, places: Sequence[int]) -> torch.Tensor:
    """The part of a tensor at some positions along one dimension; a view, where they are a run.

    Example:
        >>> taken(torch.arange(9), 0, range(2, 5))
        tensor([2, 3, 4])
    """
    if isinstance(places, range) and places.step == 1:
        return tensor.narrow(dim, places.start if len(places) else 0, len(places))
    return tensor.index_select(dim, index(places, tensor.device))


def bounds(places: Sequence[int]) -> tuple[int, int]:
    """The least and the largest of some positions."""
    ends = (places[0], places[-1]) if isinstance(places, range) else places
    return min(ends), max(ends)


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` positions of `count`, evenly spaced, the first and the last among them.

    Example:
        >>> evenly_spaced(100, 4), evenly_spaced(3, 4)
        ([0, 33, 66, 99], [0, 1, 2])
    """
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def places_of(key: int | None, places: Sequence[int]) -> list[int]:
    """The indices at which a list of positions names a key; it may do so more than once.

    Example:
        >>> places_of(7, [5, 7, 7]), places_of(7, range(5, 9)), places_of(None, [5])
        ([1, 2], [2], [])
    """
    if isinstance(places, range):
        return [places.index(key)] if key is not None and key in places else []
    return [place for place, other in enumerate(places) if other == key]


def gathered(parts: Sequence[torch.Tensor]) -> NDArray[np.float32]:
    """Tensors of one shape, on any devices, as one array, (parts, ...); the host waits once."""
    found: NDArray[np.float32] = (
        torch.stack([part.to(parts[0].device) for part in parts]).cpu().numpy()
    )
    return found
