"""Translation: what each kind of model is asked, on small random ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import torch

import nbllm
from nbllm.engine.prompt import CompiledTemplate
from nbllm.errors import FrameError, UnsupportedModelError
from nbllm.frame.prompts.languages import language_code, language_name
from nbllm.models.model import Model
from tests.asking import translate
from tests.conftest import CORPUS, seeded, tiny_model

TEXTS = ["The soup was warm.", None, "We waited an hour.", "The soup was warm."]


@pytest.fixture
def t5() -> Model:
    """A T5 that says how it was trained to translate and to summarize."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, "translate English to German:"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = T5Config(
        vocab_size=len(fast), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        decoder_start_token_id=5, pad_token_id=0, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    config.task_specific_params = {
        "summarization": {"prefix": "summarize: "},
        "translation_en_to_de": {"prefix": "translate English to German: "},
        "translation_en_to_fr": {"prefix": "translate English to French: "},
    }
    return _as_loaded(seeded(T5ForConditionalGeneration, config), fast, "tiny-t5")


def _as_loaded(network, tokenizer, name: str) -> Model:
    return Model(
        network=network, tokenizer=tokenizer, kind="seq2seq", name=name, source="made in the test",
        revision="0" * 64, quantization="none", context_length=128,
    )  # fmt: skip


@pytest.fixture
def marian(tmp_path: Path) -> Callable[..., Model]:
    """Makes a Marian model of the languages that its tokenizer is told."""
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel

    def make(*codes: str, **languages: str) -> Model:
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
        words = ["</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(3, len(pieces)))]
        words += [*codes, "<pad>"]
        (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "MarianTokenizer", **languages})
        )
        pad = len(words) - 1
        config = MarianConfig(
            vocab_size=len(words), d_model=32, encoder_layers=1, decoder_layers=1,
            encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=2,
            decoder_attention_heads=2, max_position_embeddings=128, pad_token_id=pad,
            eos_token_id=0, bos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0,
        )  # fmt: skip
        seeded(MarianMTModel, config).save_pretrained(folder)
        return nbllm.load(folder, quantize="none", dtype="fp32")

    return make


def encoded(model: Model, text: str, **options: str) -> list[int]:
    template = translate(model, **options).template
    prompt = CompiledTemplate(template, model.tokenizer).encode([(text,)], limit=128)[0]
    if isinstance(prompt, Exception):
        raise prompt
    return list(prompt.ids)


@pytest.mark.parametrize("module", [pd, pl])
def test_the_columns_of_a_translation(module, tiny_llama: Model) -> None:
    frame = module.DataFrame({"text": TEXTS})
    answered = frame.llm.translate("text", model=tiny_llama, max_new_tokens=8)
    assert list(answered.columns) == ["text", "text_translate", "text_translate_error",
                                      "text_translate_run"]  # fmt: skip
    values = answered["text_translate"].to_list()
    assert values[0] == values[3] and isinstance(values[0], str)
    assert pd.isna(values[1])
    report = answered.llm.report()
    assert (report.computed, report.merged, report.blank) == (2, 1, 1)


def test_a_chat_model_is_asked_in_words(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    shown = str(frame.llm.preview("translate", "text", model=tiny_llama, to="zh", source="en"))
    assert "Translate the text from English into Chinese." in shown
    assert shown.endswith("The soup was warm.<|im_end|>\n<|im_start|>assistant\n")
    own = {"instruction": "Ins Deutsche.", "examples": [("soup", "Suppe")], "model": tiny_llama}
    shown = str(frame.llm.preview("translate", "text", **own))
    assert "Ins Deutsche.\n\nsoup<|im_end|>" in shown and "assistant\nSuppe<|im_end|>" in shown


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "\nText: The last train leaves at ten past eleven.\nGerman: Der letzte Zug"),
        ({"to": "Chinese", "source": "German"}, "\nGerman: Der letzte Zug fährt um zehn nach elf."
         "\nChinese: 最后一班火车十一点十分开。"),
        ({"to": "English", "source": "Chinese"}, "Chinese: 最后一班火车十一点十分开。\nEnglish: "
         "The last train"),
    ],
)  # fmt: skip
def test_a_base_model_is_shown_sentences_of_the_pair(tiny_llama: Model, options, wanted) -> None:
    tiny_llama.tokenizer.chat_template = None
    frame = pd.DataFrame({"text": TEXTS})
    shown = str(frame.llm.preview("translate", "text", model=tiny_llama, **options))
    assert wanted in shown
    assert shown.endswith(f"The soup was warm.\n{options.get('to', 'German')}:")


def test_a_language_without_examples_is_asked_without(tiny_llama: Model) -> None:
    tiny_llama.tokenizer.chat_template = None
    frame = pd.DataFrame({"text": TEXTS})
    shown = str(frame.llm.preview("translate", "text", model=tiny_llama, to="plain English"))
    assert shown == (
        "Translate each text into plain English.\n\nText: The soup was warm.\nplain English:"
    )


def test_t5_reads_what_its_own_tokenizer_would_make(t5: Model) -> None:
    whole = t5.tokenizer("translate English to German: The soup was warm.").input_ids
    assert encoded(t5, "The soup was warm.") == whole
    assert whole[-1] == t5.tokenizer.eos_token_id
    french = t5.tokenizer("translate English to French: We waited.").input_ids
    assert encoded(t5, "We waited.", to="fr", source="en") == french
    own = t5.tokenizer("say in Dutch: The soup").input_ids
    assert encoded(t5, "The soup", to="Dutch", instruction="say in Dutch:") == own


@pytest.mark.parametrize("options", [{"to": "Dutch"}, {"to": "German", "source": "French"}])
def test_t5_says_what_it_was_not_trained_for(t5: Model, options) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'translate English to French:'.*Marian"):
        translate(t5, **options)


def test_t5_writes_what_generate_writes(t5: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    answered = frame.llm.translate("text", model=t5, max_new_tokens=6, ledger=False)
    for text, translation in zip(TEXTS, answered["text_translate"], strict=True):
        if text is None:
            assert pd.isna(translation)
            continue
        inputs = t5.tokenizer(f"translate English to German: {text}", return_tensors="pt")
        with torch.inference_mode():
            ids = t5.network.generate(
                inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=6
            )
        assert translation == t5.tokenizer.decode(ids[0, 1:], skip_special_tokens=True).strip()


def test_marian_reads_what_its_own_tokenizer_would_make(marian) -> None:
    model = marian(source_lang="en", target_lang="de")
    text = "The soup was warm, 房 and kind."
    assert encoded(model, text) == model.tokenizer(text).input_ids
    frame = pd.DataFrame({"text": [text, "word " * 400]})
    preview = frame.llm.preview("translate", "text", model=model)
    assert str(preview) == f"{text}</s>"
    assert f">{text}</mark>&lt;/s&gt;</pre>" in preview._repr_html_()
    with pytest.warns(UserWarning, match="truncate=True"):
        answered = frame.llm.translate("text", model=model, max_new_tokens=4)
    assert answered["text_translate_error"].notna().tolist() == [False, True]
    cut = frame.llm.translate("text", model=model, max_new_tokens=4, truncate=True)
    assert cut["text_translate"].notna().all()


def test_marian_of_one_pair_refuses_another(marian) -> None:
    model = marian(source_lang="eng", target_lang="de")
    with pytest.raises(UnsupportedModelError, match="trained for German, not for French"):
        translate(model, to="French")
    with pytest.raises(UnsupportedModelError, match="trained for English, not for Chinese"):
        model.tokenizer.source_lang = "en"
        translate(model, to="de", source="Chinese")


def test_marian_of_many_languages_is_told_which(marian) -> None:
    model = marian(">>fr<<", ">>por<<")
    text = "The soup was warm."
    assert encoded(model, text, to="French") == model.tokenizer(f">>fr<< {text}").input_ids
    assert encoded(model, text, to="por") == model.tokenizer(f">>por<< {text}").input_ids
    with pytest.raises(UnsupportedModelError, match=r"codes of its own.*such as"):
        translate(model, to="German")


def test_bart_is_not_taken_for_a_translator(tiny_llama: Model) -> None:
    with pytest.raises(UnsupportedModelError, match=r"names no translation.*instruction="):
        translate(tiny_model("seq2seq"))


def test_what_makes_no_translation_is_refused(t5: Model) -> None:
    with pytest.raises(FrameError, match="takes no examples"):
        translate(t5, examples=[("soup", "Suppe")])


def test_languages_by_name_and_code() -> None:
    assert [language_code(name) for name in ("German", "zh", "french", "Elvish")] == [
        "de", "zh", "fr", None
    ]  # fmt: skip
    assert [language_name(code) for code in ("de", "Chinese", "pt")] == [
        "German", "Chinese", "Portuguese"
    ]  # fmt: skip
