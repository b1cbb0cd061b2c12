"""Label likelihoods: every label of a row in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nbllm.engine.batch_memory import positions_at_once
from nbllm.engine.cpu.shared_prefix_attention import SharedPrefixAttention
from nbllm.engine.logits import FineLogits, head_input, logits_at
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.prompt import Prompt
from nbllm.engine.sharing import refuse_unless_scored, shares_prefix
from nbllm.errors import ModelError
from nbllm.models.model import Model

__all__ = [
    "LabelScorer", "LabelTrie", "calibration_offset", "context_behind", "prefix_for_scoring",
    "probabilities",
]  # fmt: skip

# Tokens of a batch whose shape is fixed, and what a row's are rounded up to. A batch of eight
# short rows takes three times as long as one row does.
_FIXED_TOKENS, _WIDTH_STEP = 256, 8


class LabelTrie:
    """Labels as a trie of tokens, laid out flat for one forward pass.

    Labels that start alike share their first tokens. `tokens[n]` is the token of node n and
    `parents[n]` its parent (-1 for the prompt itself). A leaf is never fed to the network:
    its likelihood is read at its parent. So one-token labels cost no token at all.
    """

    def __init__(self, labels: Sequence[Sequence[int]]) -> None:
        if any(len(label) == 0 for label in labels):
            raise ValueError("a label without tokens")
        paths = [tuple(label) for label in labels]
        ends = set(paths)
        if len(ends) < len(paths) or any(p[:n] in ends for p in paths for n in range(1, len(p))):
            raise ValueError("a label that is the beginning of another")
        self.tokens: list[int] = []
        self.parents: list[int] = []
        # For each label, the (node to read at, token to read) pairs whose log-probabilities add up.
        self.steps: list[list[tuple[int, int]]] = []
        nodes: dict[tuple[int, ...], int] = {(): -1}
        for path in paths:
            for depth in range(1, len(path)):
                if path[:depth] not in nodes:
                    nodes[path[:depth]] = len(self.tokens)
                    self.tokens.append(path[depth - 1])
                    self.parents.append(nodes[path[: depth - 1]])
            self.steps.append([(nodes[path[:d]], path[d]) for d in range(len(path))])
        self.depths: list[int] = [len(self.ancestors(n)) for n in range(len(self.tokens))]

    def ancestors(self, node: int) -> list[int]:
        """Return a node and those above it, without the prompt.

        Args:
            node: its number.
        """
        path = []
        while node >= 0:
            path.append(node)
            node = self.parents[node]
        return path

    def visible(self) -> NDArray[np.bool_]:
        """Return which node sees which: shape (nodes, nodes), true on the path to the root."""
        seen = np.zeros((len(self.tokens), len(self.tokens)), dtype=bool)
        for node in range(len(self.tokens)):
            seen[node, self.ancestors(node)] = True
        return seen


class LabelScorer:
    """Log-likelihoods of a fixed set of labels after each of many prompts.

    Args:
        model: a causal model.
        prefix_ids: tokens that every prompt starts with; their keys and values are computed here.
        labels: the tokens of each label.

    Raises:
        UnsupportedModelError: the likelihoods of the network depend on later tokens.
    """

    def __init__(
        self, model: Model, prefix_ids: tuple[int, ...], labels: Sequence[Sequence[int]]
    ) -> None:
        self.model = model
        self._shares = shares_prefix(model.network)
        self.prefix: SharedPrefixAttention | SharedPrefix
        self.prefix, self._network = prefix_for_scoring(model, prefix_ids)
        self.trie: LabelTrie = LabelTrie(labels)
        self._visible = torch.from_numpy(self.trie.visible()).to(model.device)
        self._depths = torch.tensor(self.trie.depths, dtype=torch.int64, device=model.device)
        # The tokens that likelihoods are read of, and for each label where: (node, which token).
        read = sorted({token for steps in self.trie.steps for _, token in steps})
        self._read = len(read)
        self._fine = FineLogits(self._network, read)
        self._steps = [
            [(node, read.index(token)) for node, token in steps] for steps in self.trie.steps
        ]

    @property
    def label_tokens(self) -> int:
        """Tokens of labels that are computed after each prompt in one pass."""
        return len(self.trie.tokens) if self._shares else max(self.trie.depths, default=0)

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        """Return `score` by row; a row whose likelihoods are not finite is its error."""
        return [_or_error(row) for row in self.score(prompts)]

    def score_fixed_shape(self, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        """Score with a batch shape that depends on the row's length alone: bitwise batch-invariant.

        The rounding of a sum in floating point depends on the shape of the product that it is part
        of. Calling the scorer is faster, and equal but for rounding.

        Args:
            prompts: rows of one template.

        Returns:
            As calling does.
        """
        lengths = [len(prompt.ids) - self.prefix.length for prompt in prompts]
        widths = [-(-length // _WIDTH_STEP) * _WIDTH_STEP for length in lengths]
        answers: dict[int, list[float] | Exception] = {}
        for width in set(widths):
            rows = max(1, _FIXED_TOKENS // (width + len(self.trie.tokens)))
            alike = [n for n, other in enumerate(widths) if other == width]
            for start in range(0, len(alike), rows):
                batch = alike[start : start + rows]
                filled = batch + batch[-1:] * (rows - len(batch))
                scores = self.score([prompts[n] for n in filled], width=width)
                answers.update(zip(batch, map(_or_error, scores[: len(batch)]), strict=True))
        return [answers[n] for n in range(len(prompts))]

    def score(self, prompts: Sequence[Prompt], *, width: int = 0) -> NDArray[np.float64]:
        """Return log-likelihoods, shape (prompts, labels), natural logarithm, in float64.

        Args:
            prompts: rows of one template.
            width: tokens a row is padded to at least, after the prefix and without the labels.
        """
        logp = self._at_nodes(prompts, width)
        return np.stack(
            [sum(logp[:, node + 1, token] for node, token in steps) for steps in self._steps],
            axis=1,
        )

    def score_tokens(self, prompt: Prompt) -> list[NDArray[np.float64]]:
        """Return the log-likelihood of each token of each label: one array (tokens,) per label.

        Args:
            prompt: one row.
        """
        [logp] = self._at_nodes([prompt], 0)
        return [np.array([logp[node + 1, token] for node, token in steps]) for steps in self._steps]

    def _at_nodes(self, prompts: Sequence[Prompt], width: int) -> NDArray[np.float64]:
        """Return log-likelihoods after the prompt and each node: (rows, 1 + nodes, tokens)."""
        return (self._in_parts if self._shares else self._one_by_one)(prompts, width)

    def _in_parts(self, prompts: Sequence[Prompt], width: int) -> NDArray[np.float64]:
        """Run `_as_tree` in several passes where logits at all positions would be too many."""
        most, positions = positions_at_once(self.model), 1 + len(self.trie.tokens)
        if positions <= most:
            return self._as_tree(prompts, width)
        found = []
        for start in range(0, positions, most):
            part = slice(start, start + most)
            with head_input(self._network, partial(_at, part)):
                found.append(self._as_tree(prompts, width))
        return np.concatenate(found, axis=1)

    def _as_tree(self, prompts: Sequence[Prompt], width: int) -> NDArray[np.float64]:
        """Return log-likelihoods after the prompt and each node: (rows, 1 + nodes, tokens)."""
        ids, positions, seen = self._lay_out(prompts, width)
        context = context_behind(self.model, self.prefix, positions, seen)
        with torch.inference_mode(), self._fine as fine:
            logits = self._network(
                input_ids=ids,
                position_ids=positions,
                logits_to_keep=len(self.trie.tokens) + 1,
                **context,
            ).logits.float()
        return _likelihoods(logits, fine)

    def _one_by_one(self, prompts: Sequence[Prompt], width: int) -> NDArray[np.float64]:
        """Return the same as `_as_tree`, in one pass per branch, without a cache or a mask.

        A row is padded on the right, where a causal network does not look.
        """
        trie = self.trie
        lengths = [len(prompt.ids) for prompt in prompts]
        result = np.zeros((len(prompts), 1 + len(trie.tokens), self._read))
        for leaf in sorted(set(range(len(trie.tokens))) - set(trie.parents)) or [-1]:
            branch = trie.ancestors(leaf)[::-1]
            ids = np.zeros((len(prompts), max(width, *lengths) + len(branch)), dtype=np.int64)
            for row, prompt in enumerate(prompts):
                ids[row, : lengths[row] + len(branch)] = (
                    *prompt.ids,
                    *(trie.tokens[node] for node in branch),
                )
            places = np.array(lengths)[:, None] - 1 + np.arange(1 + len(branch))
            with self._fine as fine:
                logits = logits_at(self.model, ids, places)
            result[:, [node + 1 for node in (-1, *branch)]] = _likelihoods(logits, fine)
        return result

    def _lay_out(
        self, prompts: Sequence[Prompt], width: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, positions, both (rows, tokens), and who sees whom, (rows, tokens, tokens).

        They are of the tokens after the prefix, the trie's last, on the model's device.
        """
        trie, past, device = self.trie, self.prefix.length, self.model.device
        suffixes = [prompt.ids[past:] for prompt in prompts]
        longest = max(width, *map(len, suffixes))
        # Left padding: the last token of each row is then at the same place, so that only
        # that position and the trie's have to go through the output matrix.
        host = np.zeros((len(prompts), longest + len(trie.tokens)), dtype=np.int64)
        for row, suffix in enumerate(suffixes):
            host[row, longest - len(suffix) : longest] = suffix
        host[:, longest:] = trie.tokens
        ids = torch.from_numpy(host).to(device)
        padding = torch.tensor([[longest - len(suffix)] for suffix in suffixes], device=device)
        places = torch.arange(host.shape[1], device=device)
        is_text = places >= padding
        after = past - padding
        positions = torch.where(is_text, places + after, 0)
        positions[:, longest:] = longest - 1 + after + self._depths
        tree = torch.ones(len(places), len(places), dtype=torch.bool, device=device).tril_()
        tree[longest:, longest:] = self._visible
        # A padding query that sees nothing would be NaN in sdpa, so each token sees itself.
        itself = torch.eye(len(places), dtype=torch.bool, device=device)
        return ids, positions, (tree & is_text[:, None]) | itself


def _at(positions: slice, states: torch.Tensor) -> torch.Tensor:
    return states[:, positions]


def prefix_for_scoring(
    model: Model, ids: tuple[int, ...]
) -> tuple[SharedPrefixAttention | SharedPrefix, Any]:
    """Return the prefix of all prompts, held in the fastest way, and the network that reads rows.

    Args:
        model: a causal model.
        ids: the tokens of the prefix, which is empty where the network shares none.

    Raises:
        UnsupportedModelError: the likelihoods of the network depend on later tokens.
    """
    if not shares_prefix(model.network):
        refuse_unless_scored(model)
        return SharedPrefix(model, ()), model.network
    attention = SharedPrefixAttention.of(model, ids)
    if attention is not None:
        return attention, attention.network
    return SharedPrefix(model, ids), model.network


def context_behind(
    model: Model,
    prefix: SharedPrefixAttention | SharedPrefix,
    positions: torch.Tensor,
    seen: torch.Tensor,
) -> dict[str, Any]:
    """Return the arguments by which a pass reads rows behind the prefix: masks, and a cache if any.

    Args:
        model: a causal model that shares prefixes.
        prefix: of all rows.
        positions: of the rows' own tokens, (rows, tokens).
        seen: which of them sees which, (rows, tokens, tokens).
    """
    if isinstance(prefix, SharedPrefixAttention):
        return {"attention_mask": _added_mask(model, seen), "use_cache": False}
    rows, past = len(positions), prefix.length
    before = torch.arange(past, device=positions.device).expand(rows, -1)
    keys = torch.cat([before, positions], dim=1)
    return {
        "attention_mask": _masks(
            model,
            functional.pad(seen, (past, 0), value=True),
            positions[:, :, None],
            keys[:, None, :],
        ),
        "past_key_values": prefix.expand(rows),
        "use_cache": past > 0,
    }


def _masks(
    model: Model, seen: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Return what is added to the attention scores; a mapping where the model has kinds of layers.

    A mask that is handed over ready is applied as it is, so a layer with a sliding window has
    to find the window in it. The choice is that of transformers' `create_masks_for_generate`.
    `seen` says which token sees which, (rows, tokens, keys); `queries` and `keys` are positions
    that broadcast to that shape.
    """
    config: Any = model.network.config.get_text_config()
    window: Any = getattr(config, "sliding_window", None)
    chunk: Any = getattr(config, "attention_chunk_size", None)

    def mask(kind: str) -> torch.Tensor:
        if kind == "sliding_attention":
            return _added_mask(model, seen & (queries - keys < window))
        if kind == "chunked_attention":
            return _added_mask(model, seen & (queries // chunk == keys // chunk))
        return _added_mask(model, seen)

    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return {kind: mask(kind) for kind in sorted(set(kinds))}
    return mask("full_attention" if window is None else "sliding_attention")


def _added_mask(model: Model, seen: torch.Tensor) -> torch.Tensor:
    """Return a mask (rows, 1, tokens, keys) in the model's dtype: 0 where a key is seen."""
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(model.dtype).min)[:, None]


def _likelihoods(logits: torch.Tensor, fine: FineLogits) -> NDArray[np.float64]:
    """Log-probabilities of the tokens that are read: (rows, places, tokens)."""
    with torch.inference_mode():
        whole, read = fine.split(logits)
        # A row at a time: how the sum over all rows is split depends on how many they are.
        total = torch.stack([row.logsumexp(-1, keepdim=True) for row in whole])
        found: NDArray[np.float64] = (read - total).cpu().double().numpy()
    return found


def _or_error(scores: NDArray[np.float64]) -> list[float] | Exception:
    if np.isfinite(scores).all():
        return [float(score) for score in scores]
    return ModelError("the model's output is not a finite number")


def calibration_offset(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the model's prior for each label: the log of its mean probability over some texts.

    Batch calibration (Zhou et al. 2024, https://arxiv.org/abs/2309.17249), but on a fixed set
    of texts, so that a row's answer never depends on its neighbours.

    Args:
        scores: log-likelihoods of unlabelled texts, shape (texts, labels).

    Returns:
        Shape (labels,), to be subtracted from log-likelihoods.

    Example:
        >>> calibration_offset(np.log([[0.6, 0.2], [0.3, 0.1]])).round(3).tolist()
        [-0.288, -1.386]
    """
    normalised = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    offset: NDArray[np.float64] = np.log(np.exp(normalised).mean(axis=0))
    return offset


def probabilities(scores: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return calibrated probabilities that sum to 1 per row: softmax of `scores - offset`.

    Args:
        scores: log-likelihoods, shape (rows, labels).
        offset: as `calibration_offset` returns it, shape (labels,).

    Example:
        >>> probabilities(np.log([[0.6, 0.2]]), np.log([0.75, 0.25])).round(3).tolist()
        [[0.5, 0.5]]
    """
    shifted = scores - offset
    result: NDArray[np.float64] = np.exp(
        shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True)
    )
    return result
