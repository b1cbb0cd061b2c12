"""What a recording holds, and the weights that are computed from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from nbllm._deprecation import warn_renamed
from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.masks import LEAST_REMAINDER, mask_key
from nbllm.attention.recording.storage import Storage
from nbllm.attention.recording.threads import one_thread
from nbllm.engine.prompt import FieldSpan
from nbllm.errors import SelectionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EncoderDecoderRecording", "Recording", "RecordingKind", "TokenRow"]

RecordingKind = Literal["causal", "encoder", "decoder", "cross"]
Positions = slice | Sequence[int] | None


@dataclass(frozen=True, eq=False)
class TokenRow:
    """The tokens along one side of an attention matrix."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]  # each as readable text
    spans: tuple[tuple[int, int], ...]  # character range in `text` of each token
    special: tuple[bool, ...]  # added by the tokenizer or the chat template
    field_spans: tuple[FieldSpan, ...] = ()  # where the user's own texts lie, if the prompt says

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
    # Of each layer, the relative error of weights · value on a sample of rows.
    reconstruction_errors: tuple[float, ...] = field(repr=False)
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
        """The text of the rows."""
        return self.queries.text

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids of the rows."""
        return self.queries.ids

    @property
    def tokens(self) -> tuple[str, ...]:
        """The readable text of each token of the rows."""
        return self.queries.tokens

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The character range of each token of the rows in `text`."""
        return self.queries.spans

    @property
    def special(self) -> tuple[bool, ...]:
        """Of each token of the rows, whether the tokenizer or chat template added it."""
        return self.queries.special

    @property
    def field_spans(self) -> tuple[FieldSpan, ...]:
        """Where the user's own texts lie in the rows, if the prompt says."""
        return self.queries.field_spans

    @property
    def heads(self) -> int:
        """The number of query heads of a layer."""
        return self.layers[0].heads

    def __len__(self) -> int:
        """The number of rows: tokens of the text whose queries were recorded."""
        return len(self.queries)

    def layer(self, number: int) -> Layer:
        """Return what was recorded of a layer.

        Args:
            number: The number of the layer in the model, from 0.

        Raises:
            SelectionError: It was not recorded.
        """
        self.check(number, 0)
        return self.layers[self.layer_numbers.index(number)]

    @one_thread()
    def weights(
        self,
        layer: int,
        head: int,
        rows: Positions = None,
        columns: Positions = None,
        *,
        masked: int | None = None,
    ) -> NDArray[np.float32]:
        """Return attention weights of one head: the share that each query gives to each key.

        A part equals that part of the whole to rounding: a row of the whole sums to 1 (to less
        with a model that has attention sinks of its own).

        Args:
            layer: The number of the layer in the model, from 0.
            head: The query head, from 0.
            rows: Queries, as a slice or token positions; all by default.
            columns: Keys, as a slice or token positions; all by default.
            masked: A key to mask out, such as the attention sink. The rest of each row is
                normalized again to sum to 1.

        Returns:
            float32, (rows, columns).

        Raises:
            SelectionError: The layer, head or token is not in the recording.

        Example:
            >>> recording.weights(layer=3, head=1, rows=[len(recording) - 1])  # doctest: +SKIP
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
        """Return the logarithms of weights of one head, of which all views are made.

        Args:
            layer: The number of the layer in the model, from 0.
            head: The query head, from 0.
            rows: Positions of queries.
            keys: Positions of keys.
            masked: A key to mask out; None for none.

        Returns:
            float32, (rows, keys), on the device of the layer.
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
        """Return the logarithm of what the softmax of each row of a head divides by.

        It is computed at the first call, and kept.

        Args:
            layer: The number of the layer in the model, from 0.
            head: The query head, from 0.
            masked: A key to leave out; None for none.

        Returns:
            float32, (rows,), on the device of the layer; infinite where nothing but rounding is
            left of a row.

        Raises:
            SelectionError: The layer, head or key is not in the recording.

        Example:
            >>> recording.log_sum_exp(layer=3, head=1)  # doctest: +SKIP
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
        """Keep the log-sum-exp of a head, (rows,), that was computed with its picture."""
        self._sums[layer, head, None] = sums

    def reconstruction_error(self) -> float:
        """Return the largest relative error of weights · value against the kernel's own output.

        It is measured during the pass, on a sample of rows of every head and layer: about 1e-6
        in fp32, 4e-3 in bf16.
        """
        return max(self.reconstruction_errors)

    def closure(self) -> float:
        """Return `reconstruction_error()`, which this is another name of."""
        return self.reconstruction_error()

    @property
    def gaps(self) -> tuple[float, ...]:
        """The old name of `reconstruction_errors`, for one release."""
        warn_renamed("Recording.gaps", "Recording.reconstruction_errors")
        return self.reconstruction_errors

    def check(self, layer: int, head: int, token: int | None = None) -> None:
        """Check that a layer, a head and a query token are in the recording.

        Args:
            layer: The number of the layer in the model, from 0.
            head: The query head, from 0.
            token: The position of a query token; None for none.

        Raises:
            SelectionError: One of them is not.
        """
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

    def _places(self, selection: Positions, row: TokenRow) -> Sequence[int]:
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
