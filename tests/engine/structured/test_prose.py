"""Rules of prose: what each does to scripted tokens, and that batches change nothing."""

from collections.abc import Sequence

import pytest
import torch
from transformers import LogitsProcessorList

from nbllm.engine.cpu.ragged_attention import RaggedNetwork
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, chat
from nbllm.engine.structured import prose
from nbllm.engine.structured.prose import Prose, ProseConstraint, count_words
from nbllm.models.model import Model
from tests.conftest import byte_tokenizer

TOKENIZER = byte_tokenizer()
VOCABULARY = len(TOKENIZER)
END = TOKENIZER.eos_token_id
SOURCE = "On Monday Alice Leeds paid 1,000.50 pounds in 2019. It was far. He rode a DVD home."


def write(
    *scripts: str,
    source: str = SOURCE,
    words: int = 20,
    grounded: bool = True,
    stop: str | None = None,
    period: int | None = None,
) -> str:
    """The text of a model that writes the first script, and the next where it may not go on so.

    Args:
        scripts: In the order of their likelihood. A later one is written from the place on where
            it starts as the text does.
        source: The text that it is about.
        words: The most.
        grounded: Whether names have to be the source's.
        stop: The string that ends a text.
        period: A number of tokens after which a period is likely, though not the likeliest.
    """
    constraint = ProseConstraint(
        Prose(words, grounded), TOKENIZER, [source], eos_token_ids=[END], filler=END, stop=stop
    )
    tokenized = [[*TOKENIZER(script).input_ids, END] for script in scripts]
    tokens: list[int] = []
    for _ in range(200):
        scores = torch.zeros(1, VOCABULARY)
        for rank, script in enumerate(tokenized):
            if script[: len(tokens)] == tokens and len(script) > len(tokens):
                scores[0, script[len(tokens)]] = 20.0 - rank
        if len(tokens) == period:
            scores[0, TOKENIZER("a.").input_ids[-1]] += 10.0
        tokens.append(int(constraint(torch.empty(0), scores).argmax()))
        if tokens[-1] == END:
            break
    [text] = constraint.texts()
    return text


def test_what_breaks_no_rule_is_written_as_it_is() -> None:
    text = "Alice Leeds paid 1,000.50 pounds. It was Monday."
    assert write(text) == text


@pytest.mark.parametrize(
    ("invented", "instead"),
    [
        ("He met Carol.", "He met Alice."),  # no such name
        ("He met Ali.", "He met Alice."),  # the beginning of one
        ("He met Leedsman.", "He met Leeds."),  # more than one
        ("He paid 2018 pounds.", "He paid 2019 pounds."),
        ("He paid 1,000 pounds.", "He paid 1,000.50 pounds."),
        ("He paid 000 pounds.", "He paid 2019 pounds."),  # a part of a number
        ("Émile met her.", "He met her."),  # a capital of two bytes
    ],
)
def test_names_and_numbers_are_those_of_the_source(invented: str, instead: str) -> None:
    assert write(invented, instead) == instead
    assert write(invented, instead, grounded=False) == invented


def test_case_does_not_make_a_name() -> None:
    assert write("Rode a DVD home.") == "Rode a DVD home."
    assert write("rode a dvd home.") == "rode a dvd home."


def test_a_name_that_was_begun_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "_CANDIDATES", 1)
    assert write("on Alicia").startswith("on Alice")


def test_words_are_kept_and_the_last_sentence_is_whole() -> None:
    assert write("It rained all day. Then the snow fell", words=6) == "It rained all day."
    # One sentence that is too long ends where a period was likeliest.
    long = "it rained all day and the snow fell on the roofs of the town"
    place = len(TOKENIZER("it rained all day and the snow fell").input_ids)
    assert write(long, words=10, period=place) == "it rained all day and the snow fell."
    # After a title a period is likely too, and ends no sentence.
    place = len(TOKENIZER("it rained all day and the snow fell on St").input_ids)
    titled = write(long.replace("the roofs", "St Leeds"), source="St Leeds", words=10, period=place)
    assert titled.startswith("it rained") and not titled.endswith("St.")
    # A tenth more for the end of a sentence, and no word more.
    ten = "it rained and it snowed and it froze and it"
    assert count_words(ten) == 10
    assert write(f"{ten} thawed.", words=10) == f"{ten} thawed."
    assert count_words(write(f"{ten} thawed once.", words=10)) <= 11


def test_a_text_that_the_model_ends_gets_its_period() -> None:
    assert write("it rained, ") == "it rained."
    assert write("it rained\nit snowed", stop="\n") == "it rained."


def test_a_first_sentence_of_a_word_does_not_stand_for_the_rest() -> None:
    assert write("no. it rained all day and it snowed all", words=8).startswith("no. it rained")


@pytest.mark.parametrize(
    ("loop", "cut"),
    [
        ("they built a new river, built a new river, built", "they built a new river."),
        ("it was so so good.", "it was so so good."),
        ("it was so so so so good", "it was so."),
        ("It rained. They said it rained and it rained and it rained", "It rained."),
        ("one big game of two halves was one big game of two", "one big game of two halves was."),
    ],
)
def test_a_loop_is_cut_before_it_begins(loop: str, cut: str) -> None:
    source = "It They"
    assert write(loop, source=source) == cut


def test_chinese_is_counted_by_characters_and_ends_in_its_period() -> None:
    source = "他在2019年。"
    assert write("下雨了。他们在2019年回家去了", source=source, words=8) == "下雨了。"
    assert write("他们在2018", "他们在2019年回家", source=source) == "他们在2019年回家。"
    assert count_words("他们在2019年回家") == 7


TEXTS = ["The soup was cold in 2019.", "x", "We waited an Hour and nobody came to Table 9. " * 3]


def texts_alone(model: Model, prompts: Sequence[Prompt], rules: Prose, tokens: int) -> list[str]:
    """What plain `generate` writes for each row, held to the rules."""
    written = []
    for prompt in prompts:
        constraint = ProseConstraint(
            rules, model.tokenizer, [prompt.row_text], eos_token_ids=[END], filler=END
        )
        with torch.inference_mode():
            model.network.generate(
                torch.tensor([prompt.ids]),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=END,
                logits_processor=LogitsProcessorList([constraint]),
            )
        written += constraint.texts()
    return written


@pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "by batches"])
def test_a_batch_writes_what_each_row_alone_would(
    tiny_llama: Model, continuous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [("user", (Part("text", "Summarize this: "), Part("field", "text")))]
    template = CompiledTemplate(chat(tiny_llama.tokenizer, turns), tiny_llama.tokenizer)
    prompts = template.encode([[text] for text in TEXTS], limit=2000)
    assert [prompt.row_text.strip() for prompt in prompts] == [text.strip() for text in TEXTS]
    if not continuous:
        monkeypatch.setattr(RaggedNetwork, "of", lambda *_: None)
    free = TextGenerator(tiny_llama, template.prefix_ids, max_new_tokens=40)(prompts)
    rules = Prose(6, grounded=True)
    generator = TextGenerator(tiny_llama, template.prefix_ids, max_new_tokens=40, prose=rules)
    assert (generator._continuous is not None) == continuous
    written = generator(prompts)
    assert written == texts_alone(tiny_llama, prompts, rules, 40)
    assert len(set(written)) == len(TEXTS) and not set(written) & set(free)
    assert all(isinstance(text, str) and text[-1] in ".!?。…" for text in written)
    assert generator(prompts[1:]) == written[1:]
