"""Likelihoods of continuations that differ from row to row: all of a row's in one forward pass.

`LabelScorer` reads the same labels after each prompt. Here each row has its own, such as the words
of its text. They lie behind the row's prompt as a trie of tokens, each node seeing the prompt and
the nodes above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nbllm.engine.cpu.shared_prefix_attention import SharedPrefixAttention
from nbllm.engine.logits import FineLogits, head_input, logits_of_states
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.scoring import LabelScorer, LabelTrie, context_behind, prefix_for_scoring
from nbllm.engine.sharing import shares_prefix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.engine.prompt import Prompt
    from nbllm.models.model import Model

__all__ = ["CandidateScorer"]

_TOKENS = 2048  # of a pass, padding and candidates included
_AT_ONCE = 512  # positions whose logits are computed at a time: 100 MB with 50,000 tokens


class CandidateScorer:
    """Log-likelihoods of each row's own continuations after its prompt.

    Args:
        model: a causal model.
        prefix_ids: tokens that every prompt starts with; their keys and values are computed here.

    Raises:
        UnsupportedModelError: the likelihoods of the network depend on later tokens.
    """

    def __init__(self, model: Model, prefix_ids: tuple[int, ...]) -> None:
        self.model = model
        self._shares = shares_prefix(model.network)
        self.prefix: SharedPrefixAttention | SharedPrefix
        self.prefix, self._network = prefix_for_scoring(model, prefix_ids)

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[Sequence[int]]]
    ) -> list[NDArray[np.float64]]:
        """Return the log-likelihood of each row's candidates: an array (candidates,) per row.

        Args:
            prompts: rows of one template.
            candidates: the tokens of each row's candidates, none of which begins with another.
        """
        return [
            np.array([tokens.sum() for tokens in row])
            for row in self.score_tokens(prompts, candidates)
        ]

    def score_tokens(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[NDArray[np.float64]]]:
        """Return the log-likelihood of each token: per row, one array (tokens,) per candidate.

        Args:
            prompts: rows of one template.
            candidates: the tokens of each row's candidates, none of which begins with another.
        """
        if not self._shares:
            return [
                LabelScorer(self.model, (), own).score_tokens(prompt)
                for prompt, own in zip(prompts, candidates, strict=True)
            ]
        tries = [LabelTrie(own) for own in candidates]
        lengths = [
            len(prompt.ids) - self.prefix.length + len(trie.tokens)
            for prompt, trie in zip(prompts, tries, strict=True)
        ]
        found: dict[int, list[NDArray[np.float64]]] = {}
        order = sorted(range(len(prompts)), key=lambda n: -lengths[n])
        while order:
            # The longest comes first, so that it says how many fit.
            rows = max(1, _TOKENS // lengths[order[0]])
            part, order = order[:rows], order[rows:]
            scores = self._pass([prompts[n] for n in part], [tries[n] for n in part])
            found.update(zip(part, scores, strict=True))
        return [found[n] for n in range(len(prompts))]

    def _pass(
        self, prompts: Sequence[Prompt], tries: Sequence[LabelTrie]
    ) -> list[list[NDArray[np.float64]]]:
        """Return the same for rows that fit in one forward pass."""
        past, device = self.prefix.length, self.model.device
        suffixes = [prompt.ids[past:] for prompt in prompts]
        longest, most = max(map(len, suffixes)), max(len(trie.tokens) for trie in tries)
        ids, positions, seen = _lay_out(suffixes, tries, past, longest, longest + most)
        places = torch.from_numpy(positions).to(device)
        visible = torch.from_numpy(seen).to(device)
        context = context_behind(self.model, self.prefix, places, visible)
        held: list[torch.Tensor] = []

        def hold(states: torch.Tensor) -> torch.Tensor:
            held.append(states[:, longest - 1 :])
            return states[:, -1:].contiguous()  # whose logits nobody reads

        with torch.inference_mode(), head_input(self._network, hold):
            self._network(
                input_ids=torch.from_numpy(ids).to(device), position_ids=places, **context
            )
        return self._read(held[0], tries)

    def _read(
        self, states: torch.Tensor, tries: Sequence[LabelTrie]
    ) -> list[list[NDArray[np.float64]]]:
        """Return the likelihoods from the states after the prompt and each node."""
        rows: list[int] = []
        columns: list[int] = []
        index: dict[tuple[int, int], int] = {}
        for row, trie in enumerate(tries):
            for node in sorted({node for steps in trie.steps for node, _ in steps}):
                index[row, node] = len(rows)
                rows.append(row)
                columns.append(node + 1)
        wanted = states[rows, columns]
        read = sorted({token for trie in tries for steps in trie.steps for _, token in steps})
        place = {token: n for n, token in enumerate(read)}
        fine = FineLogits(self.model.network, read)
        parts = []
        for start in range(0, len(wanted), _AT_ONCE):
            with fine:
                logits = logits_of_states(self.model, wanted[start : start + _AT_ONCE], read[0])
            whole, chosen = fine.split(logits)
            parts.append((chosen - whole.logsumexp(-1, keepdim=True)).cpu().double().numpy())
        logp = np.concatenate(parts)
        return [
            [
                np.array([logp[index[row, node], place[token]] for node, token in s])
                for s in trie.steps
            ]
            for row, trie in enumerate(tries)
        ]


def _lay_out(
    suffixes: Sequence[Sequence[int]],
    tries: Sequence[LabelTrie],
    past: int,
    longest: int,
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return ids and positions, (rows, width), and who sees whom, (rows, width, width).

    Prompts end at `longest`, with padding in front of them; tries begin there, with padding
    behind them.
    """
    ids = np.zeros((len(tries), width), dtype=np.int64)
    positions = np.zeros_like(ids)
    # A padding query that sees nothing would be NaN in sdpa, so each token sees itself.
    seen = np.repeat(np.eye(width, dtype=bool)[None], len(tries), axis=0)
    for row, (suffix, trie) in enumerate(zip(suffixes, tries, strict=True)):
        text = slice(longest - len(suffix), longest)
        own = slice(longest, longest + len(trie.tokens))
        ids[row, text], ids[row, own] = suffix, trie.tokens
        positions[row, text] = past + np.arange(len(suffix))
        positions[row, own] = past + len(suffix) - 1 + np.array(trie.depths, dtype=np.int64)
        seen[row, text, text] = np.tri(len(suffix), dtype=bool)
        seen[row, own, text] = True
        seen[row, own, own] = trie.visible()
    return ids, positions, seen
