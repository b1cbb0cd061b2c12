"""Losses: sums over all tokens, or rows, that a batch predicts, so that each counts the same."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from nbllm.train.layout import IGNORED

if TYPE_CHECKING:
    from nbllm.train.examples import Example
    from nbllm.train.layout import Batch, Layout

__all__ = ["loss_sum", "on_device", "predicted", "validated"]


def loss_sum(network: Any, batch: Batch, mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of the cross-entropies of all that a batch predicts, in nats, and its logits.

    Args:
        network: The network.
        batch: Its inputs, and `labels`: one a kept position, `IGNORED` where nothing is predicted.
        mixed: Compute products in bf16.
    """
    labels = batch["labels"]
    device = labels.device.type
    with torch.autocast(device, torch.bfloat16, enabled=mixed):
        logits = _logits(network, {k: v for k, v in batch.items() if k != "labels"})
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED, reduction="sum"), logits


def _logits(network: Any, inputs: Batch) -> torch.Tensor:
    """The logits that are kept, also of a network that knows nothing of keeping some."""
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    known = inspect.signature(whole.forward).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    kept = None if "logits_to_keep" in known else inputs.get("logits_to_keep")
    taken = {
        name: value
        for name, value in inputs.items()
        if name in known or (open_ended and name != "logits_to_keep")
    }
    logits: torch.Tensor = network(**taken).logits
    if kept is None:
        return logits
    return logits[:, kept] if isinstance(kept, torch.Tensor) else logits[:, -kept:]


def predicted(batch: Batch) -> int:
    """How many tokens, or rows, a batch predicts."""
    return int((batch["labels"] != IGNORED).sum())


def validated(
    network: Any, layout: Layout, held: Sequence[Example], part: int, mixed: bool
) -> dict[str, float]:
    """Return the mean loss over all held-out tokens, and how often the likeliest one is right.

    Args:
        network: The network.
        layout: Makes batches of examples.
        held: The held-out examples.
        part: Examples computed at once.
        mixed: Compute products in bf16.

    Returns:
        `eval_loss`, in nats, and `eval_accuracy`, a share.
    """
    network.eval()
    order = sorted(range(len(held)), key=lambda n: len(held[n]))
    total, right, tokens = 0.0, 0, 0
    with torch.no_grad():
        for start in range(0, len(order), part):
            made = layout([held[n] for n in order[start : start + part]])
            batch = on_device(made, next(network.parameters()).device)
            loss, logits = loss_sum(network, batch, mixed)
            total += float(loss)
            chosen = logits.argmax(-1).reshape(-1)
            right += int((chosen == batch["labels"].reshape(-1)).sum())
            tokens += predicted(batch)
    return {"eval_loss": total / max(tokens, 1), "eval_accuracy": right / max(tokens, 1)}


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch moved to a device."""
    return {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
