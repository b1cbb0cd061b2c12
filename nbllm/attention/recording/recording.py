"""What a recording holds, and the weights that are computed from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.masks import LEAST_REMAINDER, mask_key
from nbllm.attention.recording.storage import Storage
from nbllm.attention.recording.threads import one_thread
from nbllm.engine.prompt import Mark
from nbllm.errors import SelectionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EncoderDecoderRecording", "Recording", "RecordingKind", "TokenRow"]

RecordingKind = Literal["causal", "encoder", "decoder", "cross"]
Selection = slice | Sequence[int] | None


@dataclass(frozen=True, eq=False)
class TokenRow:
    """The tokens along one side of an attention matrix."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]  # each as readable text
    spans: tuple[tuple[int, int], ...]  # character range in `text` of each token
    special: tuple[bool, ...]  # added by the tokenizer or the chat template
    marks: tuple[Mark, ...] = ()  # where the user's own texts lie, if the prompt tells

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(eq=False)
class Recording:
    """The attention of one stack of layers over one text.

    Made by `record` and `record_batch`. It holds no reference to the model, which may be
    unloaded. Layers go by their numbers in the model, whether or not all were recorded.
    """

    model: str  # what the user called it
    kind: RecordingKind
    queries: TokenRow  # the rows: what looks
    keys: TokenRow  # the columns: what is looked at; of cross-attention another text
    layer_numbers: tuple[int, ...]  # of the layers recorded, from 0
    layers: tuple[Layer, ...] = field(repr=False)  # in that order
    gaps: tuple[float, ...] = field(repr=False)  # per layer, on a sample of rows
    # Tokens of what was given before the model wrote on: row prompt_length - 1 and those
    # after it are the steps that wrote the token that follows. None where nothing was written.
    prompt_length: int | None = None
    # Keeps the files of an offloaded recording until nothing reads them any more.
    storage: Storage | None = field(default=None, repr=False)
    # By layer, head and masked key.
    _sums: dict[tuple[int, int, int | None], torch.Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.kind in ("causal", "decoder")

    @property
    def text(self) -> str:
        return self.queries.text

    @property
    def ids(self) -> tuple[int, ...]:
        return self.queries.ids

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.queries.tokens

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        return self.queries.spans

    @property
    def special(self) -> tuple[bool, ...]:
        return self.queries.special

    @property
    def marks(self) -> tuple[Mark, ...]:
        return self.queries.marks

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.layers[0].heads

    def __len__(self) -> int:
        """Tokens of the text that looks: the rows."""
        return len(self.queries)

    def layer(self, number: int) -> Layer:
        """What was recorded of a layer; SelectionError if it was not."""
        self.check(number, 0)
        return self.layers[self.layer_numbers.index(number)]

    @one_thread()
    def weights(
        self,
        layer: int,
        head: int,
        rows: Selection = None,
        columns: Selection = None,
        *,
        masked: int | None = None,
    ) -> NDArray[np.float32]:
        """Attention weights of one head: how much each query took from each key.

        `rows` chooses queries and `columns` keys, as slices or as token positions; without
        them all are given. A part equals that part of the whole to rounding: a row of the whole
        sums to 1 (to less with a model that has attention sinks). `masked` is a key, such as the
        attention sink, that is taken out, and what is left of each row made whole again.

        Returns float32, (rows, columns). Raises SelectionError for a layer, head or token
        that is not in the recording.

            recording.weights(layer=3, head=1, rows=[-1 + len(recording)])
        """
        self.check(layer, head)
        queries, keys = self._places(rows, self.queries), self._places(columns, self.keys)
        logs = self.log_weights(layer, head, queries, keys, masked)
        weights: NDArray[np.float32] = logs.exp_().cpu().numpy()
        return weights

    def log_weights(
        self,
        layer: int,
        head: int,
        rows: Sequence[int],
        keys: Sequence[int],
        masked: int | None = None,
    ) -> torch.Tensor:
        """Logarithms of the weights of one head: what every picture, tile and table is made of.

        Returns float32, (rows, keys), on the device of the layer.
        """
        if self.knows(layer, head, masked) or 2 * len(rows) > len(self.queries):
            sums = taken(self.log_sum_exp(layer, head, masked), 0, rows)
        else:  # a tile of a head that has not been seen does not wait for its other rows
            sums = self._log_sum_exp(layer, head, rows, masked)
        logs = self.layer(layer).scores([head], rows, keys)[0].sub_(sums[:, None])
        mask_key(logs, masked, keys)
        return logs

    @one_thread()
    def log_sum_exp(self, layer: int, head: int, masked: int | None = None) -> torch.Tensor:
        """What the softmax of each row of a head divides by, as a logarithm.

        Computed when first asked for, and kept. Without the `masked` key; infinite where the rest
        of a row is nothing but rounding. Returns float32, (rows,), on the device of the layer.
        Raises SelectionError for a layer, head or key that is not in it.

            recording.log_sum_exp(layer=3, head=1)
        """
        self.check(layer, head)
        if not self.knows(layer, head, masked):
            every = range(len(self.queries))
            self._sums[layer, head, masked] = self._log_sum_exp(layer, head, every, masked)
        return self._sums[layer, head, masked]

    def _log_sum_exp(
        self, layer: int, head: int, rows: Sequence[int], masked: int | None
    ) -> torch.Tensor:
        chosen = self.layer(layer)
        if masked is None:
            return chosen.log_sum_exp([head], rows)[0]
        self._check_token(masked, self.keys)
        if self.knows(layer, head):
            whole = taken(self.log_sum_exp(layer, head), 0, rows)
        else:
            whole = chosen.log_sum_exp([head], rows)[0]
        # Not by subtraction: where the key takes nearly all, that would leave only rounding.
        rest = chosen.log_sum_exp([head], rows, masked)[0]
        return torch.where(rest - whole > math.log(LEAST_REMAINDER), rest, torch.inf)

    def knows(self, layer: int, head: int, masked: int | None = None) -> bool:
        """Whether the log-sum-exp of a head has been computed."""
        return (layer, head, masked) in self._sums

    def keep(self, layer: int, head: int, sums: torch.Tensor) -> None:
        """Take in the log-sum-exp of a head, (rows,), which its picture came by."""
        self._sums[layer, head, None] = sums

    def closure(self) -> float:
        """How far the recorded weights are from explaining what the kernel returned.

        The largest relative error of weights · v over all layers, taken on a sample of
        rows of every head while the pass ran: about 1e-6 in fp32, 4e-3 in bf16.
        """
        return max(self.gaps)

    def check(self, layer: int, head: int, token: int | None = None) -> None:
        """Raise SelectionError unless layer, head and query token are in the recording."""
        if layer not in self.layer_numbers:
            raise self._absent("layer", layer, self.layer_numbers)
        if not 0 <= head < self.heads:
            raise self._absent("head", head, range(self.heads))
        if token is not None:
            self._check_token(token, self.queries)

    def _check_token(self, token: int, row: TokenRow) -> None:
        if not 0 <= token < len(row):
            raise self._absent("token", token, range(len(row)))

    def _absent(self, name: str, value: int, there: Sequence[int]) -> SelectionError:
        first, last = there[0], there[-1]
        if len(there) == last - first + 1:
            named = f"{name}s {first} to {last}"
        else:
            named = f"{name}s {', '.join(map(str, there))}"
        return SelectionError(
            f"{name} {value} is not in this recording of {self.model}, which has {named}. "
            "Choose one of those."
        )

    def _places(self, selection: Selection, row: TokenRow) -> Sequence[int]:
        if selection is None:
            return range(len(row))
        if isinstance(selection, slice):
            return range(len(row))[selection]
        for position in selection:
            self._check_token(position, row)
        return list(selection)


@dataclass(frozen=True, eq=False)
class EncoderDecoderRecording:
    """The attention of a model that reads one text and writes another.

    Its two stacks may differ in their number of layers and of heads.
    """

    encoder: Recording  # the text that was read, to itself
    decoder: Recording  # the text that was written, to what stands before
    cross: Recording  # from the text that was written to the one that was read
