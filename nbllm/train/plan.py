"""Memory and time of a run: measured on a few of its own rows before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from nbllm.errors import TooLargeError
from nbllm.models.memory.budget import free_memory
from nbllm.train.losses import loss_sum, on_device
from nbllm.train.order import Order
from nbllm.train.recipe import Recipe, Schedule
from nbllm.wording import byte_size, counted, rough_duration

if TYPE_CHECKING:
    from nbllm.train.examples import Example
    from nbllm.train.folder import RunFolder
    from nbllm.train.layout import Batch, Layout

__all__ = ["Forecast", "Measured", "measure", "planned", "schedule"]

_SHARE = 0.6  # of the memory that is free, for activations; sizes are estimates
_TRIED = 512  # tokens that are tried, at least one row
# Seconds of training from one validation to the next, and how many there are at least and at most.
_INTERVAL, _FEWEST, _MOST = 60.0, 4, 20
_HELD = 500  # rows that a validation on the way reads
_RECOMPUTED = 4 / 3  # of the time, where activations are computed again


@dataclass(frozen=True)
class Measured:
    """Memory and time of learning from a few rows."""

    bytes_per_token: float  # of activations kept for the gradient
    seconds_per_token: float  # forward and backward
    bytes_fixed: float = 0.0  # kept whatever the batch: copies of the weights in bf16

    def bytes(self, tokens: int, share: float = 1.0) -> float:
        """Bytes of a batch of so many tokens, of whose activations a share is kept."""
        return self.bytes_fixed + share * self.bytes_per_token * tokens


@dataclass(frozen=True)
class Forecast:
    """Memory and time of a run, in bytes and seconds."""

    steps: int
    rows: int  # a step
    trained: int  # weights that move
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    free: int
    seconds: float
    recompute: bool = False

    @property
    def memory(self) -> int:
        """All bytes together."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "activations")
        listed = ", ".join(f"{name} {byte_size(getattr(self, name))}" for name in parts)
        again = ", activations computed again to save memory" if self.recompute else ""
        return (
            f"{_count(self.trained)} of {_count(self.parameters)} weights move in at "
            f"most {counted(self.steps, 'step')} of {counted(self.rows, 'row')}; memory about "
            f"{byte_size(self.memory)} ({listed}{again}) with {byte_size(self.free)} free; about "
            f"{rough_duration(max(1, self.seconds))}, after a step that was measured"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast for the record of the run."""
        return asdict(self)


def _count(weights: int) -> str:
    return f"{weights / 1e6:,.1f} million" if weights >= 1e6 else f"{weights:,}"


def planned(
    place: RunFolder,
    network: Any,
    layout: Layout,
    train: Sequence[Example],
    held: Sequence[Example],
    recipe: Recipe,
    steps: Callable[[float], int],
    *,
    standing: dict[str, int],
    parameters: int,
    layers: int,
    device: torch.device,
    mixed: bool,
) -> tuple[Schedule, Forecast]:
    """Plan a run, and forecast its memory and time; a run that is resumed keeps its plan.

    Args:
        place: The folder of the run.
        network: The network to train.
        layout: Makes batches of examples.
        train: The examples to learn from.
        held: The held-out examples.
        recipe: How the weights move.
        steps: Returns the number of steps, given the seconds that one takes.
        standing: Bytes of weights, gradients and optimizer.
        parameters: The number of all weights.
        layers: The number of layers.
        device: The device to train on.
        mixed: Compute products in bf16.

    Raises:
        TooLargeError: Not even a single row fits in memory.
        TrainingError: The checkpoints and the result do not fit on the disk.
    """
    measured = measure(network, layout, train, mixed)
    step = seconds_a_step(measured, layout, train, recipe)
    if place.decided is None:
        chosen = schedule(
            measured,
            layout,
            train,
            recipe,
            steps(step),
            standing=standing["gradients"] + standing["optimizer"],
            device=device,
            layers=layers,
            mixed=mixed,
        )
    else:
        chosen = Schedule(**place.decided["schedule"])
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    batch = layout.tokens([max(map(len, train))] * chosen.part)
    # A forward alone is a third of a forward and a backward.
    validation = layout.tokens([len(e) for e in held]) * measured.seconds_per_token / 3
    seconds = chosen.steps * step * (_RECOMPUTED if chosen.recompute else 1)
    expected = Forecast(
        steps=chosen.steps,
        rows=recipe.rows,
        trained=trained,
        parameters=parameters,
        **standing,
        activations=int(measured.bytes(batch, _kept(layers, chosen.recompute))),
        free=free_memory(device),
        seconds=seconds + -(-chosen.steps // chosen.every) * validation,
        recompute=chosen.recompute,
    )
    # Two checkpoints with AdamW's means, and the result.
    if place.path.exists():
        place.require_space(2 * 12 * trained + 4 * trained)
    return chosen, expected


def measure(network: Any, layout: Layout, examples: Sequence[Example], mixed: bool) -> Measured:
    """Learn from a few rows without moving a weight, and measure memory and time per token.

    The memory of a token is how much more those rows keep than a row of next to no tokens, which
    keeps the same copies of the weights.

    Args:
        network: The network to train.
        layout: Makes batches of examples.
        examples: The examples, of which a few are taken.
        mixed: Compute products in bf16.
    """
    few = _few(layout, examples)
    least = [_shortest(few[0])]
    device = next(network.parameters()).device
    small, large = (on_device(layout(some), device) for some in (least, few))
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        store = tensor.untyped_storage()
        if store.data_ptr() not in known:
            kept[store.data_ptr()] = store.nbytes()
        return tensor

    def forward(batch: Batch) -> tuple[torch.Tensor, int]:
        """The loss, and the bytes that are kept for its gradient."""
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss, _logits = loss_sum(network, batch, mixed)
        return loss, sum(kept.values())

    network.train()
    seconds = []
    size = 0
    with torch.random.fork_rng():
        less = forward(small)[1]
        for _ in range(2):  # the first one pays for what is set up once
            started = time.perf_counter()
            loss, size = forward(large)
            loss.backward()  # type: ignore[no-untyped-call]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    network.zero_grad(set_to_none=True)
    fewest, tokens = (layout.tokens([len(example) for example in some]) for some in (least, few))
    each = (size - less) / (tokens - fewest) if tokens > fewest else size / tokens
    return Measured(each, min(seconds) / tokens, max(0.0, size - each * tokens))


def schedule(
    measured: Measured,
    layout: Layout,
    train: Sequence[Example],
    recipe: Recipe,
    steps: int,
    *,
    standing: int,
    device: torch.device,
    layers: int,
    mixed: bool,
) -> Schedule:
    """Choose how many rows are computed at once, and how often the run is saved.

    Args:
        measured: Memory and time per token.
        layout: Makes batches of examples.
        train: The examples to learn from.
        recipe: How the weights move.
        steps: The number of steps.
        standing: Bytes that the run holds all the time and does not hold yet.
        device: The device to train on.
        layers: The number of layers, whose outputs alone are kept where the rest is recomputed.
        mixed: Compute products in bf16.

    Raises:
        TooLargeError: Not even a single row fits.
    """
    longest = max(map(len, train))
    room = _SHARE * (free_memory(device) - standing)
    for recompute in (False, True):
        share = _kept(layers, recompute)
        part = recipe.rows
        while part > 1 and measured.bytes(layout.tokens([longest] * part), share) > room:
            part = -(-part // 2)
        need = measured.bytes(layout.tokens([longest] * part), share)
        if need <= room:
            break
    else:
        raise TooLargeError(
            f"The longest row has {counted(longest, 'token')}, whose activations take "
            f"{byte_size(need)}, and {byte_size(max(room, 0))} can be had for them. Pass "
            "max_tokens= to leave long rows out, or truncate=True with it to cut them; or take a "
            "smaller model."
        )
    each_step = seconds_a_step(measured, layout, train, recipe) * (_RECOMPUTED if recompute else 1)
    most = max(_INTERVAL / max(each_step, 1e-6), steps / _MOST)
    every = max(1, min(-(-steps // _FEWEST), round(most)))
    return Schedule(steps, every, part, recompute, mixed)


def seconds_a_step(
    measured: Measured, layout: Layout, train: Sequence[Example], recipe: Recipe
) -> float:
    """Seconds of an average step."""
    order = Order([len(e) for e in train], recipe.rows, recipe.rows, recipe.seed)
    sizes = [layout.tokens([len(train[n]) for n in batch]) for batch in order.batches()[:50]]
    return measured.seconds_per_token * sum(sizes) / len(sizes)


def _kept(layers: int, recompute: bool) -> float:
    """The share of activations that is kept at a time."""
    return 2 / layers if recompute and layers > 2 else 1.0


def _shortest(example: Example) -> Example:
    """The same with one token between what is shared and the answer, and one of the answer."""
    begin = min(example.begin, example.shared + 1)
    answer = example.ids[example.begin : example.begin + 1]
    return replace(example, ids=example.ids[:begin] + answer, begin=begin)


def _few(layout: Layout, examples: Sequence[Example]) -> list[Example]:
    """Some examples of middling length, about as many tokens as are tried."""
    middle = sorted(examples, key=len)[len(examples) // 2 :]
    few = middle[:1]
    for example in middle[1:]:
        if layout.tokens([len(e) for e in (*few, example)]) > _TRIED:
            break
        few.append(example)
    return few
