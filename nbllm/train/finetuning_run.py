"""One run of fine-tuning, from opening the model to the record of its result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.tokenization import special_token_id
from nbllm.errors import FrameError
from nbllm.escaping import say
from nbllm.frame.running.local import answer_locally
from nbllm.frame.tasks.label import LabelTask
from nbllm.models.fetch.training_record import prompt_digest
from nbllm.models.memory.freeing import give_freed_memory_back
from nbllm.models.model import Model
from nbllm.train import loop
from nbllm.train.base import Base, Lora, adapted, head_order, opened, standing_bytes, with_head
from nbllm.train.examples import Example, answer_examples, head_examples, label_examples
from nbllm.train.finetuned import Finetuned, write_card
from nbllm.train.folder import RunFolder, writing
from nbllm.train.job import Job, Method
from nbllm.train.layout import HeadRows, PaddedRows, SharedPrefix
from nbllm.train.live import Live
from nbllm.train.losses import validated
from nbllm.train.order import Order
from nbllm.train.plan import Forecast, planned
from nbllm.train.recipe import Outcome, Recipe, Schedule
from nbllm.train.rows import Counts, LearnedRow
from nbllm.train.saving import known_as, save_adapter, save_whole
from nbllm.train.scores import label_metrics
from nbllm.versions import versions
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.train.layout import Layout

__all__ = ["FinetuningRun"]

_VALIDATED = 300  # held-out rows that are read on the way; at the end it is all of them


@dataclass
class FinetuningRun:
    """Trains a copy of a model, and writes it with the record of how it was made."""

    base: Base
    job: Job
    method: Method
    lora: Lora | None
    recipe: Recipe
    place: RunFolder
    limit: int  # tokens of a row
    truncate: bool

    def __call__(
        self,
        train: Sequence[LearnedRow],
        held: Sequence[LearnedRow],
        counts: Counts,
        leaked: int,
        epochs: float,
        *,
        started: float,
        dry_run: bool,
    ) -> Finetuned | Forecast:
        """Train, save, and return the result; with `dry_run` the forecast alone."""
        model = opened(self.base)
        # Of a head that is kept, each output stays that of its label.
        self.job = replace(self.job, labels=head_order(model, self.job.labels))
        task = self._task(model)
        learned, seen = (self._examples(model, task, rows) for rows in (train, held))
        long = sum(example is None for example in (*learned, *seen))
        examples = [example for example in learned if example is not None]
        held = [row for row, example in zip(held, seen, strict=True) if example is not None]
        checked = _some([e for e in seen if e is not None], self.recipe.seed)
        if not examples or not checked:
            raise FrameError(
                f"{long:,} of {counted(len(learned) + len(seen), 'row has', 'rows have')} more "
                f"tokens than the {self.limit:,} that are read here, and too few are left. Pass "
                "truncate=True to cut them, or a larger max_tokens=."
            )
        network = self._network(model)
        layout = self._layout(model, examples)
        plan, expected = self._planned(network, layout, examples, checked, epochs)
        said = self._say(counts, examples, held, long, leaked)
        say(f"nbllm: finetune {self.base.name} ({self.method}): {said}; {expected}")
        if dry_run:
            return expected
        if self.place.decided is None:
            before = validated(network, layout, checked, plan.part, plan.mixed)
            self.place.decide({"schedule": asdict(plan), "before": before, "spent": 0.0})
        decided = self.place.decided
        assert decided is not None
        live = Live(
            "finetune",
            self.base.name,
            self.place.path.name,
            steps=plan.steps,
            rows=self.recipe.rows,
            unit="nats",
        )
        with live, writing(self.place.path):
            outcome = loop.run(
                network,
                layout,
                examples,
                checked,
                self.recipe,
                plan,
                self.place.checkpoints,
                on_step=live,
            )
            outcome.history.insert(0, {"step": 0.0, **decided["before"]})
            live.close(outcome, plan)
        (save_whole if self.lora is None else save_adapter)(network, model, self.place.path)
        record = self._record(model, task, outcome, expected, said, examples, held)
        record["seconds"] = time.perf_counter() - started
        write_card(self.place.path, record)
        del network, model
        give_freed_memory_back()
        # A record without figures first: the model is loaded and answers as any other.
        self.place.finish(record)
        record["metrics"] |= self._metrics(held, record)
        write_card(self.place.path, record)
        self.place.finish(record)
        if not outcome.interrupted:
            self.place.clear_checkpoints()
        return Finetuned(self.place.path, record)

    def _task(self, model: Model) -> Task | None:
        """The task that the model learns; None for a classifier, which reads the text alone."""
        return self.job.call.task(model) if model.kind == "causal" else None

    def _examples(
        self, model: Model, task: Task | None, rows: Sequence[LearnedRow]
    ) -> list[Example | None]:
        how: dict[str, Any] = {"limit": self.limit, "truncate": self.truncate}
        if task is None:
            return head_examples(model, self.job.labels, rows, **how)
        if isinstance(task, LabelTask):
            return label_examples(model, task, rows, **how)
        return answer_examples(model, task.template, rows, **how)

    def _network(self, model: Model) -> Any:
        if self.lora is not None:
            return adapted(model.network, self.lora, self.recipe.seed)
        if model.kind == "causal":
            return model.network.requires_grad_(True)
        return with_head(model, self.job.labels, self.recipe.seed).requires_grad_(True)

    def _layout(self, model: Model, examples: Sequence[Example]) -> Layout:
        padding = special_token_id(model.tokenizer, "pad") or 0
        if model.kind != "causal":
            return HeadRows(padding)
        shared = min(example.shared for example in examples)
        # Chat templates share a handful of tokens, for which rows of any length would lie in one
        # sequence, whose attention takes the square of it.
        if self.job.labels and shared and SharedPrefix.suits(model.network):
            return SharedPrefix(shared)
        return PaddedRows(padding)

    def _planned(
        self,
        network: Any,
        layout: Layout,
        train: Sequence[Example],
        held: Sequence[Example],
        epochs: float,
    ) -> tuple[Schedule, Forecast]:
        steps = max(1, round(epochs * Order([1] * len(train), self.recipe.rows, 1, 0).steps))
        return planned(
            self.place,
            network,
            layout,
            train,
            held,
            self.recipe,
            lambda _seconds: steps,
            standing=standing_bytes(self.base, self.lora),
            parameters=self.base.network.num_parameters(),
            layers=getattr(self.base.config.get_text_config(), "num_hidden_layers", 1),
            device=self.base.plan.device,
            mixed=loop.mixed(self.base.plan.device),
        )

    def _say(
        self,
        counts: Counts,
        train: Sequence[Example],
        held: Sequence[LearnedRow],
        long: int,
        leaked: int,
    ) -> str:
        said = f"{counts}, {len(train):,} to train on and {len(held):,} held out"
        if long:
            said += f", {long:,} left out with more than {counted(self.limit, 'token')}"
        if leaked:
            said += f"; {leaked:,} held-out texts are among those to train on too"
        return said

    def _record(
        self,
        model: Model,
        task: Task | None,
        outcome: Outcome,
        expected: Forecast,
        said: str,
        train: Sequence[Example],
        held: Sequence[LearnedRow],
    ) -> dict[str, Any]:
        best = _best(outcome)
        return {
            "made_by": "nbllm.finetune",
            "base": {
                "name": known_as(model),
                "source": model.source,
                "revision": model.revision,
                "quantization": model.quantization,
            },
            "licence": model.licence,
            "method": self.method,
            "lora": None if self.lora is None else asdict(self.lora),
            "verb": self.job.verb,
            "options": dict(self.job.options),
            "labels": list(self.job.labels),
            # By this a run knows that the model was trained on its very question.
            "prompt": prompt_digest(task.template, task.answers)
            if isinstance(task, LabelTask)
            else None,
            "template": self.job.prompt,
            "columns": {"reads": list(self.job.reads), "answer": self.job.answer},
            "rows": {
                "train": len(train),
                "held": len(held),
                "train_sha256": self.place.settings["train"],
                "held_sha256": self.place.settings["held"],
                "said": said,
            },
            "recipe": asdict(self.recipe),
            "epochs": self.place.settings["epochs"],
            **asdict(outcome),
            "forecast": expected.to_dict(),
            "versions": versions(),
            "metrics": {
                "held-out loss before": outcome.history[0]["eval_loss"],
                "held-out loss": best.get("eval_loss", outcome.history[0]["eval_loss"]),
            },
        }

    def _metrics(self, held: Sequence[LearnedRow], record: dict[str, Any]) -> dict[str, Any]:
        """Figures of the saved model on the held-out rows, which it answers as any other frame."""
        if not self.job.labels:
            best = min(
                (e for e in record["history"] if "eval_loss" in e), key=lambda e: e["eval_loss"]
            )
            return {
                "perplexity of answers": float(np.exp(best["eval_loss"])),
                "answer tokens foretold": best["eval_accuracy"],
            }
        with Finetuned(self.place.path, record).load() as model:
            task = self.job.call.task(model)
            # Rows that were cut for training are cut here, too.
            found = _answered(model, task, [row.texts for row in held], self.truncate)
        return label_metrics([row.answer for row in held], found, self.job.labels)


def _some(examples: list[Example], seed: int) -> list[Example]:
    """The examples of validations during training."""
    if len(examples) <= _VALIDATED:
        return examples
    chosen = np.random.default_rng(seed).permutation(len(examples))[:_VALIDATED]
    return [examples[n] for n in sorted(chosen)]


def _best(outcome: Outcome) -> Mapping[str, float]:
    """The validation of the weights that are kept."""
    tried = [entry for entry in outcome.history if "eval_loss" in entry]
    return next((e for e in tried if e["step"] == outcome.best_step), tried[-1])


def _answered(
    model: Model, task: Task, texts: Sequence[tuple[str, ...]], truncate: bool
) -> list[str | None]:
    """The label of each text, as the verb answers it; None where it fails."""
    bound = task.bind(model, model.context_length - task.answer_tokens(model))
    offset = bound.calibrate(None)
    answers: dict[int, Any] = {}
    for done in answer_locally(texts, task, model, bound, truncate=truncate):
        answers |= done.answers
    positions = sorted(answers)
    values = task.decode([answers[n] for n in positions], offset)[0]
    found = dict(zip(positions, values, strict=True))
    return [found.get(n) for n in range(len(texts))]
