"""What is read off a model that is partly on disk, against the same of the whole model."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbllm
from nbllm.attention import logit_lens
from nbllm.attention.analysis.ablation import head_importance
from nbllm.attention.analysis.attribution import attribute
from nbllm.attention.analysis.logit_parts import direct_logit_attribution
from nbllm.attention.recording.capture import record, record_batch
from nbllm.models.kind import Kind
from nbllm.models.model import Model
from tests.conftest import tiny_network

TEXT = "The soup was warm and the staff were kind."
MAPS: dict[str, Any] = {
    "the output matrix": {"model": "cpu", "lm_head": "disk"},
    "all but the output matrix": {"model": "disk", "lm_head": "cpu"},
    "everything": {"": "disk"},
    "the last layer and the norm": {
        "model.embed_tokens": "cpu",
        "model.rotary_emb": "cpu",
        "model.layers.0": "cpu",
        "model.layers.1": "disk",
        "model.norm": "disk",
        "lm_head": "cpu",
    },
    "the embeddings and the first layer": {
        "model.embed_tokens": "disk",
        "model.rotary_emb": "cpu",
        "model.layers.0": "disk",
        "model.layers.1": "cpu",
        "model.norm": "cpu",
        "lm_head": "cpu",
    },
}
READ: dict[str, Callable[[Model], Any]] = {
    "recording": lambda model: record(model, TEXT).weights(1, 2),
    "batch": lambda model: record_batch(model, ["Short.", TEXT])[0].weights(1, 2),
    "generation": lambda model: record(model, TEXT, generate=4).weights(1, 2),
    "lens": lambda model: logit_lens(model, TEXT).log_probabilities([7, 9]),
    "ablation": lambda model: head_importance(model, TEXT, target=7)["importance"],
    "ablation in parts": lambda model: head_importance(model, TEXT * 15)["importance"],
    "logit parts": lambda model: direct_logit_attribution(model, TEXT, 7, 9)["contribution"],
    "attribution": lambda model: attribute(model, TEXT, target=7, method="input_x_gradient").scores,
}


OF_OTHERS: dict[Kind, dict[str, Callable[[Model], Any]]] = {
    "encoder": {name: READ[name] for name in ("recording", "batch")},
    "classifier": {
        "recording": READ["recording"],
        "ablation": lambda model: head_importance(model, TEXT)["importance"],
        "attribution": lambda model: attribute(model, TEXT, method="input_x_gradient").scores,
    },
    "seq2seq": {
        "pair": lambda model: record(model, TEXT, target="Cold.").cross.weights(1, 2),
        "written": lambda model: record(model, TEXT, generate=4).decoder.weights(1, 2),
    },
}
Folders = Callable[[Kind], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Where a model of two layers lies; a causal one has an output matrix of its own."""

    @cache
    def of(kind: Kind) -> Path:
        network, tokenizer = tiny_network(kind)
        folder = tmp_path_factory.mktemp(kind)
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return of


@cache
def of_the_whole(folder: Path, kind: Kind, dtype: str) -> dict[str, Any]:
    reads = READ if kind == "causal" else OF_OTHERS[kind]
    with nbllm.load(folder, device="cpu", dtype=dtype, quantize="none") as model:
        return {name: read(model) for name, read in reads.items()}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MAPS)
def test_what_is_offloaded_is_read_as_if_it_were_there(
    folders: Folders, name: str, dtype: str
) -> None:
    check(folders, "causal", dtype, MAPS[name])


@pytest.mark.parametrize("kind", OF_OTHERS)
def test_other_kinds_are_read_alike(folders: Folders, kind: Kind) -> None:
    check(folders, kind, "fp32", {"": "disk"})


def check(folders: Folders, kind: Kind, dtype: str, device_map: dict[str, str]) -> None:
    folder = folders(kind)
    expected = of_the_whole(folder, kind, dtype)
    with nbllm.load(
        folder, device="cpu", dtype=dtype, quantize="none", device_map=device_map
    ) as model:
        assert any(weight.is_meta for weight in model.network.parameters())
        trained = {n for n, weight in model.network.named_parameters() if weight.requires_grad}
        # Twice: what a pass puts away, the next has to find.
        for round in range(2):
            for what, read in (READ if kind == "causal" else OF_OTHERS[kind]).items():
                np.testing.assert_allclose(
                    read(model), expected[what], rtol=1e-4, atol=1e-5, err_msg=f"{what}, {round}"
                )
        after = {n for n, weight in model.network.named_parameters() if weight.requires_grad}
        assert trained <= after
