"""Texts of unequal length padded to one batch, for one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nbllm.engine.padding import pad_rows
from nbllm.models.model import Model

__all__ = ["Padded"]


@dataclass(frozen=True)
class Padded:
    """Texts of unequal length as one batch."""

    ids: torch.Tensor  # (texts, longest)
    mask: torch.Tensor | None  # 1 for a token, 0 for padding; None where nothing is padded
    places: tuple[slice, ...]  # of each text

    @staticmethod
    def of(model: Model, texts: Sequence[Sequence[int]]) -> Padded:
        """Pad token ids on the right.

        Args:
            model: The model that will read them, whose padding token is used.
            texts: The token ids of each text.
        """
        # Some take positions from where this id stands, so it has to be the model's own.
        stated = getattr(model.network.config.get_text_config(), "pad_token_id", None)
        filler = 0 if stated is None else max(stated, 0)
        ids, seen = pad_rows(texts, filler)
        mask = None if bool(seen.all()) else seen.long().to(model.device)
        return Padded(ids.to(model.device), mask, tuple(slice(0, len(text)) for text in texts))
