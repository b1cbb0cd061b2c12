"""The training loop: transformers' Trainer on a layout, from one checkpoint to the next.

Trainer has the optimizer, its schedule, clipping, accumulation, checkpoints with the state of all
generators, early stopping, and resuming from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nbllm.errors import TrainingError
from nbllm.models.devices.device import choose_device, choose_dtype
from nbllm.models.silence import quiet
from nbllm.storage.json_file import find_object
from nbllm.train.order import Order
from nbllm.train.recipe import History, Outcome, Recipe, Schedule
from nbllm.train.trainer import OrderedTrainer, Progress, arguments, numbers

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import EarlyStoppingCallback, TrainerCallback
    from transformers.trainer_callback import PrinterCallback, TrainerState

if TYPE_CHECKING:
    from nbllm.train.examples import Example
    from nbllm.train.layout import Layout

__all__ = ["mixed", "run", "training_device"]

_STATE = "trainer_state.json"  # which Trainer writes last
_MOST_OF_STATE = 100_000_000  # bytes; it has the losses of a long run


def run(
    network: Any,
    layout: Layout,
    train: Sequence[Example],
    held: Sequence[Example],
    recipe: Recipe,
    schedule: Schedule,
    folder: Path,
    *,
    on_step: Callable[[History, int], None] = lambda history, step: None,
    at_validation: Callable[[int], None] = lambda step: None,
) -> Outcome:
    """Train, from the last checkpoint in `folder` if there is one, and end on the best weights.

    An interrupt ends it as if it were over.

    Args:
        network: A network of transformers, or of peft around one; its weights change.
        layout: Makes batches of examples.
        train: The examples to learn from.
        held: The held-out examples, of which the best weights are chosen.
        recipe: How the weights move.
        schedule: Steps, parts and precision on this machine.
        folder: The folder of the checkpoints.
        on_step: Called after every step with all that was logged, and the step.
        at_validation: Called with the step after each validation.

    Returns:
        The losses, the steps that were made, and the best of them.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    order = Order([len(e) for e in train], recipe.rows, schedule.part, recipe.seed)
    outcome = Outcome()
    callbacks: list[TrainerCallback] = [Progress(order, on_step, at_validation)]
    if recipe.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=recipe.patience))
    with quiet(), _generators_kept():
        trainer = OrderedTrainer(
            model=network,
            args=arguments(network, recipe, schedule, folder),
            train_dataset=train,
            eval_dataset=held,
            data_collator=layout,
            callbacks=callbacks,
        )
        trainer.order, trainer.mixed = order, schedule.mixed
        trainer.remove_callback(PrinterCallback)
        last = _last_checkpoint(folder)
        try:
            if last is not None and _is_last(last, schedule.steps):
                trainer.state = TrainerState.load_from_json(str(last / _STATE))
                trainer._load_from_checkpoint(str(last))
                trainer.load_best()
            else:
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
        except KeyboardInterrupt:
            outcome.interrupted = True
            trainer.load_best()
    state = trainer.state
    best = state.best_model_checkpoint
    outcome.history, outcome.steps = numbers(state.log_history), state.global_step
    outcome.best_step = None if best is None else int(Path(best).name.rpartition("-")[2])
    # What Trainer holds on to, gradients among it, is not needed any more.
    network.zero_grad(set_to_none=True)
    network.eval()
    return outcome


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint."""
    found = [f for f in folder.glob("checkpoint-*") if _state(f) is not None]
    return max(found, key=lambda f: int(f.name.rpartition("-")[2]), default=None)


def _is_last(checkpoint: Path, steps: int) -> bool:
    """Return whether training was over when it was written, and only the end was missing."""
    state = _state(checkpoint) or {}
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return state.get("global_step", 0) >= steps or bool(control.get("should_training_stop"))


def _state(checkpoint: Path) -> dict[str, Any] | None:
    return find_object(checkpoint / _STATE, max_bytes=_MOST_OF_STATE)


def training_device(device: str | torch.device) -> torch.device:
    """Return the device to train on.

    Args:
        device: As `nbllm.load` takes it.

    Raises:
        ModelError: It is not on this machine.
        TrainingError: It is a GPU other than the first, from which Trainer would move the network.
    """
    found = choose_device(device)
    if found.type == "cuda" and found.index:
        raise TrainingError(
            f"Training runs on the first GPU that torch sees, and {found} is another one. Start "
            f"Python with CUDA_VISIBLE_DEVICES={found.index}, which makes it the first, and leave "
            "device out."
        )
    return found


def mixed(device: torch.device) -> bool:
    """Whether products are computed in bf16 there."""
    return choose_dtype("auto", device) == torch.bfloat16


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Trainer seeds the generators of torch, numpy and Python; the user's go on as they were."""
    import random

    import numpy as np

    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(enabled=True):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
