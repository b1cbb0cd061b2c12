"""The loop: transformers' Trainer on a layout, with the parts that it leaves open.

Trainer has the optimizer, its schedule, clipping, accumulation, checkpoints with the state of all
generators, early stopping, and going on from a checkpoint. Its losses are replaced: they are means
over batches, and here every token, or row, counts the same in training and in validation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from nbllm.errors import TrainingError
from nbllm.models.devices.device import choose_device, choose_dtype
from nbllm.models.silence import quiet
from nbllm.storage.json_file import read_object
from nbllm.train.layout import IGNORED
from nbllm.train.order import Order

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback, TrainerState

if TYPE_CHECKING:
    from nbllm.train.examples import Example
    from nbllm.train.layout import Batch, Layout

__all__ = [
    "Outcome",
    "Recipe",
    "Schedule",
    "loss_sum",
    "mixed",
    "run",
    "training_device",
    "validated",
]

History = list[dict[str, float]]

_STATE = "trainer_state.json"
_MOST_OF_STATE = 100_000_000  # bytes; it has the losses of a long run


@dataclass(frozen=True)
class Recipe:
    """What decides how the weights move, apart from the rows."""

    rows: int  # a step
    learning_rate: float
    schedule: str = "linear"  # a name of transformers' schedulers
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    patience: int | None = 5  # validations without a better one, until it stops
    seed: int = 0


@dataclass(frozen=True)
class Schedule:
    """How the recipe is cooked on this machine; decided once a run, and kept for a restart."""

    steps: int
    every: int  # steps from one validation and checkpoint to the next
    part: int  # examples that are computed at once
    recompute: bool  # activations, instead of keeping them
    mixed: bool  # products in bf16


@dataclass
class Outcome:
    """What a run came to."""

    history: History = field(default_factory=list)
    steps: int = 0
    best_step: int | None = None
    interrupted: bool = False

    def ended(self, plan: Schedule) -> str:
        """How, in words."""
        if self.interrupted and self.best_step is None:
            return "interrupted before the first validation"
        if self.interrupted:
            return f"interrupted; step {self.best_step:,} was the best and is kept"
        if self.steps < plan.steps:
            return f"stopped early: step {self.best_step:,} was the best"
        return "done"


def run(
    network: Any,
    layout: Layout,
    train: Sequence[Example],
    held: Sequence[Example],
    recipe: Recipe,
    schedule: Schedule,
    folder: Path,
    *,
    watch: Callable[[History, int], None] = lambda history, step: None,
    at_validation: Callable[[int], None] = lambda step: None,
) -> Outcome:
    """Train, from the last checkpoint in `folder` if there is one; end on the best weights.

    An interrupt ends it as if it were over.

    Args:
        network: of transformers, or of peft around one; its weights change.
        folder: for checkpoints.
        watch: told of all that was logged, and of the step, after every step.
        at_validation: called with the step after each validation.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    order = Order([len(e) for e in train], recipe.rows, schedule.part, recipe.seed)
    outcome = Outcome()
    callbacks: list[TrainerCallback] = [_Watch(order, watch, at_validation)]
    if recipe.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=recipe.patience))
    with quiet(), _generators_kept():
        trainer = _Trainer(
            model=network,
            args=_arguments(network, recipe, schedule, folder),
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
    outcome.history, outcome.steps = _numbers(state.log_history), state.global_step
    outcome.best_step = None if best is None else int(Path(best).name.rpartition("-")[2])
    # What Trainer holds on to, gradients among it, is not needed any more.
    network.zero_grad(set_to_none=True)
    network.eval()
    return outcome


def loss_sum(network: Any, batch: Batch, mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of cross-entropies in nats of all that a batch foretells, and its logits."""
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


def counted(batch: Batch) -> int:
    """How much a batch foretells."""
    return int((batch["labels"] != IGNORED).sum())


def validated(
    network: Any, layout: Layout, held: Sequence[Example], part: int, mixed: bool
) -> dict[str, float]:
    """The mean loss over all that is foretold, and how often the first choice is right."""
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
            tokens += counted(batch)
    return {"eval_loss": total / max(tokens, 1), "eval_accuracy": right / max(tokens, 1)}


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the network is."""
    return {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def training_device(device: str | torch.device) -> torch.device:
    """Returns the device that is meant, as `nbllm.load` takes it.

    Raises:
        ModelError: it is not on this machine.
        TrainingError: it is a GPU other than the first, from which Trainer would move the network.
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


class _Trainer(Trainer):
    """Trainer on an `Order`, whose losses are sums over tokens divided by how many they are."""

    order: Order
    mixed: bool
    loss_is_scaled_for_ga = True

    def load_best(self) -> None:
        """Take the weights of the best checkpoint, if there is one."""
        if self.state.best_model_checkpoint is not None:
            self._load_best_model()

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.order,
            collate_fn=self.data_collator,
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(counted(batch) for batch in batches)

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        loss, logits = loss_sum(model, inputs, self.mixed)
        loss = loss / max(int(num_items_in_batch or counted(inputs)), 1)
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        found = validated(
            self.model,
            self.data_collator,  # type: ignore[arg-type]
            self.eval_dataset,  # type: ignore[arg-type]
            self.order.part,
            self.mixed,
        )
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


class _Watch(TrainerCallback):
    """Tells of progress, draws each epoch's order anew, and stops where the loss is lost."""

    def __init__(
        self,
        order: Order,
        watch: Callable[[History, int], None],
        at_validation: Callable[[int], None],
    ) -> None:
        self.order = order
        self.watch = watch
        self.at_validation = at_validation

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.order.epoch = int(state.epoch or 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watch(_numbers(state.log_history), state.global_step)
        if state.global_step == state.max_steps:  # the last weights are tried too
            control.should_evaluate = control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.at_validation(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        for name in ("loss", "eval_loss"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise TrainingError(
                    f"The loss is not a finite number at step {state.global_step:,}. Pass a lower "
                    f"learning_rate than {args.learning_rate:g}, and another folder."
                )


def _arguments(network: Any, recipe: Recipe, schedule: Schedule, folder: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.part,
        gradient_accumulation_steps=-(-recipe.rows // schedule.part),
        max_steps=schedule.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=int(recipe.warmup * schedule.steps),
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        eval_strategy="steps",
        eval_steps=schedule.every,
        save_strategy="steps",
        save_steps=schedule.every,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, schedule.steps // 200),
        # Such a loss ends the run; it is not to be averaged away.
        logging_nan_inf_filter=False,
        activation_checkpointing=schedule.recompute,
        activation_checkpointing_kwargs={"use_reentrant": False} if schedule.recompute else None,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=next(network.parameters()).device.type == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
    # One network on one device: several GPUs would each be given a copy.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [f for f in folder.glob("checkpoint-*") if _is_whole(f)]
    return max(found, key=lambda f: int(f.name.rpartition("-")[2]), default=None)


def _is_whole(checkpoint: Path) -> bool:
    return _state(checkpoint) is not None


def _is_last(checkpoint: Path, steps: int) -> bool:
    """Whether training was over when it was written, and only the end was missing."""
    state = _state(checkpoint) or {}
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return state.get("global_step", 0) >= steps or bool(control.get("should_training_stop"))


def _state(checkpoint: Path) -> dict[str, Any] | None:
    """What Trainer knows of a run, which it writes last; None where it is not whole."""
    try:
        return read_object(checkpoint / _STATE, error=TrainingError, most=_MOST_OF_STATE)
    except TrainingError:
        return None


def _numbers(log: Sequence[dict[str, Any]]) -> History:
    """Of what Trainer logged, losses and how often the first choice was right."""
    names = ("step", "loss", "eval_loss", "eval_accuracy")
    return [
        {name: float(entry[name]) for name in names if name in entry}
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    ]


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
