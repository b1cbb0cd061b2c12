"""All that makes two loads of a model the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from nbllm.models.kind import Kind

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """All that makes two loads the same."""

    folder: Path
    revision: str
    kind: Kind
    # Tokens. How a network is used, not which it is: two that differ in it share their weights.
    context_length: int = field(compare=False)
    quantize: str
    device: torch.device
    dtype: torch.dtype
    device_map: str | tuple[tuple[str, int | str], ...] | None = None
    adapter: Path | None = None
    adapter_revision: str | None = None
    merge_adapter: bool = False  # the adapter into the weights
    published: str | None = None  # how the checkpoint came quantized
    trust_remote_code: bool = False
    text_engine: str = "torch"  # as in `load`

    @property
    def unpacks(self) -> bool:
        """Whether weights that were published quantized are unpacked while reading."""
        return self.published is not None and self.quantize == "none"
