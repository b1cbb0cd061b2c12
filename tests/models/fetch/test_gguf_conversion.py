"""GGUF files: unpacked once, to the numbers that were packed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, T5EncoderModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nbllm.errors import TooLargeError, UnsupportedModelError
from nbllm.models.architecture import CLASSES
from nbllm.models.configuration import kind_of
from nbllm.models.fetch.gguf_conversion import convert
from nbllm.models.fetch.sources import fetch, fetch_configuration
from nbllm.models.loader import load
from nbllm.models.model import Model
from tests.models.gguf_files import CONFIGURATIONS, configuration, network, write_gguf

IDS = torch.tensor([[1, 70, 80, 90, 100, 5, 77]])


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    return network(configuration("llama"))


@pytest.fixture
def file(llama: PreTrainedModel, tmp_path: Path) -> Path:
    return write_gguf(llama, tmp_path / "tiny.gguf", "llama")


def logits(made: PreTrainedModel) -> torch.Tensor:
    also = {"decoder_input_ids": IDS} if made.config.is_encoder_decoder else {}
    with torch.inference_mode():
        found: torch.Tensor = made(IDS, **also).logits
    return found


def converted(file: Path, folder: Path) -> PreTrainedModel:
    """What `convert` wrote, read in fp32."""
    folder.mkdir()
    convert(file, folder, file.stem)
    kind = kind_of(AutoConfig.from_pretrained(folder), str(file))
    made: PreTrainedModel = CLASSES[kind].from_pretrained(folder, dtype=torch.float32)
    return made.eval()


def same_logits(file: Path, made: PreTrainedModel, folder: Path) -> PreTrainedModel:
    again = converted(file, folder)
    torch.testing.assert_close(logits(again), logits(made))
    return again


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_each_architecture_computes_what_was_written(architecture: str, tmp_path: Path) -> None:
    made = network(configuration(architecture))
    file = write_gguf(made, tmp_path / "tiny.gguf", architecture)
    same_logits(file, made, tmp_path / "converted")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "converted")
    assert tokenizer.decode(tokenizer("hello").input_ids, skip_special_tokens=True) == "hello"
    assert tokenizer.model_max_length == getattr(made.config, "max_position_embeddings", 512)


def test_a_t5_whose_output_is_a_matrix_of_its_own(tmp_path: Path) -> None:
    config = configuration("t5", feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    made = network(config)
    file = write_gguf(made, tmp_path / "flan.gguf", "t5")
    again = same_logits(file, made, tmp_path / "converted")
    assert not torch.equal(again.lm_head.weight, again.shared.weight)


@pytest.mark.parametrize(
    ("architecture", "scaling", "header"),
    [
        ("llama", {"rope_type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            "qwen2",
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
            {"type": "yarn", "factor": 4.0, "original_context_length": 128},
        ),
    ],
)
def test_stretched_positions_stay_so(
    architecture: str, scaling: dict[str, Any], header: dict[str, Any], tmp_path: Path
) -> None:
    rope = {**configuration(architecture).rope_parameters, **scaling}
    made = network(configuration(architecture, rope_parameters=rope))
    stated = {f"rope.scaling.{key}": value for key, value in header.items()}
    file = write_gguf(made, tmp_path / "long.gguf", architecture, stated)
    same_logits(file, made, tmp_path / "converted")


def test_those_of_gemma_3_are_stretched_in_full_attention_alone(tmp_path: Path) -> None:
    made = network(configuration("gemma3"))
    stated = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    folder = fetch_configuration(write_gguf(made, tmp_path / "a.gguf", "gemma3", stated)).folder
    rope = AutoConfig.from_pretrained(folder).rope_parameters
    assert rope["full_attention"]["rope_type"] == "linear"
    assert rope["full_attention"]["factor"] == 8.0
    assert rope["sliding_attention"]["rope_type"] == "default"


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_divisors_of_llama_3_become_its_parameters(factor: float, tmp_path: Path) -> None:
    rope = {
        "rope_theta": 500_000.0,
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = configuration("llama", rope_parameters=rope)
    made = network(config)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 500_000.0 ** (-np.arange(8) / 8)
    divisors = (plain / stretched.numpy()).astype(np.float32)
    file = write_gguf(made, tmp_path / "a.gguf", "llama", tensors={"rope_freqs.weight": divisors})
    same_logits(file, made, tmp_path / "converted")

    own = write_gguf(made, tmp_path / "b.gguf", "llama", tensors={"rope_freqs.weight": divisors**2})
    with pytest.raises(UnsupportedModelError, match="frequencies of its own"):
        fetch(own)


def test_the_factors_of_phi_3_are_kept(tmp_path: Path) -> None:
    short, long = np.linspace(1, 2, 8), np.linspace(2, 9, 8)
    rope = {
        "rope_theta": 10_000.0,
        "rope_type": "longrope",
        "short_factor": short.tolist(),
        "long_factor": long.tolist(),
        "original_max_position_embeddings": 128,
    }
    made = network(configuration("phi3", rope_parameters=rope))
    factors = {
        "rope_factors_short.weight": short.astype(np.float32),
        "rope_factors_long.weight": long.astype(np.float32),
    }
    stated = {"rope.scaling.original_context_length": 128}
    file = write_gguf(made, tmp_path / "long.gguf", "phi3", stated, factors)
    same_logits(file, made, tmp_path / "converted")


def test_a_scaling_that_transformers_does_not_have_is_refused(
    llama: PreTrainedModel, tmp_path: Path
) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", "llama", {"rope.scaling.type": "spiral"})
    with pytest.raises(UnsupportedModelError, match="of type 'spiral'"):
        fetch(file)


def test_a_gguf_file_is_a_model_like_any_other(
    file: Path, llama: PreTrainedModel, capfd: pytest.CaptureFixture[str]
) -> None:
    model = load(file, quantize="none", dtype="fp32")
    torch.testing.assert_close(logits(model.network), logits(llama))
    assert (model.kind, model.context_length, model.licence) == ("causal", 512, "mit")
    assert model.source == str(file)
    assert model.tokenizer.convert_ids_to_tokens(model.tokenizer("hello").input_ids) == [
        "hell",
        "o",
    ]
    assert model.tokenizer.model_max_length == 512
    out, err = capfd.readouterr()
    assert out == ""
    assert "Unpacking tiny to bf16, once" in err
    assert all("Unpacking tiny to bf16, once" in line for line in err.splitlines() if line)


def test_it_is_converted_once_and_again_when_it_changes(
    file: Path, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch(file).revision
    with monkeypatch.context() as patch:
        patch.setattr("nbllm.models.fetch.gguf_conversion.convert", None)
        moved = file.rename(file.with_name("moved.gguf"))
        again = fetch(moved)
    assert (again.revision, again.source) == (first, str(moved))

    with moved.open("ab") as end:
        end.write(b"\0")
    assert fetch(moved).revision != first


def test_the_configuration_comes_from_the_header_and_is_what_converting_writes(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nbllm.models.fetch.gguf_conversion.convert", None)
        before = fetch_configuration(file)
    assert [f.name for f in before.folder.glob("*.safetensors")] == []
    assert (before.licence, before.source) == ("mit", str(file))
    after = fetch(file)
    config = json.loads((after.folder / "config.json").read_text())
    assert json.loads((before.folder / "config.json").read_text()) == config
    assert fetch_configuration(file).folder == after.folder


def test_fp32_and_bf16_hold_the_same_weights(file: Path) -> None:
    wide = load(file, quantize="none", dtype="fp32").network.state_dict()
    narrow = load(file, quantize="none", dtype="bf16").network.state_dict()
    for name, tensor in narrow.items():
        assert torch.equal(wide[name], tensor.float()), name


@pytest.mark.parametrize("fetching", [fetch, fetch_configuration])
@pytest.mark.parametrize("left", [0.0, 0.001, 0.1])
def test_a_file_that_is_cut_off_says_so(
    file: Path, nbllm_home: Path, left: float, fetching: Any
) -> None:
    os.truncate(file, int(file.stat().st_size * left))
    with pytest.raises(UnsupportedModelError, match=r"tiny\.gguf cannot be read as GGUF"):
        fetching(file)
    assert not list(nbllm_home.rglob("config.json"))


def test_a_file_whose_last_tensor_is_cut_off_says_so(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1000)
    with pytest.raises(UnsupportedModelError, match="it is cut off, or it is damaged"):
        fetch(file)


def test_a_file_that_is_no_gguf_says_so(tmp_path: Path, nbllm_home: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model at all, really")
    with pytest.raises(UnsupportedModelError, match="does not begin as such a file does"):
        load(broken, quantize="none")
    assert not list((nbllm_home / "models").glob("gguf-*/"))


def test_an_architecture_that_transformers_does_not_read_is_named_with_those_that_it_does(
    llama: PreTrainedModel, tmp_path: Path
) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", "llama")
    file.write_bytes(file.read_bytes().replace(b"llama", b"rwkv7"))
    with pytest.raises(UnsupportedModelError, match=r"'rwkv7'.*are bloom, .*gemma3.*qwen3"):
        fetch(file)


def test_weights_that_are_not_in_the_file_are_not_made_up(
    llama: PreTrainedModel, tmp_path: Path
) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", "llama")
    file.write_bytes(file.read_bytes().replace(b"blk.1.ffn_up", b"blk.1.ffn_xy"))
    with pytest.raises(UnsupportedModelError, match=r"no weights for .*layers\.1\.mlp\.up_proj"):
        fetch(file)


def test_the_encoder_of_a_t5_alone_is_refused(tmp_path: Path) -> None:
    encoder = T5EncoderModel(configuration("t5"))
    file = write_gguf(encoder, tmp_path / "a.gguf", "t5encoder")
    with pytest.raises(UnsupportedModelError, match="the encoder of a T5 without its decoder"):
        fetch(file)


def test_one_part_of_several_is_refused(llama: PreTrainedModel, tmp_path: Path) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", "llama", {"split.count": 3})
    with pytest.raises(UnsupportedModelError, match=r"one of 3 parts.*llama-gguf-split --merge"):
        fetch(file)


def test_a_model_that_memory_cannot_hold_is_refused_before_it_is_unpacked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    with pytest.raises(TooLargeError, match=r"Unpacking tiny\.gguf to bf16 needs .*B of memory"):
        fetch(file)


def test_the_default_model_is_the_published_one_in_bf16(smollm2: Model) -> None:
    assert smollm2.context_length == 8192
    assert smollm2.revision.startswith("b179c9523d0e")
    assert smollm2.network.num_parameters() == 134_515_008
    folder = Path(smollm2.network.config._name_or_path)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((folder / "nbllm.json").read_text())["licence"] == "Apache-2.0"
