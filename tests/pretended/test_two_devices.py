"""All that nbllm does with a model that is spread over two GPUs, against the processor's."""

import pytest
import torch

from nbllm.attention.recording.capture import record
from nbllm.attention.recording.residual import layers_of
from nbllm.models.model import Model
from tests.attention.architectures import ARCHITECTURES, tiny
from tests.pretended.device import pretended, spread
from tests.pretended.jobs import (
    CAUSAL,
    OTHERS,
    TEXT,
    assert_same,
    made,
    on_the_processor,
    pictures,
)

BODY = {
    "model.embed_tokens": 0,
    "model.rotary_emb": 0,
    "model.layers.0": 0,
    "model.layers.1": 1,
    "model.norm": 1,
}
OF_THE_HEAD = [
    "scores",
    "texts",
    "texts that end",
    "texts of a schema",
    "perplexity",
    "lens",
    "ablation",
    "logit parts",
    "attribution",
]
PARTS = {
    "encoder": {"embeddings": 0, "encoder.layer.0": 0, "encoder.layer.1": 1, "pooler": 1},
    "classifier": {
        "bert.embeddings": 0,
        "bert.encoder.layer.0": 0,
        "bert.encoder.layer.1": 1,
        "bert.pooler": 1,
        "classifier": 1,
    },
    "seq2seq": {
        "model.shared": 0,
        "model.encoder": 0,
        # Tied, as the output matrix is.
        "model.decoder.embed_tokens": 0,
        "model.decoder.embed_positions": 1,
        "model.decoder.layernorm_embedding": 1,
        "model.decoder.layers": 1,
        "lm_head": 0,
        "final_logits_bias": 0,
    },
    "extractive_qa": {
        "bert.embeddings": 0,
        "bert.encoder.layer.0": 0,
        "bert.encoder.layer.1": 1,
        "qa_outputs": 1,
    },
}


@pytest.mark.parametrize("job", CAUSAL)
def test_two_gpus_answer_as_the_processor(job: str) -> None:
    check(job, {"lm_head": 1})


@pytest.mark.parametrize("job", OF_THE_HEAD)
def test_the_output_matrix_may_lie_where_the_embeddings_do(job: str) -> None:
    check(job, {"lm_head": 0})


def check(job: str, head: dict[str, int]) -> None:
    model = made(job)
    with pretended():
        spread(model.network, BODY | head)
        assert devices(model) == ["cuda:0", "cuda:1"]
        assert model.device == torch.device("cuda", 0)
        found = CAUSAL[job](model)
    assert_same(found, on_the_processor(job))


@pytest.mark.parametrize("job", OTHERS)
def test_other_kinds_answer_as_on_the_processor(job: str) -> None:
    model = made(job)
    with pretended():
        spread(model.network, PARTS[job.partition(":")[0]])
        assert devices(model) == ["cuda:0", "cuda:1"]
        found = OTHERS[job](model)
    assert_same(found, on_the_processor(job))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_recordings_of_architectures_are_painted_alike(name: str) -> None:
    expected = pictures(record(tiny(name), TEXT))
    model = tiny(name)
    with pretended():
        spread(model.network, second_layer_apart(model.network))
        recording = record(model, TEXT)
        assert str(recording.layers[1].key.device) == "cuda:1"
        found = pictures(recording)
    assert_same(found, expected)


def second_layer_apart(network: torch.nn.Module) -> dict[str, int]:
    """Of two layers the second on a GPU of its own, and all else on the first."""
    layers = layers_of(network, 2)
    devices: dict[str, int] = {}
    for name, module in network.named_modules():
        if module in layers:
            devices[name] = layers.index(module)
        elif not any(name.startswith(f"{part}.") for part in devices):
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            devices |= {name: 0} if own else {}
    return devices


def test_a_recording_stays_where_it_was_made(tiny_llama: Model) -> None:
    with pretended() as waits:
        spread(tiny_llama.network, BODY | {"lm_head": 1})
        recording = record(tiny_llama, TEXT)
        waits.clear()
        assert [str(layer.key.device) for layer in recording.layers] == ["cuda:0", "cuda:1"]
        assert len(waits) == 0


def devices(model: Model) -> list[str]:
    return sorted({str(weight.device) for weight in model.network.parameters()})
