"""transformers' Trainer with the parts that it leaves open: order, losses and callbacks.

Its losses are replaced: they are means over batches, and here every token, or row, counts the same
in training and in validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from nbllm.errors import TrainingError
from nbllm.models.silence import quiet
from nbllm.train.losses import loss_sum, predicted, validated
from nbllm.train.order import Order

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import Trainer, TrainerCallback, TrainingArguments

if TYPE_CHECKING:
    from nbllm.train.recipe import History, Recipe, Schedule

__all__ = ["OrderedTrainer", "Progress", "arguments", "numbers"]


class OrderedTrainer(Trainer):
    """Trainer on an `Order`, whose losses are sums over tokens divided by their number."""

    order: Order
    mixed: bool
    loss_is_scaled_for_ga = True

    def load_best(self) -> None:
        """Take the weights of the best checkpoint, if there is one."""
        if self.state.best_model_checkpoint is not None:
            self._load_best_model()

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches in the order of the run."""
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.order,
            collate_fn=self.data_collator,
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of one step, and how many tokens they predict."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(predicted(batch) for batch in batches)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, as its share of all tokens of the step."""
        loss, logits = loss_sum(model, inputs, self.mixed)
        loss = loss / max(int(num_items_in_batch or predicted(inputs)), 1)
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate on the held-out examples."""
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


class Progress(TrainerCallback):
    """Reports progress, draws each epoch's order anew, and raises where the loss is not finite."""

    def __init__(
        self,
        order: Order,
        on_step: Callable[[History, int], None],
        at_validation: Callable[[int], None],
    ) -> None:
        self.order = order
        self.on_step = on_step
        self.at_validation = at_validation

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the order of the epoch."""
        self.order.epoch = int(state.epoch or 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step; validate and save after the last one."""
        self.on_step(numbers(state.log_history), state.global_step)
        if state.global_step == state.max_steps:  # the last weights are tried too
            control.should_evaluate = control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report a validation."""
        self.at_validation(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Raise TrainingError for a loss that is not finite."""
        for name in ("loss", "eval_loss"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise TrainingError(
                    f"The loss is not a finite number at step {state.global_step:,}. Pass a lower "
                    f"learning_rate than {args.learning_rate:g}, and another folder."
                )


def arguments(network: Any, recipe: Recipe, schedule: Schedule, folder: Path) -> TrainingArguments:
    """Trainer's arguments for a recipe and its schedule; checkpoints go to `folder`."""
    made = TrainingArguments(
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
    made._n_gpu = min(made.n_gpu, 1)
    return made


def numbers(log: Sequence[dict[str, Any]]) -> History:
    """The losses and accuracies of what Trainer logged."""
    names = ("step", "loss", "eval_loss", "eval_accuracy")
    return [
        {name: float(entry[name]) for name in names if name in entry}
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    ]
