"""finetune(): a model made better at the rows of a frame."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from narwhals.dependencies import is_into_dataframe

from nbllm.errors import FrameError, LabelError
from nbllm.escaping import say
from nbllm.frame.running.local import answer_here
from nbllm.frame.tasks.label import LabelTask
from nbllm.frame.verbs.classify import classify
from nbllm.frame.verbs.prompt import prompt as prompt_task
from nbllm.frame.verbs.sentiment import sentiment
from nbllm.models.fetch.catalog import DEFAULT
from nbllm.models.fetch.training_record import prompt_digest
from nbllm.models.loader import check_named
from nbllm.models.memory.freeing import give_freed_memory_back
from nbllm.models.model import Model
from nbllm.train import loop
from nbllm.train.base import (
    Base,
    Lora,
    adapted,
    find,
    head_order,
    opened,
    refuse_unless_fits,
    standing_bytes,
    with_head,
)
from nbllm.train.examples import Example, answer_examples, head_examples, label_examples
from nbllm.train.finetuned import Finetuned
from nbllm.train.folder import RunFolder, writing
from nbllm.train.job import (
    Job,
    Method,
    check_numbers,
    choose_labels,
    choose_method,
    read_job,
    usual_rate,
    verb_of,
)
from nbllm.train.layout import HeadRows, PaddedRows, SharedPrefix
from nbllm.train.live import Live
from nbllm.train.loop import Outcome, Recipe, Schedule
from nbllm.train.order import Order
from nbllm.train.plan import Forecast, planned
from nbllm.train.rows import Counts, LearnedRow, digest, hold_out, learned_rows
from nbllm.train.saving import known_as, save_adapter, save_whole, write_readme
from nbllm.train.scores import label_metrics
from nbllm.versions import versions
from nbllm.wording import counted

if TYPE_CHECKING:
    import torch

    from nbllm.frame.tasks.base import Task
    from nbllm.train.layout import Layout

__all__ = ["finetune"]

_VALIDATED = 300  # held-out rows that are read on the way; at the end it is all of them
_ROWS = 16  # a step


def finetune(
    frame: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    prompt: str | None = None,
    answer: str | None = None,
    model: str | Path | Model | None = None,
    method: Method | None = None,
    labels: Sequence[str] | None = None,
    validation: float | Any = 0.1,
    epochs: float = 3,
    learning_rate: float | None = None,
    batch: int = _ROWS,
    patience: int | None = 5,
    rank: int = 16,
    max_tokens: int | None = None,
    truncate: bool = False,
    seed: int = 0,
    device: str | torch.device = "auto",
    folder: str | Path | None = None,
    resume: bool = True,
    dry_run: bool = False,
) -> Finetuned | Forecast:
    """Fine-tune a model on rows with a label, or with a prompt and its answer.

    An encoder or classifier is given a head and becomes a classifier. A causal model learns to
    answer exactly the prompt that `df.llm.sentiment` (where the labels are positive and
    negative, with neutral or without) or `df.llm.classify` asks, or that `df.llm.prompt` does.
    What is learned is the answer's tokens alone. Rows without a text or a label are set aside
    and counted; the best weights on held-out rows are kept, and figures are of those rows, as the
    saved model answers them once it is loaded.

    An interrupt, or a kill, loses what came after the last checkpoint: the same call goes on from
    there to the same result. An interrupt gives the best that there is until then.

    Args:
        frame: a pandas or polars DataFrame.
        text: the column to read, with `label`.
        label: the column of labels, of any type.
        prompt: the column to read, or a prompt with columns in braces, with `answer`. Of several
            columns, a blank one is an empty text.
        answer: the column of texts to be written.
        model: a name or folder as `nbllm.load` takes it, or a loaded model, of which a copy is
            trained. By default "minilm" for labels, and "smollm2" for answers.
        method: "full": all weights; "lora": a low-rank change beside them (causal models),
            saved as an adapter; "qlora": the same on weights in nf4. By default full for
            encoders and classifiers, and lora for causal models.
        labels: the labels in the order in which `classify` will be given them; by default in
            alphabetical order. Rows with another label raise.
        validation: the share of rows to hold out, or a frame of them.
        epochs: passes over the rows, at most.
        learning_rate: at its highest; by default 1e-4 for full (1e-5 for causal models), and
            5e-4 for lora and qlora.
        batch: rows a step.
        patience: validations without a better one until it stops; None never stops early.
        rank: of the low-rank change.
        max_tokens: of a row, with its prompt; by default all that the model takes.
        truncate: cut the texts of longer rows, instead of leaving those rows out.
        seed: of the split, the order and all that is drawn.
        device: "auto" is a GPU where there is one; of several, it has to be the first.
        folder: where the run and its result go; by default below NBLLM_HOME.
        resume: go on with the run in `folder`, or give its result again.
        dry_run: give the forecast of memory and time, and train nothing.

    Raises:
        ArgumentError: a number that nothing can be trained with.
        FrameError: a column is missing or no text, or too few rows are left.
        LabelError: there are not two labels.
        TooLargeError: it does not fit in memory; nothing was trained.
        TrainingError: the folder holds something else or cannot be written to, the loss is no
            longer finite, the model is spread over devices, or the GPU is not the first.
        UnsupportedModelError: the model cannot be trained in this way.

    Example:
        >>> tuned = nbllm.finetune(df, text="review", label="stars")  # doctest: +SKIP
        >>> df.llm.classify("review", model=tuned.load())  # doctest: +SKIP
    """
    check_numbers(
        epochs=epochs, learning_rate=learning_rate, batch=batch, patience=patience, rank=rank,
        max_tokens=max_tokens, seed=seed,
    )  # fmt: skip
    if model is not None:
        check_named("model", model)
    job = read_job(text, label, prompt, answer)
    # df.llm.prompt reads columns of any type, too.
    any_type = bool(job.prompt)
    rows, counts = learned_rows(frame, job.reads, job.answer, any_type=any_type)
    if not is_into_dataframe(validation):
        train, held = hold_out(rows, validation, seed, by_answer=label is not None)
        leaked = 0
    else:
        train = rows
        held, _ = learned_rows(validation, job.reads, job.answer, any_type=any_type)
        known = {row.texts for row in train}
        leaked = sum(row.texts in known for row in held)
    if label is not None:
        job = replace(job, labels=choose_labels(train, held, labels))
    elif labels is not None:
        raise LabelError("labels= goes with label=. Leave it out where answers are texts.")
    which = model if model is not None else ("minilm" if job.labels else DEFAULT)
    base = find(
        which,
        quantize="nf4" if method == "qlora" else "none",
        whole=None if method is None else method == "full",
        device=device,
    )
    chosen = choose_method(method, base, job)
    if base.plan.kind == "causal" and job.labels:
        job = replace(job, task=verb_of(job.labels))
    lora = None if chosen == "full" else Lora(rank, 2 * rank)
    recipe = Recipe(
        rows=min(batch, len(train)),
        learning_rate=learning_rate or usual_rate(chosen, base),
        patience=patience,
        seed=seed,
    )
    asked = {
        "base": [base.fetched.source, base.plan.revision],
        "quantization": base.plan.quantize,
        "device": base.plan.device.type,
        "method": chosen,
        "reads": job.reads,
        "answer": job.answer,
        "labels": job.labels,
        "prompt": job.prompt,
        "train": digest(train),
        "held": digest(held),
        "epochs": epochs,
        "recipe": asdict(recipe),
        "lora": None if lora is None else asdict(lora),
        "max_tokens": max_tokens,
        "truncate": truncate,
    }
    place = RunFolder(folder, "finetune", asked, resume=resume or dry_run)
    done = place.record
    if done is not None and not done["interrupted"] and not dry_run:
        say(f"nbllm: this run has ended before; its result is in {place.path}")
        return Finetuned(place.path, done)
    refuse_unless_fits(base, lora)
    started = time.perf_counter()
    run = _Run(base, job, chosen, lora, recipe, place, limit=max_tokens, truncate=truncate)
    with nullcontext() if dry_run else place.claimed():
        return run(train, held, counts, leaked, epochs, started=started, dry_run=dry_run)


class _Run:
    """One run of fine-tuning, from opening the model to the record of its result."""

    def __init__(
        self,
        base: Base,
        job: Job,
        method: Method,
        lora: Lora | None,
        recipe: Recipe,
        place: RunFolder,
        *,
        limit: int | None,
        truncate: bool,
    ) -> None:
        self.base, self.job, self.method, self.lora = base, job, method, lora
        self.recipe, self.place, self.truncate = recipe, place, truncate
        self.limit = min(limit or base.plan.context_length, base.plan.context_length)
        self.mixed = loop.mixed(base.plan.device)

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
        model = opened(self.base)
        # Of a head that is kept, each output stays that of its label.
        self.job = replace(self.job, labels=head_order(model, self.job.labels))
        task = self._task(model)
        learned, seen = (self._examples(model, task, rows) for rows in (train, held))
        long = sum(example is None for example in (*learned, *seen))
        examples = [example for example in learned if example is not None]
        held = [row for row, example in zip(held, seen, strict=True) if example is not None]
        validated = _some([e for e in seen if e is not None], self.recipe.seed)
        if not examples or not validated:
            raise FrameError(
                f"{long:,} of {counted(len(learned) + len(seen), 'row has', 'rows have')} more "
                f"tokens than the {self.limit:,} that are read here, and too few are left. Pass "
                "truncate=True to cut them, or a larger max_tokens=."
            )
        network = self._network(model)
        layout = self._layout(model, examples)
        plan, expected = self._planned(network, layout, examples, validated, epochs)
        said = self._say(counts, examples, held, long, leaked)
        say(f"nbllm: finetune {self.base.name} ({self.method}): {said}; {expected}")
        if dry_run:
            return expected
        if self.place.decided is None:
            before = loop.validated(network, layout, validated, plan.part, plan.mixed)
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
                validated,
                self.recipe,
                plan,
                self.place.checkpoints,
                watch=live,
            )
            outcome.history.insert(0, {"step": 0.0, **decided["before"]})
            live.close(outcome, plan)
        self._save(network, model)
        record = self._record(model, task, outcome, expected, said, examples, held)
        record["seconds"] = time.perf_counter() - started
        self._write_card(record, model)
        del network, model
        give_freed_memory_back()
        # A record without figures first: the model is loaded as any other, and so asked.
        self.place.finish(record)
        record["metrics"] |= self._metrics(held, record)
        self._write_card(record)
        self.place.finish(record)
        if not outcome.interrupted:
            self.place.clear_checkpoints()
        return Finetuned(self.place.path, record)

    # -- the model and its rows ----------------------------------------------------------------

    def _task(self, model: Model) -> Task | None:
        """What the model will be asked; None for a classifier, which reads the text alone."""
        if self.job.prompt:
            return prompt_task(model, template=self.job.prompt)
        if model.kind != "causal":
            return None
        if self.job.task == "sentiment":
            return sentiment(model, neutral=len(self.job.labels) == 3)
        return classify(model, labels=self.job.labels)

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
        padding = model.tokenizer.pad_token_id or 0
        if model.kind != "causal":
            return HeadRows(padding)
        shared = min(example.shared for example in examples)
        # Chat templates share a handful of tokens, for which rows of any length would lie in one
        # sequence, whose attention takes the square of it.
        if self.job.labels and shared and SharedPrefix.suits(model.network):
            return SharedPrefix(shared)
        return PaddedRows(padding)

    # -- what it takes -------------------------------------------------------------------------

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
            mixed=self.mixed,
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

    # -- what it leaves ------------------------------------------------------------------------

    def _save(self, network: Any, model: Model) -> None:
        if self.lora is None:
            save_whole(network, model, self.place.path)
        else:
            save_adapter(network, model, self.place.path)

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
            "verb": self.job.task or ("prompt" if self.job.prompt else "classify"),
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
                "train_sha256": self.place.asked["train"],
                "held_sha256": self.place.asked["held"],
                "said": said,
            },
            "recipe": asdict(self.recipe),
            "epochs": self.place.asked["epochs"],
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "interrupted": outcome.interrupted,
            "forecast": expected.to_dict(),
            "versions": versions(),
            "history": outcome.history,
            "metrics": {
                "held-out loss before": outcome.history[0]["eval_loss"],
                "held-out loss": best.get("eval_loss", outcome.history[0]["eval_loss"]),
            },
        }

    def _metrics(self, held: Sequence[LearnedRow], record: dict[str, Any]) -> dict[str, Any]:
        """Figures of the saved model on the held-out rows, asked as any other frame is."""
        if not self.job.labels:
            best = min(
                (e for e in record["history"] if "eval_loss" in e), key=lambda e: e["eval_loss"]
            )
            return {
                "perplexity of answers": float(np.exp(best["eval_loss"])),
                "answer tokens foretold": best["eval_accuracy"],
            }
        with Finetuned(self.place.path, record).load() as model:
            task = self._task(model) or classify(model)
            # Rows that were cut for training are cut here, too.
            found = _answered(model, task, [row.texts for row in held], self.truncate)
        return label_metrics([row.answer for row in held], found, self.job.labels)

    def _write_card(self, record: dict[str, Any], model: Model | None = None) -> None:
        named = record["base"]["name"]
        base = Path(named).name if Path(named).is_dir() else named
        figures = ", ".join(
            f"{name} {value:.3f}"
            for name, value in record["metrics"].items()
            if isinstance(value, float)
        )
        how = (
            f"nbllm.load({base!r}, adapter=folder)"
            if self.lora is not None
            else "nbllm.load(folder)"
        )
        write_readme(
            self.place.path,
            f"{base}, fine-tuned",
            [
                f"{base} ({record['base']['source']}, revision {record['base']['revision']}), "
                f"fine-tuned by nbllm ({self.method}) on "
                f"{counted(record['rows']['train'], 'row')}.",
                f"On {record['rows']['held']:,} held-out rows: {figures}.",
                f"`{how}` loads it. training.json has the record of how it was made.",
            ],
            licence=record["licence"],
            base=base,
            task="text-generation" if self.job.task or self.job.prompt else "text-classification",
        )


def _some(examples: list[Example], seed: int) -> list[Example]:
    """Those that are read on the way."""
    if len(examples) <= _VALIDATED:
        return examples
    chosen = np.random.default_rng(seed).permutation(len(examples))[:_VALIDATED]
    return [examples[n] for n in sorted(chosen)]


def _best(outcome: Outcome) -> Mapping[str, float]:
    """What was validated of the weights that are kept."""
    tried = [entry for entry in outcome.history if "eval_loss" in entry]
    return next((e for e in tried if e["step"] == outcome.best_step), tried[-1])


def _answered(
    model: Model, task: Task, texts: Sequence[tuple[str, ...]], truncate: bool
) -> list[str | None]:
    """The label of each text, as the verb tells it; None where it fails."""
    asked = task.on(model, model.context_length - task.answer_tokens(model))
    offset = asked.calibrate(None)
    answers: dict[int, Any] = {}
    for done in answer_here(texts, task, model, asked, truncate=truncate):
        answers |= done.answers
    places = sorted(answers)
    told = dict(zip(places, task.values([answers[n] for n in places], offset)[0], strict=True))
    return [told.get(n) for n in range(len(texts))]
