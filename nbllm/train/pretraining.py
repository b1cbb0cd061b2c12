"""pretrain(): a LLaMA of the caller's own, from random weights, on a column of texts."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narwhals.dependencies import is_into_dataframe

from nbllm.checks import shown
from nbllm.errors import ArgumentError, TooLargeError, TrainingError
from nbllm.escaping import say
from nbllm.models.memory.budget import free_memory
from nbllm.train.folder import RunFolder
from nbllm.train.job import check_numbers
from nbllm.train.loop import training_device
from nbllm.train.plan import Forecast
from nbllm.train.pretrained import Pretrained
from nbllm.train.pretraining_run import PretrainingRun
from nbllm.train.recipe import Recipe
from nbllm.train.rows import digest, hold_out, learned_rows
from nbllm.train.shape import Shape
from nbllm.wording import byte_size

if TYPE_CHECKING:
    import torch

__all__ = ["pretrain"]


def pretrain(
    frame: Any,
    *,
    text: str,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 256,
    vocabulary: int = 4096,
    context: int = 256,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 16,
    learning_rate: float = 1e-3,
    validation: float | Any = 0.1,
    patience: int | None = 5,
    sample: str = "",
    seed: int = 0,
    device: str | torch.device = "auto",
    folder: str | Path | None = None,
    resume: bool = True,
    dry_run: bool = False,
) -> Pretrained | Forecast:
    """Train a small LLaMA from random weights on a column of texts.

    A byte-level BPE tokenizer is trained on the column first. Texts are packed end to end into
    blocks of `context` tokens, in which no text sees the one before it. Perplexity on held-out
    texts is given beside that of a unigram model (add-one) and a bigram model (Kneser–Ney) of the
    same tokens.

    An interrupt, or a kill, loses what came after the last checkpoint: the same call resumes there
    and comes to the same result. An interrupt returns the best weights until then.

    Args:
        frame: A pandas or polars DataFrame.
        text: The column to learn.
        layers: The number of layers.
        heads: Attention heads per layer.
        hidden: The width of the residual stream.
        vocabulary: Tokens at most, 259 of which are single bytes and special ones.
        context: Tokens that it reads at once.
        steps: Steps at most; by default 10 passes over the texts.
        minutes: Minutes of training, instead of steps: as many steps as that takes, by a step that
            is measured first.
        batch: Blocks per step.
        learning_rate: The highest learning rate; it warms up and then falls as a cosine.
        validation: The share of texts to hold out, or a frame of them.
        patience: Validations without a better one until it stops; None never stops early.
        sample: The beginning of the samples that it writes on the way.
        seed: The seed of the split, the weights, the order and the samples.
        device: "auto" is a GPU where there is one; of several, it has to be the first.
        folder: Where the run and its result go; by default below NBLLM_HOME.
        resume: Resume the run in `folder`, or return its result again.
        dry_run: Return the forecast of memory and time, and train nothing.

    Returns:
        The trained model's folder and record; with `dry_run` the forecast.

    Raises:
        ArgumentError: A number is out of range.
        FrameError: The column is missing or no text, or too few rows are left.
        TooLargeError: It does not fit in memory; nothing was trained.
        TrainingError: The settings make no model, the GPU is not the first, the texts fill no
            block, the folder holds something else or cannot be written to, or the loss is no
            longer finite.

    Example:
        >>> made = nbllm.pretrain(films, text="overview", minutes=10)  # doctest: +SKIP
        >>> llm = made.load()  # doctest: +SKIP
    """
    shape = Shape(layers, heads, hidden, vocabulary, context)
    shape.check()
    if steps is not None and minutes is not None:
        raise TrainingError("steps and minutes both say how long to train. Pass one of them.")
    check_numbers(
        steps=steps, minutes=minutes, batch=batch, learning_rate=learning_rate, patience=patience,
        seed=seed,
    )  # fmt: skip
    if not isinstance(sample, str):
        raise ArgumentError(f"sample={shown(sample)} is no text. Pass a string.")
    rows, counts = learned_rows(frame, [text], None)
    if not is_into_dataframe(validation):
        train, held = hold_out(rows, validation, seed, by_answer=False)
    else:
        train, held = rows, learned_rows(validation, [text], None)[0]
    recipe = Recipe(
        rows=batch,
        learning_rate=learning_rate,
        schedule="cosine",
        warmup=0.05,
        weight_decay=0.1,
        patience=patience,
        seed=seed,
    )
    where = training_device(device)
    settings = {
        "shape": asdict(shape),
        "column": text,
        "train": digest(train),
        "held": digest(held),
        "steps": steps,
        "minutes": minutes,
        "recipe": asdict(recipe),
        "sample": sample,
        "device": where.type,
    }
    place = RunFolder(folder, "pretrain", settings, resume=resume or dry_run)
    done = place.record
    if done is not None and not done["interrupted"] and not dry_run:
        say(f"nbllm: this run has ended before; its result is in {place.path}")
        return Pretrained(place.path, done)
    if shape.bytes() > free_memory(where):
        raise TooLargeError(
            f"Training such a model takes {byte_size(shape.bytes())} before a single text is read, "
            f"and {byte_size(free_memory(where))} of {where.type} memory are free. Pass fewer "
            "layers, or a smaller hidden or vocabulary."
        )
    said = f"{counts}, {len(train):,} to train on and {len(held):,} held out"
    run = PretrainingRun(shape, recipe, place, where, sample, said)
    with nullcontext() if dry_run else place.claimed():
        return run(train, held, steps, minutes, dry_run)
