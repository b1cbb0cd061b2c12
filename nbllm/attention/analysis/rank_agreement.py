"""Whether attention and attribution name the same tokens: neither stands for the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbllm.attention.analysis.attribution import Attribution
from nbllm.attention.recording.indexing import gathered
from nbllm.attention.recording.recording import Recording
from nbllm.checks import check_integer, reads
from nbllm.errors import SelectionError

__all__ = ["agreement", "attended", "top_shared"]

_TOP = 5  # tokens, in the overlap of attention and attribution


@reads(layer=check_integer)
def agreement(
    recording: Recording, attribution: Attribution, layer: int | None = None
) -> pd.DataFrame:
    """Return how far each head attends to the tokens that the answer depends on.

    The attention of the token from which the answer is read (the last of a causal model, the first
    of an encoder) is compared with the size of the scores, over the tokens that
    were varied, without special ones and, in a causal model, without the first token, on
    which weight rests whatever the text says (Xiao et al. 2023, "Efficient Streaming Language
    Models with Attention Sinks"). Low values are to be expected (Jain & Wallace 2019,
    "Attention is not Explanation").

    Args:
        recording: The recording of a text.
        attribution: The attribution of the same text.
        layer: The number of a layer; all that were recorded by default.

    Returns:
        A frame with one row per head and the columns layer, head, spearman (rank correlation, -1 to
        1; missing where there is nothing to rank) and top5_overlap (share of the five tokens with
        the largest scores that are among the five with the most attention).

    Raises:
        SelectionError: The layer was not recorded, or the two are not of the same tokens.

    Example:
        >>> found = agreement(record(model, text), attribute(model, text))  # doctest: +SKIP
        >>> found.nlargest(5, "spearman")  # doctest: +SKIP
    """
    if recording.ids != attribution.ids:
        raise SelectionError(
            "The recording and the attribution are of different texts. Make both from the same "
            "text or prompt, with the same model."
        )
    if layer is not None:
        recording.check(layer, 0)
    compared = [
        place
        for place, varied in enumerate(attribution.varied)
        if varied and not recording.special[place] and not (recording.causal and place == 0)
    ]
    row = _answer_row(recording)
    heads = [
        (chosen, head)
        for chosen in (recording.layer_numbers if layer is None else [layer])
        for head in range(recording.heads)
    ]
    numbers = dict.fromkeys(chosen for chosen, _ in heads)
    given = gathered([recording.layer(number).weights(None, [row])[:, 0] for number in numbers])
    given = given.reshape(len(heads), -1)[:, compared]
    weights = pd.DataFrame(dict(zip(heads, given, strict=True)))  # (tokens, heads)
    sizes = pd.Series(np.abs(attribution.scores[compared]))
    # Spearman's is Pearson's of the ranks.
    correlation = weights.rank().corrwith(sizes.rank())
    tops = [top_shared(weights[place], sizes) for place in heads]
    return pd.DataFrame(
        {
            "layer": [chosen for chosen, _ in heads],
            "head": [head for _, head in heads],
            "spearman": correlation.to_numpy(),
            "top5_overlap": [shared / count if count else np.nan for shared, count in tops],
        }
    )


def attended(recording: Recording, rows: Sequence[int] | None = None) -> NDArray[np.float32]:
    """Return the attention of some tokens to all tokens, as the mean of these and of all heads.

    Args:
        recording: The recording.
        rows: The positions of the tokens; by default that from which the answer is read.

    Returns:
        float32, (tokens,), which sums to 1 (to less with attention sinks).
    """
    chosen = [_answer_row(recording)] if rows is None else list(rows)
    mean: NDArray[np.float32] = gathered(
        [layer.weights(None, chosen).mean((0, 1)) for layer in recording.layers]
    ).mean(0)
    return mean


def top_shared(one: pd.Series, other: pd.Series) -> tuple[int, int]:
    """Return how many of the five largest of each are the same, and of how many, if fewer.

    Args:
        one: Values; the index says which belong together.
        other: Others with the same index.

    Example:
        >>> top_shared(pd.Series([3, 1, 2]), pd.Series([1, 2, 3]))
        (3, 3)
    """
    count = min(_TOP, len(one))
    return len(set(one.nlargest(count).index) & set(other.nlargest(count).index)), count


def _answer_row(recording: Recording) -> int:
    return len(recording) - 1 if recording.causal else 0
