"""Generation in batches behind a shared prefix against one row at a time without."""

import pytest
import torch

from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Part, chat
from nbllm.models.model import Model

TEXTS = ["The soup was cold.", "x", "We waited an hour and nobody came to the table. " * 3]


def plain_text(model: Model, ids: tuple[int, ...], tokens: int) -> str:
    with torch.inference_mode():
        out = model.network.generate(
            torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
    return model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip()


def prompts_of(model: Model):
    turns = [("user", (Part("text", "Summarize this: "), Part("field", "text")))]
    compiled = CompiledTemplate(chat(model.tokenizer, turns), model.tokenizer)
    return compiled.prefix_ids, compiled.encode([[text] for text in TEXTS], limit=2000)


def test_a_batch_writes_what_each_row_alone_would(tiny_llama: Model) -> None:
    prefix, prompts = prompts_of(tiny_llama)
    assert len(prefix) > 0
    written = TextGenerator(tiny_llama, prefix, max_new_tokens=12)(prompts)
    assert written == [plain_text(tiny_llama, p.ids, 12) for p in prompts]
    assert len(set(written)) == 3


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
    assert "Paris" in paris and "Rome" in rome
    assert "<|" not in paris and "assistant" not in paris


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
