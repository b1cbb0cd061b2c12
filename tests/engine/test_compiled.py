"""Steps over a cache of fixed size against plain generation, compiled by torch's own front end.

What torch makes of a graph on a GPU is its own; here the graph is captured and run as it is, so
that shapes, masks, places in the cache and what is filled up are the same as there.
"""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import CompileConfig

from nbllm.engine import compiled, decoding
from nbllm.engine.compiled import CompiledSteps
from nbllm.engine.cpu.ragged_attention import RaggedNetwork
from nbllm.engine.generation import TextGenerator
from nbllm.models.model import Model
from tests.conftest import tiny_model
from tests.engine.test_generation import plain_text, prompts_of

SCHEMA = {
    "type": "object",
    "properties": {"dish": {"type": "string"}, "stars": {"type": "integer"}},
    "required": ["dish", "stars"],
}


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """As on a GPU where compiled steps are faster: tried after the first batch; calls compiled."""
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        def run(*tensors: torch.Tensor) -> Any:
            calls.append(1)
            return graph(*tensors)

        return run

    def config() -> CompileConfig:
        told = CompileConfig(backend=backend, mode="default")
        told._compile_all_devices = True
        return told

    monkeypatch.setattr(RaggedNetwork, "of", lambda *_: None)  # which is for processors
    monkeypatch.setattr(compiled, "compiling_devices", lambda: ("cpu",))
    monkeypatch.setattr(compiled, "compile_config", config)
    monkeypatch.setattr(decoding, "_PATIENCE", 0.0)
    seconds(monkeypatch, plain=2.0, compiled=1.0)
    yield calls
    torch._dynamo.reset()


def seconds(monkeypatch: pytest.MonkeyPatch, **taken: float) -> None:
    """What the two ways are measured to take."""
    tried = CompiledSteps._tried

    def as_told(steps: CompiledSteps, batch: Any, generate: Any) -> Any:
        way = "plain" if generate == steps._plain else "compiled"
        return tried(steps, batch, generate)[0], taken[way]

    monkeypatch.setattr(CompiledSteps, "_tried", as_told)


@pytest.mark.parametrize("shared", [True, False], ids=["with prefix", "without prefix"])
def test_a_batch_writes_what_each_row_alone_would(
    tiny_llama: Model, on_gpu: list[int], shared: bool
) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    expected = [plain_text(tiny_llama, p.ids, 12) for p in prompts]
    generator = TextGenerator(tiny_llama, prefix if shared else (), max_new_tokens=12)
    assert generator(prompts) == expected
    assert not on_gpu
    for _ in range(2):
        assert generator(prompts) == expected
    assert on_gpu
    # Fewer rows are filled up, more are cut, and what is much smaller is not worth filling up.
    assert generator(prompts[1:]) == expected[1:]
    assert generator([*prompts, *prompts[::-1]]) == [*expected, *expected[::-1]]


def test_json_is_held_to_its_schema(tiny_llama: Model, on_gpu: list[int]) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    generator = TextGenerator(tiny_llama, prefix, max_new_tokens=40, schema=SCHEMA)
    expected = generator(prompts)
    assert not on_gpu
    assert generator(prompts) == expected
    assert generator(prompts[:2]) == expected[:2]
    assert on_gpu


def test_rows_that_are_finished_stay_as_they_are(tiny_llama: Model, on_gpu: list[int]) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    whole = [plain_text(tiny_llama, p.ids, 12) for p in prompts]
    stop = whole[0][3:5]
    generator = TextGenerator(tiny_llama, prefix, max_new_tokens=12, stop=stop)
    expected = generator(prompts)
    assert expected == [text.split(stop)[0].strip() for text in whole]
    assert generator(prompts) == expected
    assert on_gpu


@pytest.mark.parametrize("window", [8, 64])
def test_a_sliding_window(on_gpu: list[int], window: int) -> None:
    model = tiny_model("causal")
    config: Any = model.network.config
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {
        name: getattr(config, name)
        for name in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
        )
    }  # fmt: skip
    torch.manual_seed(0)
    model.network = MistralForCausalLM(MistralConfig(**sizes, sliding_window=window)).eval()
    prefix, prompts = prompts_of(model)
    expected = [plain_text(model, p.ids, 24) for p in prompts]
    generator = TextGenerator(model, prefix, max_new_tokens=24)
    for _ in range(3):
        assert generator(prompts) == expected
    assert on_gpu


def test_what_is_slower_is_not_taken(
    tiny_llama: Model,
    on_gpu: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds(monkeypatch, plain=1.0, compiled=1.0)
    prefix, prompts = prompts_of(tiny_llama)
    generator = TextGenerator(tiny_llama, prefix, max_new_tokens=12)
    first = generator(prompts)
    assert generator(prompts) == first
    tried = len(on_gpu)
    assert generator(prompts) == first
    assert len(on_gpu) == tried
    assert "no faster here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda *_: (_ for _ in ()).throw(RuntimeError("no compiler\nat all")), "no compiler"),
        (lambda graph, _: lambda *tensors: [-out for out in graph(*tensors)], "other numbers"),
    ],
    ids=["fails", "wrong"],
)
def test_what_fails_or_is_wrong_is_not_taken(
    tiny_llama: Model,
    on_gpu: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: Any,
    said: str,
) -> None:
    def config() -> CompileConfig:
        told = CompileConfig(backend=broken, mode="default")
        told._compile_all_devices = True
        return told

    monkeypatch.setattr(compiled, "compile_config", config)
    prefix, prompts = prompts_of(tiny_llama)
    generator = TextGenerator(tiny_llama, prefix, max_new_tokens=12)
    expected = [plain_text(tiny_llama, p.ids, 12) for p in prompts]
    for _ in range(3):
        assert generator(prompts) == expected
    assert said in capsys.readouterr().out


def test_run_after_run_is_compiled(tiny_llama: Model, on_gpu: list[int]) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    for _ in range(torch._dynamo.config.recompile_limit + 1):
        generator = TextGenerator(tiny_llama, prefix, max_new_tokens=6)
        generator(prompts)
        before = len(on_gpu)
        generator(prompts)
        assert len(on_gpu) > before


def test_a_processor_is_not_tried(tiny_llama: Model) -> None:
    assert not CompiledSteps.suit(tiny_llama)


def test_memory_is_given_back_with_the_run(on_gpu: list[int]) -> None:
    model = tiny_model("causal")
    prefix, prompts = prompts_of(model)
    generator = TextGenerator(model, prefix, max_new_tokens=12)
    for _ in range(3):
        generator(prompts)
    assert on_gpu
    kept = weakref.ref(generator._decoder._compiled._cache.layers[0].keys)
    network = weakref.ref(model.network)
    del generator
    gc.collect()
    assert kept() is None
    del model
    gc.collect()
    assert network() is None
