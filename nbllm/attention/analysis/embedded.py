"""A model's answer as a function of the embeddings of the tokens that vary."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

from nbllm.attention.recording.hooks import hooked
from nbllm.engine.logits import head_input, last_position
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.sharing import shares_prefix
from nbllm.models.model import Model

if TYPE_CHECKING:
    from nbllm.engine.prompt import Prompt

__all__ = ["EmbeddedAnswer"]


class EmbeddedAnswer:
    """Logits of a model after a text some of whose tokens are given as embeddings.

    The tokens of a causal model before the first that varies are the same at every call:
    their keys and values are computed once.

    Args:
        model: A causal model or a classifier.
        prompt: The text.
        varied: Of each token, whether its embedding may be another than its own.
    """

    def __init__(self, model: Model, prompt: Prompt, varied: Sequence[bool]) -> None:
        self.model = model
        shares = model.kind == "causal" and shares_prefix(model.network)
        self.start: int = varied.index(True) if shares else 0
        self._ids = torch.tensor([prompt.ids[self.start :]], device=model.device)
        before = torch.tensor([prompt.ids[: self.start]], dtype=torch.long, device=model.device)
        with self._embedding(self.embeddings(before)):
            self._prefix = SharedPrefix(model, prompt.ids[: self.start])

    @property
    def present(self) -> torch.Tensor:
        """The text's own embeddings from `start` on, (1, tokens, width)."""
        return self.embeddings(self._ids)

    def embeddings(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of tokens, (rows, tokens, width), in float32 or better."""
        with torch.no_grad():
            found: torch.Tensor = self.model.network.get_input_embeddings()(ids)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def logits(self, embedded: torch.Tensor) -> torch.Tensor:
        """Return the logits of the answers, (rows, answers), for other embeddings.

        The tokens themselves are given too: some networks need them for more than embeddings.

        Args:
            embedded: The embeddings from `start` on, (rows, tokens, width).
        """
        network, rows = self.model.network, len(embedded)
        ids = self._ids.expand(rows, -1)
        if self.model.kind == "classifier":
            with self._embedding(embedded):
                classes: torch.Tensor = network(input_ids=ids).logits
            return classes
        cache = self._prefix.expand(rows)
        with self._embedding(embedded), head_input(network, last_position):
            tokens: torch.Tensor = network(
                input_ids=ids, past_key_values=cache, use_cache=cache is not None
            ).logits
        return tokens[:, -1]

    def _embedding(self, embedded: torch.Tensor) -> AbstractContextManager[None]:
        table = self.model.network.get_input_embeddings()
        return hooked(after=[(table, lambda _module, _inputs, _output: embedded)])
