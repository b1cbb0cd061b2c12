"""The memory that a batch takes: forecast from the model's sizes, corrected where memory ran out.

A forecast that proved too low is corrected by a factor for the rest of the process. A factor, and
not the batch that did not fit: with half of the memory left, half as much fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.models.memory.budget import kv_bytes
from nbllm.models.memory.footprint import working_bytes
from nbllm.models.sizes import largest, text_config

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["BatchCost", "oom_factor", "positions_at_once", "raise_oom_factor"]

_MANY = 1024  # tokens, enough that what does not grow with them is not seen
_LOGITS = 2**30  # bytes of one row's; where there are more, its positions are read part by part


@dataclass(frozen=True)
class BatchCost:
    """The bytes that a batch takes beside the weights; by default, a byte per token."""

    fixed: int = 0  # by any batch: weights that are unpacked to compute with them
    row: int = 0  # its logits, of as many positions as are read at once
    token: int = 1  # what a layer makes of it
    held: int = 0  # of keys and values, also of the tokens that all rows share
    pair: int = 0  # of masks: a token, and one that it may look at
    added: int = 0  # tokens of a row that are not in its length: those of its labels

    @classmethod
    def forecast(cls, model: Model, *, decodes: bool, label_tokens: int = 0) -> BatchCost:
        """Return the cost of a model's batches, from its sizes.

        The peak of a layer is taken to be four vectors of the hidden size and three of the widest
        layer for each token, as in Llama.

        Args:
            model: any loaded model.
            decodes: whether texts are generated; else they are only scored or encoded.
            label_tokens: tokens of labels after each row; logits are computed after each of them.
        """
        network, dtype, device = model.network, model.dtype, model.device
        config = text_config(network.config)
        hidden = largest(config, "hidden_size")
        wide, inputs = _widest(network)
        # Experts are no layers of their own, and those of GPT-2 do not say how wide they are.
        wide = max(wide, largest(config, "intermediate_size")) or 4 * hidden
        fixed = working_bytes(model.quantization, 0, wide, inputs, dtype, device)
        many = working_bytes(model.quantization, _MANY, wide, inputs, dtype, device)
        writes = model.kind in ("causal", "seq2seq")
        return cls(
            fixed=fixed,
            row=_logit_bytes(model) * min(1 + label_tokens, positions_at_once(model)),
            token=(4 * hidden + 3 * wide) * dtype.itemsize + (many - fixed) // _MANY,
            held=_held(model, decodes=decodes) if writes else 0,
            # Two masks of a byte and one in the model's dtype; and on a CPU room for the distances
            # between tokens in 8 bytes, which only a layer with a window needs.
            pair=2 + dtype.itemsize + (8 if device.type == "cpu" else 0),
            added=label_tokens,
        )

    def of(self, rows: int, length: int, shared: int = 0) -> int:
        """Return the bytes of a batch.

        Args:
            rows: texts in the batch.
            length: tokens of each row, padding included.
            shared: tokens that stand before those of every row.
        """
        return self.fixed + rows * self._of_row(length, shared)

    def rows(self, room: float, length: int, shared: int = 0) -> float:
        """Return the number of rows, with its fraction, that fit in some memory.

        Args:
            room: bytes.
            length: tokens of each row, padding included.
            shared: tokens that stand before those of every row.
        """
        return (room - self.fixed) / max(1, self._of_row(length, shared))

    def _of_row(self, length: int, shared: int) -> int:
        length += self.added
        seen = shared + length
        return self.row + length * self.token + seen * self.held + length * seen * self.pair


def positions_at_once(model: Model) -> int:
    """Return at how many positions of a row logits are computed in one pass; 1 at least.

    It depends on the model alone, so that the way in which a row is computed does not depend on
    what else is in memory.

    Args:
        model: any loaded model.
    """
    return max(1, _LOGITS // max(1, _logit_bytes(model)))


def _logit_bytes(model: Model) -> int:
    """Bytes of the logits at one position: in the model's dtype, and two copies in float32."""
    if model.kind not in ("causal", "seq2seq"):
        return 0
    return largest(text_config(model.network.config), "vocab_size") * (model.dtype.itemsize + 8)


def _widest(network: Any) -> tuple[int, int]:
    """Outputs and inputs of the largest layer but the output matrix, whatever class it is of."""
    head = network.get_output_embeddings()
    shapes = [
        (module.out_features, module.in_features)
        for module in network.modules()
        if module is not head and hasattr(module, "out_features") and hasattr(module, "in_features")
    ]
    return max(shapes, key=lambda shape: shape[0] * shape[1], default=(0, 0))


def _held(model: Model, *, decodes: bool) -> int:
    from nbllm.engine.cpu.twin import can_have_twin

    if not decodes and can_have_twin(model):
        return 0  # the prefix is there once, and nothing is kept of the rows
    config = text_config(model.network.config)
    # Of all layers; and those of one layer once more, repeated for each query head.
    repeated = 2 * largest(config, "hidden_size") * model.dtype.itemsize
    return int(kv_bytes(model.network.config, model.dtype, 1) + repeated)


_oom_factors: dict[tuple[str, ...], float] = {}  # for as long as this process runs


def oom_factor(model: Model, *, decodes: bool) -> float:
    """Return by how much batches of a model were seen to exceed their forecast; 1 at least.

    Args:
        model: the model that runs.
        decodes: whether texts are generated.
    """
    return _oom_factors.get(_oom_key(model, decodes), 1.0)


def raise_oom_factor(model: Model, factor: float, *, decodes: bool) -> None:
    """Keep a factor that `oom_factor` returns from now on, unless a greater one is known.

    Args:
        model: the model that ran out of memory.
        factor: the memory that was taken, divided by the forecast.
        decodes: whether texts were generated.
    """
    key = _oom_key(model, decodes)
    _oom_factors[key] = max(factor, _oom_factors.get(key, 1.0))


def _oom_key(model: Model, decodes: bool) -> tuple[str, ...]:
    """All that the memory of a batch depends on besides its shape."""
    return (
        str(model.device),
        model.revision,
        model.adapter_revision or "",
        model.quantization,
        str(model.dtype),
        "decodes" if decodes else "scores",
    )
