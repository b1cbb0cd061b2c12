"""Generation in batches behind a shared prefix against one row at a time without."""

import pytest
import torch

from nbllm.engine.cpu.ragged_attention import RaggedNetwork
from nbllm.engine.decoding import Decoder
from nbllm.engine.generation import TextGenerator
from nbllm.engine.padding import pad_rows
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, chat
from nbllm.models.model import Model
from tests.conftest import byte_tokenizer, seeded

TEXTS = ["The soup was cold.", "x", "We waited an hour and nobody came to the table. " * 3]


def plain_text(model: Model, ids: tuple[int, ...], tokens: int) -> str:
    with torch.inference_mode():
        out = model.network.generate(
            torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
    return model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip()


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are padded to one length, as on a GPU."""
    monkeypatch.setattr(RaggedNetwork, "of", lambda *_: None)


def prompts_of(model: Model):
    turns = [("user", (Part("text", "Summarize this: "), Part("field", "text")))]
    compiled = CompiledTemplate(chat(model.tokenizer, turns), model.tokenizer)
    return compiled.prefix_ids, compiled.encode([[text] for text in TEXTS], limit=2000)


@pytest.mark.parametrize("layout", ["ragged", "padded"])
def test_a_batch_writes_what_each_row_alone_would(
    tiny_llama: Model, layout: str, request: pytest.FixtureRequest
) -> None:
    if layout == "padded":
        request.getfixturevalue("padded")
    prefix, prompts = prompts_of(tiny_llama)
    assert len(prefix) > 0
    generator = TextGenerator(tiny_llama, prefix, max_new_tokens=12)
    assert generator.prefix.length == len(prefix)  # which reports count once
    written = generator(prompts)
    assert written == [plain_text(tiny_llama, p.ids, 12) for p in prompts]
    assert len(set(written)) == 3


@pytest.mark.usefixtures("padded")
@pytest.mark.parametrize("shared", [True, False], ids=["with prefix", "without prefix"])
def test_finished_rows_are_dropped_and_the_others_write_on(tiny_llama: Model, shared: bool) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    whole = TextGenerator(tiny_llama, (), max_new_tokens=12)
    decoder = Decoder(tiny_llama, whole.prefix, whole.config, eos_token_ids=[])
    with torch.inference_mode():
        ids, seen = pad_rows([p.ids for p in prompts], 0, left=True)
        tokens = decoder(ids, seen.long())
    # What two of the rows write early now ends them.
    ends = [tokens[0][2], tokens[1][5]]
    tiny_llama.network.generation_config.eos_token_id = ends
    expected = [plain_text(tiny_llama, p.ids, 12) for p in prompts]
    rows: list[int] = []
    tiny_llama.network.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    written = TextGenerator(tiny_llama, prefix if shared else (), max_new_tokens=12)(prompts)
    assert written == expected
    assert rows[-1] == 1 and max(rows) == 3 and len(rows) == 12 + shared


@pytest.mark.usefixtures("padded")
def test_a_row_that_a_stop_string_ends_is_dropped(tiny_llama: Model) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    whole = TextGenerator(tiny_llama, prefix, max_new_tokens=12)(prompts)
    stop = whole[0][3:5]
    assert sum(stop in text for text in whole) < 3
    rows: list[int] = []
    tiny_llama.network.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    written = TextGenerator(tiny_llama, prefix, max_new_tokens=12, stop=stop)(prompts + prompts[:1])
    assert written == [text.split(stop)[0].strip() for text in (*whole, whole[0])]
    assert rows[-1] == 2 and max(rows) == 4


def test_without_a_prefix(tiny_llama: Model) -> None:
    _, prompts = prompts_of(tiny_llama)
    written = TextGenerator(tiny_llama, (), max_new_tokens=5)(prompts)
    assert written == [plain_text(tiny_llama, p.ids, 5) for p in prompts]


def test_the_real_model_answers_and_stops(smollm2: Model) -> None:
    turns = [
        ("user", (Part("text", "What is the capital of "), Part("field", "x"), Part("text", "?")))
    ]
    compiled = CompiledTemplate(chat(smollm2.tokenizer, turns), smollm2.tokenizer)
    prompts = compiled.encode([["France"], ["Italy"]], limit=200)
    paris, rome = TextGenerator(smollm2, compiled.prefix_ids, max_new_tokens=30)(prompts)
    assert "Paris" in paris  # of Italy it knows the capital in bf16 only
    for answer in (paris, rome):
        assert answer and "<|" not in answer and "assistant" not in answer


@pytest.mark.parametrize(
    ("text", "ended", "kept"),
    [
        ("It rained. They went ho", False, "It rained."),
        ("It rained. They went home", True, "It rained. They went home"),
        ('He said "No." Then he le', False, 'He said "No."'),
        ("下雨了。他们回", False, "下雨了。"),
        ("version 3.5 is", False, "version 3.5 is"),
        ("no sentence yet", False, "no sentence yet"),
    ],
)
def test_a_sentence_that_was_cut_is_dropped(
    tiny_llama: Model, text: str, ended: bool, kept: str
) -> None:
    generator = TextGenerator(tiny_llama, (), max_new_tokens=1, whole_sentences=True)
    assert generator._finish(text, ended=ended) == kept


def test_a_stop_string_ends_the_text(tiny_llama: Model) -> None:
    generator = TextGenerator(tiny_llama, (), max_new_tokens=1, stop="\n")
    assert generator._finish(" one\ntwo", ended=False) == "one"


def test_a_model_that_writes_nothing_is_an_error(tiny_llama: Model) -> None:
    generator = TextGenerator(tiny_llama, (), max_new_tokens=1)
    assert isinstance(generator._finish("  ", ended=True), Exception)


def seq2seq(family: str) -> Model:
    """A random encoder-decoder of two layers, with its family's own way to begin."""
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        MarianConfig,
        MarianMTModel,
        T5Config,
        T5ForConditionalGeneration,
    )

    tokenizer = byte_tokenizer()
    ids = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "d_model": 64,
    }
    sizes = {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "max_position_embeddings": 256,
        "init_std": 0.2,
        "forced_eos_token_id": None,
    }
    if family == "t5":
        pad = tokenizer.pad_token_id
        config = T5Config(
            **ids, d_kv=16, d_ff=128, num_layers=2, num_heads=4, initializer_factor=2.0
        )
        network = seeded(T5ForConditionalGeneration, config)
        network.generation_config.decoder_start_token_id = pad
    elif family == "bart":
        config = BartConfig(**ids, **sizes, decoder_start_token_id=tokenizer.eos_token_id)
        network = seeded(BartForConditionalGeneration, config)
        network.generation_config.forced_bos_token_id = tokenizer.bos_token_id
    else:
        pad = tokenizer.pad_token_id
        config = MarianConfig(**ids, **sizes, decoder_start_token_id=pad)
        network = seeded(MarianMTModel, config)
        network.generation_config.bad_words_ids = [[pad]]
    # Without this a random decoder writes one token over and over.
    network.generation_config.no_repeat_ngram_size = 2
    return Model(
        network=network,
        tokenizer=tokenizer,
        kind="seq2seq",
        name=f"tiny-{family}",
        source="made in the test",
        revision="0" * 64,
        quantization="none",
        context_length=256,
    )


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_an_encoder_decoder_writes_what_each_row_alone_would(family: str) -> None:
    model = seq2seq(family)
    end = Part("markup", model.tokenizer.eos_token)
    template = (Part("text", "Summarize this: "), Part("field", "text"), end)
    compiled = CompiledTemplate(template, model.tokenizer)
    prompts = compiled.encode([[text] for text in TEXTS], limit=250)
    generator = TextGenerator(model, compiled.prefix_ids, max_new_tokens=12)
    assert generator.prefix.length == 0
    alone = []
    for prompt in prompts:
        with torch.inference_mode():
            out = model.network.generate(
                torch.tensor([prompt.ids]), max_new_tokens=12, do_sample=False, num_beams=1
            )
        alone.append(model.tokenizer.decode(out[0], skip_special_tokens=True).strip())
    assert generator(prompts) == alone
    assert len(set(alone)) == 3


def test_a_decoder_keeps_the_first_token_that_its_model_forces() -> None:
    """Multilingual models are told their language so; here it is a letter, to be seen."""
    model = seq2seq("bart")
    letter = model.tokenizer("Q", add_special_tokens=False).input_ids[0]
    model.network.generation_config.forced_bos_token_id = letter
    compiled = CompiledTemplate((Part("field", "text"),), model.tokenizer)
    generator = TextGenerator(model, (), max_new_tokens=6)
    written = generator(compiled.encode([[text] for text in TEXTS], limit=250))
    assert all(text.startswith("Q") for text in written)


def test_the_most_tokens_are_read_for_each_batch(tiny_llama: Model) -> None:
    generator = TextGenerator(tiny_llama, (), max_new_tokens=12)
    prompts = [Prompt((5, 6, 7), "", (), ())]
    [whole] = generator(prompts)
    generator.config.max_new_tokens = 3
    [short] = generator(prompts)
    count = len(tiny_llama.tokenizer(str(short), add_special_tokens=False).input_ids)
    assert len(str(short)) < len(str(whole)) and count <= 4
