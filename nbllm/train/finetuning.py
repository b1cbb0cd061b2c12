"""finetune(): a model made better at the rows of a frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narwhals.dependencies import is_into_dataframe

from nbllm.errors import LabelError
from nbllm.escaping import say
from nbllm.frame.calls.registry import verb_for_labels
from nbllm.models.fetch.catalog import DEFAULT
from nbllm.models.loader import check_named
from nbllm.models.model import Model
from nbllm.train.base import Lora, find, refuse_unless_fits
from nbllm.train.finetuned import Finetuned
from nbllm.train.finetuning_run import FinetuningRun
from nbllm.train.folder import RunFolder
from nbllm.train.job import (
    Method,
    check_numbers,
    choose_labels,
    choose_method,
    read_job,
    usual_rate,
)
from nbllm.train.plan import Forecast
from nbllm.train.recipe import Recipe
from nbllm.train.rows import digest, hold_out, learned_rows

if TYPE_CHECKING:
    import torch

__all__ = ["finetune"]

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
    answer exactly the prompt of `df.llm.sentiment` (where the labels are positive and
    negative, with neutral or without) or `df.llm.classify`, or that of `df.llm.prompt`.
    Only the answer's tokens are learned. Rows without a text or a label are set aside
    and counted; the best weights on held-out rows are kept, and figures are of those rows, as the
    saved model answers them once it is loaded.

    An interrupt, or a kill, loses what came after the last checkpoint: the same call resumes there
    and comes to the same result. An interrupt returns the best weights until then.

    Args:
        frame: A pandas or polars DataFrame.
        text: The column to read, with `label`.
        label: The column of labels, of any type.
        prompt: The column to read, or a prompt with columns in braces, with `answer`. Of several
            columns, a blank one is an empty text.
        answer: The column of texts to generate.
        model: A name or folder as `nbllm.load` takes it, or a loaded model, of which a copy is
            trained. By default "minilm" for labels, and "smollm2" for answers.
        method: "full": all weights; "lora": a low-rank change beside them (causal models),
            saved as an adapter; "qlora": the same on weights in nf4. By default full for
            encoders and classifiers, and lora for causal models.
        labels: The labels in the order in which `classify` will be given them; by default in
            alphabetical order. Rows with another label raise.
        validation: The share of rows to hold out, or a frame of them.
        epochs: Passes over the rows, at most.
        learning_rate: The highest learning rate; by default 1e-4 for full (1e-5 for causal models),
            and 5e-4 for lora and qlora.
        batch: Rows per step.
        patience: Validations without a better one until it stops; None never stops early.
        rank: The rank of the low-rank change.
        max_tokens: The most tokens of a row, with its prompt; by default the model's context.
        truncate: Cut the texts of longer rows, instead of leaving those rows out.
        seed: The seed of the split, the order and all that is drawn.
        device: "auto" is a GPU where there is one; of several, it has to be the first.
        folder: Where the run and its result go; by default below NBLLM_HOME.
        resume: Resume the run in `folder`, or return its result again.
        dry_run: Return the forecast of memory and time, and train nothing.

    Returns:
        The trained model's folder and record; with `dry_run` the forecast.

    Raises:
        ArgumentError: A number is out of range.
        FrameError: A column is missing or no text, or too few rows are left.
        LabelError: There are not two labels.
        TooLargeError: It does not fit in memory; nothing was trained.
        TrainingError: The folder holds something else or cannot be written to, the loss is no
            longer finite, the model is spread over devices, or the GPU is not the first.
        UnsupportedModelError: The model cannot be trained in this way.

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
    any_type = bool(job.prompt) and job.call.any_type
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
        full_finetune=None if method is None else method == "full",
        device=device,
    )
    chosen = choose_method(method, base, job)
    if job.labels:
        # A classifier has its labels in its head.
        verb, options = verb_for_labels(job.labels if base.plan.kind == "causal" else ())
        job = replace(job, verb=verb.name, options=options)
    lora = None if chosen == "full" else Lora(rank, 2 * rank)
    recipe = Recipe(
        rows=min(batch, len(train)),
        learning_rate=learning_rate or usual_rate(chosen, base),
        patience=patience,
        seed=seed,
    )
    settings = {
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
    place = RunFolder(folder, "finetune", settings, resume=resume or dry_run)
    done = place.record
    if done is not None and not done["interrupted"] and not dry_run:
        say(f"nbllm: this run has ended before; its result is in {place.path}")
        return Finetuned(place.path, done)
    refuse_unless_fits(base, lora)
    started = time.perf_counter()
    limit = min(max_tokens or base.plan.context_length, base.plan.context_length)
    run = FinetuningRun(base, job, chosen, lora, recipe, place, limit, truncate)
    with nullcontext() if dry_run else place.claimed():
        return run(train, held, counts, leaked, epochs, started=started, dry_run=dry_run)
