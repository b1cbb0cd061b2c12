"""The logit lens: what a causal model would answer after each of its layers.

Every layer adds to the same vector, the residual stream, and the final norm and the output
matrix map the last one to the answer. Applied to an earlier one, they show what the model
would answer if it stopped there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.residual import (
    FAMILIES,
    architecture,
    check_causal,
    from_start,
    residual_stream,
)
from nbllm.attention.recording.rounding import rounding_tolerance
from nbllm.attention.recording.text import encode_prompt, token_id, token_texts
from nbllm.checks import check_integers, check_whole, reads
from nbllm.engine.chunks import logits_at_once
from nbllm.engine.logits import logits_of_states
from nbllm.engine.prompt import Prompt
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.models.loader import resolve
from nbllm.models.model import Model, ModelLike

__all__ = ["LogitLens", "logit_lens"]

_CHECKED = 16  # positions at which the lens is compared with the model's own logits


@dataclass(frozen=True, eq=False)
class LogitLens:
    """What a causal model would answer after each layer, at each of some positions.

    Made by `logit_lens`. Layer 0 is the embeddings, layer n the state after n layers, and
    the last one is the model's own answer. It keeps the hidden states, not the logits, and
    needs the model to stay loaded.
    """

    model: Model = field(repr=False)
    ids: tuple[int, ...]
    tokens: tuple[str, ...]  # each as readable text
    positions: tuple[int, ...]  # of the tokens after which it was read
    _states: torch.Tensor = field(repr=False)  # (layers + 1, positions, width), before the norm
    _norm: nn.Module = field(repr=False)
    _listed: int = field(repr=False)

    def logits(self, layer: int, position: int) -> NDArray[np.float32]:
        """Return the logits of the token after a position.

        Args:
            layer: The number of layers that are applied, from 0.
            position: The position of a token; from the end where negative.

        Returns:
            float32, (vocabulary,).

        Raises:
            SelectionError: The layer or position was not kept.

        Example:
            >>> lens.logits(layer=6, position=-1)  # doctest: +SKIP
        """
        values: NDArray[np.float32] = self._at(layer, position).cpu().numpy()
        return values

    def top(self, layer: int, position: int, k: int = 5) -> list[tuple[str, int, float]]:
        """Return the k likeliest next tokens, the likeliest first.

        Args:
            layer: The number of layers that are applied, from 0.
            position: The position of a token; from the end where negative.
            k: The number of tokens.

        Returns:
            (text, id, probability) of each.

        Raises:
            SelectionError: The layer or position was not kept.

        Example:
            >>> lens.top(layer=6, position=-1, k=3)  # doctest: +SKIP
        """
        found = self._at(layer, position).softmax(-1).topk(k)
        return [
            (self._text(token), token, value)
            for token, value in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    def frame(self) -> pd.DataFrame:
        """Return the likeliest next tokens of every layer and position, one per row.

        Columns: layer, position, token (the text there), rank (1 is the likeliest),
        prediction (text) and probability.
        """
        found = [part.softmax(-1).topk(self._listed) for part in self._parts()]
        values, tokens = (torch.cat([part[n].flatten() for part in found]).cpu() for n in (0, 1))
        places = range(len(self._states)), self.positions, range(1, self._listed + 1)
        rows = np.array(list(itertools.product(*places)))
        return pd.DataFrame(
            {
                "layer": rows[:, 0],
                "position": rows[:, 1],
                "token": [self.tokens[position] for position in rows[:, 1]],
                "rank": rows[:, 2],
                "prediction": [self._text(token) for token in tokens.tolist()],
                "probability": values.numpy(),
            }
        )

    def rank_of(self, token: int | str) -> NDArray[np.int64]:
        """Return the rank of a next token: how many are at least as likely, itself included.

        Args:
            token: Its id, or a text that is one token.

        Returns:
            int64, (layers + 1, positions); 1 is the likeliest.

        Raises:
            SelectionError: It is no token of the model.

        Example:
            >>> lens.rank_of(" good")[:, -1]  # doctest: +SKIP
        """
        wanted = token_id(self.model, token)
        ranks = [1 + (part > part[:, wanted, None]).sum(-1) for part in self._parts()]
        found: NDArray[np.int64] = torch.cat(ranks).view(self._states.shape[:2]).cpu().numpy()
        return found

    def log_probabilities(self, tokens: Sequence[int | str]) -> NDArray[np.float32]:
        """Return the natural logarithms of the probabilities of some next tokens.

        Args:
            tokens: Their ids, or texts that are one token each.

        Returns:
            float32, (layers + 1, positions, tokens).

        Raises:
            SelectionError: One is no token of the model.

        Example:
            >>> lens.log_probabilities([" good", " bad"])[:, -1]  # doctest: +SKIP
        """
        wanted = [token_id(self.model, token) for token in tokens]
        parts = [part.log_softmax(-1)[:, wanted] for part in self._parts()]
        shape = (*self._states.shape[:2], len(wanted))
        found: NDArray[np.float32] = torch.cat(parts).view(shape).cpu().numpy()
        return found

    def _at(self, layer: int, position: int) -> torch.Tensor:
        layers = len(self._states)
        if not 0 <= layer < layers:
            raise SelectionError(
                f"layer {layer} is not in this lens on {self.model.name}, which has layers 0 "
                f"(the embeddings) to {layers - 1}. Choose one of those."
            )
        (place,) = from_start([position], len(self.ids))
        if place not in self.positions:
            raise SelectionError(
                f"token {position} was not kept in this lens. Choose one of its positions, "
                "or make it with positions=None for all."
            )
        return self._project(self._states[layer, self.positions.index(place)][None])[0]

    def _parts(self) -> Iterator[torch.Tensor]:
        """Logits of all layers and positions in order, (some, vocabulary) at a time."""
        words = self.model.network.config.get_text_config().vocab_size
        size = max(1, logits_at_once(self.model.device) // words)
        for states in torch.split(self._states.flatten(0, 1), size):
            yield self._project(states)

    def _project(self, states: torch.Tensor) -> torch.Tensor:
        """Return logits, float32 (some, vocabulary), of states before the norm, (some, width)."""
        with torch.inference_mode():
            normed = self._norm(states[None].to(self.model.device))[0]
        return logits_of_states(self.model, normed, self.ids[0])

    def _text(self, token: int) -> str:
        return str(self.model.tokenizer.decode([token]))


@reads(positions=check_integers, top=check_whole)
def logit_lens(
    model: ModelLike, text: str | Prompt, *, positions: Sequence[int] | None = None, top: int = 5
) -> LogitLens:
    """Return what a causal model would answer after each of its layers.

    The hidden state after every layer goes through the final norm and the output matrix
    (nostalgebraist 2020, "interpreting GPT: the logit lens"). Of the last layer that is the
    model's own answer.

    Args:
        model: A causal model, or what `nbllm.load` takes.
        text: The text to read, or a Prompt.
        positions: Positions of the tokens whose next token is predicted, from the end where
            negative; all by default.
        top: How many tokens `frame()` lists.

    Returns:
        The lens, from which logits, ranks and probabilities are read.

    Raises:
        UnsupportedModelError: The model is not causal, or has no final norm that explains its
            logits.
        SelectionError: A position is outside of the text.
        TextError: The text has no tokens.
        TextTooLongError: It does not fit the context.

    Example:
        >>> lens = logit_lens(model, "The capital of France is", positions=[-1])  # doctest: +SKIP
        >>> lens.top(layer=20, position=-1)  # doctest: +SKIP
        [(' Paris', 7042, 0.31), ...]
    """
    model = resolve(model)
    check_causal(model, "logit_lens")
    prompt = encode_prompt(model, text)
    chosen = from_start(range(len(prompt.ids)) if positions is None else positions, len(prompt.ids))
    if not chosen:
        raise SelectionError("positions names no token. Give at least one, such as [-1].")
    ending = residual_stream(model, prompt.ids, chosen[-_CHECKED:])
    lens = LogitLens(
        model=model,
        ids=prompt.ids,
        tokens=token_texts(model, prompt),
        positions=tuple(chosen),
        _states=torch.stack(
            [taken(state, 0, chosen).to(model.device) for state in ending.states]
        ).cpu(),
        _norm=ending.norm,
        _listed=top,
    )
    explained = lens._project(lens._states[-1, -_CHECKED:]).cpu()
    gap = float((explained - ending.logits).abs().max() / ending.logits.abs().max())
    if not gap <= rounding_tolerance(model.dtype, model.device):  # also where it is not a number
        raise UnsupportedModelError(
            f"The final norm and output matrix of {model.name} ({architecture(model)}) miss its "
            f"own logits by {gap:.1%}, so a lens through them would mislead. {FAMILIES}"
        )
    return lens
