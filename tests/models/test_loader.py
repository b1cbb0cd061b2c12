"""load(): kinds, precision, sharing, and what it refuses."""

from __future__ import annotations

import gc
import json
import re
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AddedToken,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    MarianConfig,
    MarianMTModel,
)
from transformers.utils import logging as transformers_logging

from nbllm.attention.recording.capture import record
from nbllm.errors import ModelError, TooLargeError, UnknownModelError, UnsupportedModelError
from nbllm.models import loader
from nbllm.models.devices.device import choose_dtype, reason_of_dtype
from nbllm.models.in_memory import loaded
from nbllm.models.loader import load, reload
from nbllm.models.memory import planner
from tests.conftest import CORPUS, seeded, tiny_network

Folder = Callable[[str], Path]


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classifier", "encoder"])
def test_each_kind_is_recognised_and_computes_what_transformers_does(
    tiny_folder: Folder, kind: str
) -> None:
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    folder = tiny_folder(kind)
    model = load(folder, quantize="none", dtype="fp32")
    assert model.kind == kind
    assert not model.network.training
    assert model.tokenizer.is_fast
    assert model.network.config._attn_implementation == "sdpa"

    reference = {
        "causal": AutoModelForCausalLM,
        "seq2seq": AutoModelForSeq2SeqLM,
        "classifier": AutoModelForSequenceClassification,
        "encoder": AutoModel,
    }[kind].from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    inputs = model.tokenizer("The soup was warm.", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        torch.testing.assert_close(model.network(**inputs)[0], reference(**inputs)[0])


def test_a_translator_whose_tokenizer_has_no_fast_form(tmp_path: Path) -> None:
    import sentencepiece

    folder = tmp_path / "marian"
    folder.mkdir()
    text = folder / "corpus.txt"
    text.write_text("\n".join(CORPUS))
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / side), vocab_size=120,
            hard_vocab_limit=False, character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    words = ["</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(3, len(pieces))), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64}
    config = MarianConfig(
        vocab_size=len(words), d_model=32, decoder_ffn_dim=64, encoder_attention_heads=2,
        decoder_attention_heads=2, pad_token_id=len(words) - 1, eos_token_id=0,
        decoder_start_token_id=len(words) - 1, forced_eos_token_id=0, **sizes,
    )  # fmt: skip
    seeded(MarianMTModel, config).save_pretrained(folder)

    model = load(folder, quantize="none", dtype="fp32")
    assert model.kind == "seq2seq" and not model.tokenizer.is_fast
    inputs = model.tokenizer("The soup was warm", return_tensors="pt")
    with torch.inference_mode():
        written = model.network.generate(**inputs, max_new_tokens=4)
    assert model.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True) == (
        "The soup was warm"
    )
    assert written.shape[0] == 1
    pair = record(model, "The soup was warm", target="The staff were kind")
    assert "".join(pair.cross.keys.tokens).replace(" ", "") == "Thesoupwaswarm</s>"
    for row in (pair.cross.keys, pair.cross.queries):
        assert all(
            row.text[a:b] in token for token, (a, b) in zip(row.tokens, row.spans, strict=True)
        )
    assert max(part.closure() for part in (pair.encoder, pair.decoder, pair.cross)) <= 1e-5


def test_a_model_that_refuses_sdpa_runs_eagerly(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = tiny_folder("causal")
    Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=400,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
        )
    ).save_pretrained(folder)
    model = load(folder, quantize="none")
    assert model.network.config._attn_implementation == "eager"


def test_a_kind_that_it_cannot_run_is_refused(tiny_folder: Folder) -> None:
    folder = tiny_folder("encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"architectures": ["BertForTokenClassification"]})
    )
    with pytest.raises(UnsupportedModelError, match=r"is a BertForTokenClassification.*It runs"):
        load(folder)


def test_a_config_of_no_known_kind_is_refused(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    (folder / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    with pytest.raises(UnsupportedModelError, match="cannot read the config"):
        load(folder, quantize="none")


def test_code_that_comes_with_a_model_is_not_run(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = tiny_folder("causal")
    config = {"model_type": "nonesuch", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UnsupportedModelError, match="trust_remote_code=True"):
        load(folder, quantize="none")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_missing_are_not_made_up(tiny_folder: Folder) -> None:
    folder = tiny_folder("classifier")
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=r"lack weights.*classifier\.weight"):
        load(folder, quantize="none")


def test_weights_of_another_shape_are_not_made_up(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=r"lack weights.*model\.norm\.weight"):
        load(folder, quantize="none")


def test_what_does_not_fit_is_refused_before_it_is_read(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder("causal")
    whole = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    monkeypatch.setattr(planner, "free_memory", lambda _: 0.8 * whole)
    monkeypatch.setattr(loader, "read_weights", None)
    with pytest.raises(TooLargeError) as caught:
        load(folder, quantize="none", dtype="fp32")
    assert re.search(r"The weights take \d+ kB as none in float32", str(caught.value))
    assert re.search(r"What fits: quantize='int8' \(\d+ kB\), quantize='nf4'", str(caught.value))
    monkeypatch.setattr(planner, "free_memory", lambda _: 1000)
    with pytest.raises(TooLargeError, match=r"No quantization fits.*unload\(\)"):
        load(folder, quantize="nf4")


def test_memory_that_runs_out_while_reading_is_said_so(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(TooLargeError, match=r"Memory ran out.*unload\(\)"):
        load(tiny_folder("causal"), quantize="none")


def test_layers_on_disk_compute_what_those_in_memory_do(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    ids = torch.arange(3, 40)[None]
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk",
              "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}  # fmt: skip
    spread = load(folder, quantize="none", dtype="fp32", device_map=places)
    assert spread.network.hf_device_map["model.layers.1"] == "disk"
    assert spread.device == torch.device("cpu")
    whole = load(folder, quantize="none", dtype="fp32")
    assert whole.network is not spread.network
    with torch.inference_mode():
        torch.testing.assert_close(spread.network(ids).logits, whole.network(ids).logits)


def test_a_device_map_that_accelerate_makes(tiny_folder: Folder) -> None:
    model = load(tiny_folder("causal"), device_map="auto", dtype="fp32")
    assert model.device == torch.device("cpu")
    with torch.inference_mode():
        assert model.network(torch.arange(3, 9)[None]).logits.isfinite().all()


def test_a_damaged_file_is_named(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(ModelError, match=r"weights in .*tiny-causal are damaged"):
        load(folder, quantize="none")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_dtypes_by_name_and_by_object(tiny_folder: Folder, name: str, dtype: torch.dtype) -> None:
    folder = tiny_folder("causal")
    assert load(folder, quantize="none", dtype=name).dtype == dtype
    assert load(folder, quantize="none", dtype=dtype).dtype == dtype


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_the_processor_decides_on_bf16(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", torch.device("cpu")) == dtype
    # Its kernel is a slow one in any other.
    assert choose_dtype("auto", torch.device("cpu"), "int4") == torch.bfloat16
    assert choose_dtype("fp32", torch.device("cpu"), "int4") == torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16),
     ((9, 0), torch.bfloat16)],
)  # fmt: skip
def test_each_gpu_is_asked_itself_whether_it_has_bf16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    second = torch.device("cuda", 1)
    of = {torch.device("cuda", 0): (8, 6), second: capability}
    monkeypatch.setattr(torch.cuda, "get_device_capability", of.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", None)  # which is about the current one
    assert choose_dtype("auto", second, config=LlamaConfig()) == dtype
    assert choose_dtype("auto", torch.device("cuda", 0), config=Gemma2Config()) == torch.bfloat16
    whole = dtype == torch.bfloat16
    assert choose_dtype("auto", second, config=Gemma2Config()) == (
        dtype if whole else torch.float32
    )
    assert reason_of_dtype(second, LlamaConfig()) == (
        None if whole else "It computes in float16, since this GPU has no bfloat16."
    )


@pytest.mark.parametrize("macos", [13, 14])
def test_a_mac_has_bf16_since_macos_14(monkeypatch: pytest.MonkeyPatch, macos: int) -> None:
    monkeypatch.setattr(
        torch.backends.mps, "is_macos_or_newer", lambda major, minor: macos >= major
    )
    dtype = choose_dtype("auto", torch.device("mps"), config=LlamaConfig())
    assert dtype == (torch.bfloat16 if macos == 14 else torch.float16)


def test_on_a_processor_it_is_never_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_dtype("auto", torch.device("cpu"), config=LlamaConfig()) == torch.float32
    assert reason_of_dtype(torch.device("cpu"), LlamaConfig()) is None


def test_a_context_that_has_no_room_is_lowered_and_enforced(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder("causal")
    whole = load(folder, quantize="none", dtype="fp32")
    need = planner.forecast(whole.network, "none", torch.float32, 1300).total
    monkeypatch.setattr(planner, "device_memory", lambda _: (need + 10) / 0.7)
    monkeypatch.setattr(planner, "_USUAL", 1024)
    capsys.readouterr()
    model = load(folder, dtype="fp32")
    assert "not quantized, in float32, context lowered to 1,280 tokens of 2,048" in (
        capsys.readouterr().out
    )
    assert (model.context_length, whole.context_length) == (1280, 2048)
    assert model.network is whole.network, "how long its texts may be makes it no other network"
    frame = pd.DataFrame({"text": ["soup " * 1270]})
    with pytest.warns(UserWarning, match="the model takes 1,2"):
        answered = frame.llm.sentiment("text", model=model, ledger=False)
    assert answered["text_sentiment"].isna().all()


def test_what_is_not_there_is_named(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    with pytest.raises(ModelError, match=r"no dtype 'fp12'.*'bf16'"):
        load(folder, dtype="fp12")
    with pytest.raises(ModelError, match=r"device='abacus' is not usable.*'auto'"):
        load(folder, device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny_folder: Folder) -> None:
    with pytest.raises(ModelError, match="device='cuda' is not usable on this machine"):
        load(tiny_folder("causal"), device="cuda")


def test_auto_takes_the_first_that_fits_and_says_why(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder("causal")
    assert load(folder, dtype="fp32").quantization == "none"
    line = capsys.readouterr().out
    assert "not quantized, in float32" in line and "fit in 70%" in line
    assert line.count("\n") == 1

    # 400 tokens embedded twice and 2 layers: 0.5 MB in fp32, and 1 MB of keys and values.
    sizes = {"none": 1_600_000, "int8": 1_400_000, "nf4": 1_300_000}
    need = {q: planner.forecast(load(folder, quantize="none").network, q, torch.float32, 2048).total
            for q in sizes}  # fmt: skip
    assert need["none"] > need["int8"] > need["nf4"]
    for expected, memory in (("int8", need["none"]), ("nf4", need["int8"])):
        monkeypatch.setattr(planner, "device_memory", lambda _, m=memory: (m - 1) / 0.7)
        capsys.readouterr()
        assert load(folder, dtype="fp32").quantization == expected
        assert "none (" in capsys.readouterr().out

    monkeypatch.setattr(planner, "device_memory", lambda _: 1000)
    with pytest.raises(TooLargeError, match=r"does not fit.*smaller model"):
        load(folder, dtype="fp32")


def test_a_named_quantization_says_nothing_and_warns_nothing(
    tiny_folder: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder("classifier")
    capfd.readouterr()
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load(folder, quantize="none")
    assert [str(w.message) for w in seen] == []
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.get_verbosity() == verbosity
    assert transformers_logging.is_progress_bar_enabled() == bars
    assert warnings.filters == filters


def test_the_same_model_shares_its_weights_until_the_last_share_is_given_back(
    tiny_folder: Folder,
) -> None:
    folder = tiny_folder("causal")
    first = load(folder, quantize="none", dtype="fp32")
    second = load(folder, quantize="none", dtype="fp32")
    other = load(folder, quantize="none", dtype="bf16")
    assert first.network is second.network
    assert other.network is not first.network
    network = weakref.ref(first.network)

    first.unload()
    first.unload()
    assert not first.loaded and second.loaded
    assert network() is not None
    assert second.network is network()

    second.unload()
    gc.collect()
    assert network() is None
    assert loaded()[-1] is other


def test_a_cell_run_again_does_not_pile_up_shares(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    for _ in range(3):
        model = load(folder, quantize="none")
    network = weakref.ref(model.network)
    model.unload()
    gc.collect()
    assert network() is None


def test_with_gives_its_share_back(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    with load(folder, quantize="none") as model:
        assert loaded()[-1] is model
    assert not model.loaded
    assert model not in loaded()


def test_an_unloaded_model_says_so(tiny_folder: Folder) -> None:
    model = load(tiny_folder("causal"), quantize="none")
    model.unload()
    for use in (
        lambda: model.network,
        lambda: model.tokenizer,
        lambda: model.device,
        model.provenance,
    ):
        with pytest.raises(ModelError, match=r"was unloaded. Load it again with nbllm\.load\("):
            use()
    assert "unloaded" in repr(model)
    assert "unloaded" in model._repr_html_()
    with pytest.raises(AttributeError, match="no attribute 'netwrok'"):
        model.netwrok  # noqa: B018


def test_the_model_loaded_last_is_last(tiny_folder: Folder) -> None:
    causal, encoder = tiny_folder("causal"), tiny_folder("encoder")
    a = load(causal, quantize="none")
    b = load(encoder, quantize="none")
    assert loaded()[-2:] == [a, b]
    c = load(causal, quantize="none")
    assert loaded()[-2:] == [b, c]
    c.unload()
    assert loaded()[-1] is a, "the share that is left stands for the network"


def test_reload_finds_the_model_in_memory_or_loads_it_again(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    model = load(folder, quantize="none", dtype="fp32")
    load(folder, quantize="none", dtype="bf16")
    record = model.provenance()
    assert record == {
        "name": str(folder),
        "source": str(folder),
        "revision": model.revision,
        "quantization": "none",
        "dtype": "float32",
        "device": "cpu",
    }
    assert reload(record) is model

    model.unload()
    again = reload(json.loads(json.dumps(record)))
    assert again.loaded and again.provenance() == record


def test_a_model_loaded_in_inference_mode_can_be_differentiated(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    with torch.inference_mode():
        model = load(folder, quantize="none", dtype="fp32")
    model.network(torch.arange(3, 9)[None]).logits.sum().backward()
    assert model.network.model.norm.weight.grad is not None


def test_reload_refuses_other_weights(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    model = load(folder, quantize="none")
    record = model.provenance()
    model.unload()
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnknownModelError, match=f"not {record['revision']}"):
        reload(record)


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 128),
        ({"tokenizer_config.json": {"model_max_length": 100}}, 100),
        ({"sentence_bert_config.json": {"max_seq_length": 32}}, 32),
        ({"config.json": {"model_type": "roberta", "pad_token_id": 1}}, 126),
    ],
)
def test_the_context_is_the_least_that_the_files_state(
    tiny_folder: Folder, changes: dict[str, dict[str, object]], tokens: int
) -> None:
    from transformers import AutoConfig

    from nbllm.models.configuration import context_length_of
    from nbllm.models.fetch.sources import fetch

    folder = tiny_folder("encoder")
    for name, change in changes.items():
        file = folder / name
        old = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(old | change))
    assert context_length_of(AutoConfig.from_pretrained(folder), fetch(folder)) == tokens


def with_tokens(folder: Path, *tokens: str, special: bool, template: str | None = None) -> int:
    """Add tokens to a folder's tokenizer, which the model's embeddings have none for."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = len(tokenizer)
    tokenizer.add_tokens([AddedToken(token, special=special) for token in tokens])
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return before


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "encoder", "classifier"])
def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(
    tiny_folder: Folder, kind: str
) -> None:
    folder = tiny_folder(kind)
    own = with_tokens(folder, "tomato", "potato", special=False)
    said = rf"up to number {own + 1}, such as 'tomato'.*embeddings for {own} \(0 to {own - 1}\)"
    with pytest.raises(UnsupportedModelError, match=said):
        load(folder, quantize="none")


def test_a_special_token_that_prompts_have_is_refused_too(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    own = with_tokens(folder, "<|turn|>", special=True, template="<|turn|>{{ messages }}")
    with pytest.raises(UnsupportedModelError, match=rf"'<\|turn\|>'.*embeddings for {own}"):
        load(folder, quantize="none")


def test_a_pad_token_without_an_embedding_is_refused(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(UnsupportedModelError, match="'<pad>'"):
        load(folder, quantize="none")


def test_a_special_token_that_nothing_reads_does_no_harm(tiny_folder: Folder) -> None:
    """As that of images in the tokenizer of Gemma 3's models of text alone."""
    folder = tiny_folder("causal")
    own = with_tokens(folder, "<image_soft_token>", special=True)
    model = load(folder, quantize="none", dtype="fp32")
    frame = pd.DataFrame({"text": ["one <image_soft_token> two", "three"]})
    answered = frame.llm.sentiment("text", model=model, ledger=False)
    assert answered["text_sentiment"].notna().all()
    assert len(model.tokenizer) == own + 1


def test_more_embeddings_than_tokens_are_fine(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    network, _ = tiny_network("causal")
    network.resize_token_embeddings(network.config.vocab_size + 24)
    network.save_pretrained(folder)
    assert load(folder, quantize="none").tokenizer is not None
