"""Whether attention and attribution name the same tokens: nobody should take one for the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nbllm.attention.analysis.attribution import Attribution
from nbllm.attention.recording.indexing import gathered
from nbllm.attention.recording.recording import Recording
from nbllm.checks import check_integer, reads
from nbllm.errors import SelectionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["agreement", "attended", "top_shared"]

_TOP = 5  # tokens, in the overlap of attention and attribution


@reads(layer=check_integer)
def agreement(
    recording: Recording, attribution: Attribution, layer: int | None = None
) -> pd.DataFrame:
    """How far each head looks at the tokens that the answer depends on.

    Attention is what the token gave that the answer is read at: the last of a causal model,
    the first of an encoder. It is compared with the size of the scores, over the tokens that
    were varied, without special ones and, in a causal model, without the first token, on
    which weight rests whatever the text says (Xiao et al. 2023, "Efficient Streaming Language
    Models with Attention Sinks"). Low values are what to expect (Jain & Wallace 2019,
    "Attention is not Explanation").

    Returns one row a head, with the columns layer, head, spearman (rank correlation, -1 to 1;
    missing where there is nothing to rank) and top5_overlap (share of the five tokens with
    the largest scores that are among the five most attended to). Raises SelectionError for a
    layer that was not recorded, or where the two are not of the same tokens.

        agreement(record(model, text), attribute(model, text)).nlargest(5, "spearman")
    """
    if recording.ids != attribution.ids:
        raise SelectionError(
            "The recording and the attribution are of different texts. Make both from the same "
            "text or prompt, with the same model."
        )
    if layer is not None:
        recording.check(layer, 0)
    compared = _compared(recording, attribution)
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
    return pd.DataFrame(
        {
            "layer": [chosen for chosen, _ in heads],
            "head": [head for _, head in heads],
            "spearman": correlation.to_numpy(),
            "top5_overlap": [_overlap(weights[place], sizes) for place in heads],
        }
    )


def attended(recording: Recording) -> NDArray[np.float32]:
    """What the token that the answer is read at gives to each token, as the mean of all heads.

    Returns float32, (tokens,), which sums to 1 (to less with attention sinks).

        attended(record(model, text)).argsort()[-5:]
    """
    rows = [_answer_row(recording)]
    mean: NDArray[np.float32] = gathered(
        [layer.weights(None, rows)[:, 0].mean(0) for layer in recording.layers]
    ).mean(0)
    return mean


def top_shared(one: pd.Series, other: pd.Series) -> tuple[int, int]:
    """How many of the five largest of each are the same, by index; and of how many, if fewer.

    top_shared(words["attention"], words["attribution"].abs())      # (2, 5)
    """
    count = min(_TOP, len(one))
    return len(set(one.nlargest(count).index) & set(other.nlargest(count).index)), count


def _answer_row(recording: Recording) -> int:
    return len(recording) - 1 if recording.causal else 0


def _compared(recording: Recording, attribution: Attribution) -> list[int]:
    return [
        place
        for place in range(len(recording))
        if attribution.varied[place]
        and not recording.special[place]
        and not (recording.causal and place == 0)
    ]


def _overlap(one: pd.Series, other: pd.Series) -> float:
    shared, count = top_shared(one, other)
    return shared / count if count else float("nan")
