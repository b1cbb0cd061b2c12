"""What both decoders require of a constraint on the tokens of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

__all__ = ["Constraint"]


class Constraint(LogitsProcessor, ABC):
    """Leaves one token to each row of a batch, and knows the text that was generated.

    It holds the state of a batch, so it serves one only.
    """

    @abstractmethod
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (row, token): zero for the next token, else minus infinity."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> None:
        """Continue with some of the first rows, in the order given.

        Args:
            rows: Their indices among all prompts.
        """

    @abstractmethod
    def texts(self) -> list[str]:
        """Return the texts of all rows, once generation has ended."""
