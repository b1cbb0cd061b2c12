"""Measures of what the heads of a model do, in one number each.

Each is an average over queries, computed a block of rows at a time, and over sampled queries
in long texts. None of them says that a head matters for an answer: that is measured by
ablation, in nbllm/attention/analysis/ablation.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch

from nbllm.attention.recording.capture import record_batch
from nbllm.attention.recording.indexing import evenly_spaced, gathered, index
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.masks import Rule
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.residual import check_causal
from nbllm.attention.recording.threads import one_thread
from nbllm.attention.views.overview import survey
from nbllm.checks import check_integers, check_whole, reads
from nbllm.engine.prompt import Prompt
from nbllm.engine.tokenization import special_token_id
from nbllm.errors import ArgumentError, SelectionError
from nbllm.models.loader import resolve
from nbllm.models.model import Model, ModelLike
from nbllm.wording import counted

__all__ = ["head_measures", "induction_scores"]

MOST_ROWS = 256
LEAST_ROWS = 32
MEASURED_WEIGHTS = 2**17  # of a head, beyond which fewer rows are sampled

_MEASURES = (
    "entropy", "normalized_entropy", "mean_distance", "sink_mass", "previous_token",
    "duplicate_token",
)  # fmt: skip


@one_thread()
@reads(layers=check_integers)
def head_measures(recording: Recording, *, layers: Sequence[int] | None = None) -> pd.DataFrame:
    """Return how each head spreads its weight, averaged over the queries of a text.

    Beyond 256 tokens rows are sampled, and fewer in texts of thousands.

    Args:
        recording: The recording.
        layers: Numbers of recorded layers; all by default.

    Returns:
        A frame with one row per head and the columns

        - layer, head
        - entropy: of a row's weights, in nats; 0 where all weight is on one key
        - normalized_entropy: as a share of the largest that so many keys can have, 0 to 1
        - mean_distance: from the query to the keys that get its weight, in tokens
        - sink_mass: weight on the sink that `survey` finds, from the queries that see it, and on a
          model's own sink that has no token
        - previous_token: weight on the token before
        - duplicate_token: weight on earlier occurrences of the same token, of queries that have one

        A measure is missing where there is nothing to measure: the sink of a text that has none,
        tokens before and distances where rows and columns are two texts. `attrs` holds "rows", the
        number of sampled rows, of how many ("of"), and the "sink".

    Raises:
        SelectionError: A layer was not recorded, or none is named.

    Example:
        >>> head_measures(recording).nlargest(5, "previous_token")  # doctest: +SKIP
    """
    numbers = recording.layer_numbers if layers is None else tuple(layers)
    if not numbers:
        raise SelectionError("layers names no layer. Give at least one, or None for all.")
    for number in numbers:
        recording.check(number, 0)
    sink = survey(recording).sink
    most = max(LEAST_ROWS, min(MOST_ROWS, MEASURED_WEIGHTS // len(recording.keys)))
    rows = evenly_spaced(len(recording.queries), most)
    found = [_measure(recording, recording.layer(number), rows, sink) for number in numbers]
    frame = pd.DataFrame(
        {
            "layer": np.repeat(numbers, recording.heads),
            "head": np.tile(np.arange(recording.heads), len(numbers)),
        }
    )
    # (layers, measures, heads) to a row a head
    frame[list(_MEASURES)] = gathered(found).transpose(0, 2, 1).reshape(len(frame), -1)
    frame.attrs |= {"rows": len(rows), "of": len(recording.queries), "sink": sink}
    return frame


def _measure(
    recording: Recording, layer: Layer, sampled: Sequence[int], sink: int | None
) -> torch.Tensor:
    """The measures of all heads of a layer, float32, (measures, heads)."""
    device = layer.key.device
    ids = index(recording.keys.ids, device)
    keys = index(range(len(ids)), device)
    one_text = recording.queries is recording.keys
    sums = torch.zeros(len(_MEASURES), layer.heads, device=device)
    counts = torch.zeros(len(_MEASURES), 1, device=device)
    group = layer.heads // layer.key.shape[0]
    # A mask that follows no rule of a layer's own may still be causal.
    rule = Rule(recording.causal, layer.window)
    for rows in layer.blocks(group, sampled):
        # The same for all heads: what lies how far, and which rows a measure is of.
        places = index(rows, device)[:, None]
        distance = (places - keys).abs().float()
        again = ((ids == ids[places]) & (keys < places)).float() if one_text else None
        seeing = [place for place, row in enumerate(rows) if sink is None or rule.sees(row, sink)]
        sees = index(seeing, device)
        later = [place for place, row in enumerate(rows) if row >= 1]
        last = index(later, device), index([rows[place] - 1 for place in later], device)
        for first in range(0, layer.heads, group):
            heads = slice(first, first + group)
            weights = layer.weights(range(first, first + group), rows)
            total = weights.sum(-1)
            entropy = torch.special.entr(weights).sum(-1) / total + total.log()
            largest = (weights > 0).sum(-1).log()
            sums[0, heads] += entropy.sum(1)
            sums[1, heads] += (entropy / largest.clamp_min(torch.finfo().tiny)).sum(1)
            if sink is not None:
                sums[3, heads] += weights[:, sees, sink].sum(1)
            if layer.sinks is not None:
                sums[3, heads] += (1 - total)[:, sees].sum(1)
            if again is not None:
                sums[2, heads] += (torch.einsum("hrk,rk->hr", weights, distance) / total).sum(1)
                sums[4, heads] += weights[:, *last].sum(1)
                sums[5, heads] += torch.einsum("hrk,rk->h", weights, again)
        counts[:2] += len(rows)
        if sink is not None or layer.sinks is not None:
            counts[3] += len(seeing)
        if again is not None:
            counts[2] += len(rows)
            counts[4] += len(later)
            counts[5] += again.any(1).sum()
    return sums / torch.where(counts > 0, counts, torch.nan)


def induction_scores(
    model: ModelLike, *, length: int = 50, sequences: int = 4, seed: int = 0
) -> pd.DataFrame:
    """Return how strongly each head of a causal model attends to what followed the last time.

    The model reads `length` random tokens twice. From a token of the second time, an induction
    head attends to the token after its first occurrence: the score is the weight there, averaged
    over the second time and over `sequences` such texts (Olsson et al. 2022, "In-context Learning
    and Induction Heads"). A token that begins a text, where the tokenizer has one, stands before.

    Args:
        model: A causal model, or what `nbllm.load` takes.
        length: Tokens of one time.
        sequences: The number of texts.
        seed: The seed of the random tokens.

    Returns:
        A frame with one row per head and the columns layer, head and induction (0 to 1).

    Raises:
        UnsupportedModelError: The model is not causal, or cannot be recorded.
        TextTooLongError: Twice `length` does not fit the context.
        ArgumentError: `length` is more than the vocabulary has.

    Example:
        >>> induction_scores(model).nlargest(5, "induction")  # doctest: +SKIP
    """
    model = resolve(model)
    check_causal(model, "induction_scores")
    texts = _repeated(model, length, sequences, seed)
    recordings = cast("list[Recording]", record_batch(model, texts))
    first = len(texts[0].ids) - length  # of the second time
    rows = range(first, first + length)
    # From each row to the token after its first occurrence: a diagonal.
    found = np.mean(
        [
            gathered(
                [
                    layer.weights(None, rows).diagonal(first - length + 1, 1, 2)[:, :length].mean(1)
                    for layer in recording.layers
                ]
            )
            for recording in recordings
        ],
        axis=0,
        dtype=np.float64,
    )
    layers, heads_ = np.indices(found.shape)
    return pd.DataFrame(
        {"layer": layers.ravel(), "head": heads_.ravel(), "induction": found.ravel()}
    )


def _repeated(model: Model, length: int, sequences: int, seed: int) -> list[Prompt]:
    """Texts of random tokens that come twice; within one time all differ."""
    tokenizer = model.tokenizer
    size = min(len(tokenizer), model.network.config.get_text_config().vocab_size)
    special = set(tokenizer.all_special_ids)
    words = [token for token in range(size) if token not in special]
    length = check_whole("length", length, least=2)
    sequences, seed = check_whole("sequences", sequences), check_whole("seed", seed, least=0)
    if length > len(words):
        raise ArgumentError(
            f"length={length} is more than the {counted(len(words), 'token')} of {model.name}, of "
            "which each comes once. Give a smaller one."
        )
    begin = [] if (bos := special_token_id(tokenizer, "bos")) is None else [bos]
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(words, length, replace=False).tolist() for _ in range(sequences)]
    return [
        Prompt(ids=ids, text="", spans=((0, 0),) * len(ids), field_spans=())
        for ids in (tuple([*begin, *once, *once]) for once in drawn)
    ]
