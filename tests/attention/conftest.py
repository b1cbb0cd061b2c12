"""Recordings made by hand, whose weights are known, and eager weights to compare others with."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.recording import Recording, RecordingKind, TokenRow
from nbllm.engine.prompt import FieldSpan


def token_row(ids: Sequence[int], marks: tuple[FieldSpan, ...] = ()) -> TokenRow:
    count = len(ids)
    return TokenRow(
        text="x" * count,
        ids=tuple(ids),
        tokens=("x",) * count,
        spans=tuple((place, place + 1) for place in range(count)),
        special=(False,) * count,
        field_spans=marks,
    )


@pytest.fixture
def recording_of() -> Callable[..., Recording]:
    """Makes a recording whose heads have given weights, (layers, heads, rows, columns).

    q · k = log p: queries hold the logarithms, keys the unit vectors.
    """

    def make(
        weights: np.ndarray,
        *,
        kind: RecordingKind = "encoder",
        marks: tuple[FieldSpan, ...] = (),
        ids: Sequence[int] | None = None,
    ) -> Recording:
        rows, columns = weights.shape[-2:]
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(weights), -1e4)
        layers = tuple(
            Layer(
                query=torch.tensor(layer, dtype=torch.float32),
                key=torch.eye(columns).expand(len(layer), columns, columns),
                scale=1.0,
                mask=None,
                bias=None,
                causal=False,
                window=None,
                softcap=None,
                sinks=None,
            )
            for layer in logs
        )
        keys = token_row(range(columns) if ids is None else ids, marks)
        return Recording(
            model="made by hand",
            kind=kind,
            queries=token_row(range(rows)) if kind == "cross" else keys,
            keys=keys,
            layer_numbers=tuple(range(len(layers))),
            layers=layers,
            reconstruction_errors=(0.0,) * len(layers),
        )

    return make


@pytest.fixture
def random_recording() -> Callable[..., Recording]:
    """Makes a recording of random queries and keys, as sharp as those of a model."""

    def make(
        rows: int,
        columns: int | None = None,
        *,
        layers: int = 2,
        heads: int = 4,
        key_heads: int = 2,
        head_dim: int = 8,
        causal: bool = False,
        window: int | None = None,
        sinks: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Recording:
        rng = torch.Generator().manual_seed(0)
        columns = rows if columns is None else columns

        def random(*shape: int) -> torch.Tensor:
            return (2 * torch.randn(*shape, generator=rng)).to(dtype)

        made = tuple(
            Layer(
                query=random(heads, rows, head_dim),
                key=random(key_heads, columns, head_dim),
                scale=head_dim**-0.5,
                mask=None,
                bias=None,
                causal=causal,
                window=window,
                softcap=None,
                sinks=random(heads) if sinks else None,
            )
            for _ in range(layers)
        )
        keys = token_row(range(columns))
        cross = rows != columns
        return Recording(
            model="random",
            kind="causal" if causal else "cross" if cross else "encoder",
            queries=token_row(range(rows)) if cross else keys,
            keys=keys,
            layer_numbers=tuple(range(layers)),
            layers=made,
            reconstruction_errors=(0.0,) * layers,
        )

    return make


@pytest.fixture
def eager_weights() -> Callable[..., list[np.ndarray]]:
    """What transformers' own eager code weighs: (heads, tokens, tokens) of each layer."""

    def weigh(network: torch.nn.Module, ids: Sequence[int]) -> list[np.ndarray]:
        network = copy.deepcopy(network)
        network.set_attn_implementation("eager")
        with torch.inference_mode():
            said = network(torch.tensor([ids]), output_attentions=True)
        return [layer[0].float().numpy() for layer in said.attentions]

    return weigh
