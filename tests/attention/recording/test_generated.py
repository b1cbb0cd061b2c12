"""The text of written tokens, and where they lie in it."""

import pytest

from nbllm.attention.recording.generated import append_tokens
from nbllm.engine.prompt import Prompt
from tests.conftest import byte_tokenizer


def prompt(tokenizer, text: str) -> Prompt:
    coded = tokenizer(text, return_offsets_mapping=True)
    return Prompt(tuple(coded.input_ids), text, tuple(coded.offset_mapping), ())


@pytest.mark.parametrize("text", [" kind staff", "房间很干净。 👍👍 ok", "naïve é", " עברית", ""])
def test_the_text_is_that_of_the_tokens(text) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer(text).input_ids
    read = append_tokens(prompt(tokenizer, "The soup"), ids, tokenizer)
    assert read.text == "The soup" + text
    assert read.ids[-len(ids) :] == tuple(ids) or not ids
    spans = read.spans[len(read.ids) - len(ids) :]
    # Together they cover the text, in order and without a gap.
    at = len("The soup")
    for start, stop in spans:
        assert start <= at and stop > start
        at = max(at, stop)
    assert at == len(read.text)


def test_pieces_of_a_character_have_all_of_it() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("é房").input_ids
    read = append_tokens(prompt(tokenizer, "a"), ids, tokenizer)
    assert len(ids) > 2
    assert set(read.spans[1:]) <= {(1, 2), (2, 3), (1, 3)}


def test_special_tokens_are_no_text() -> None:
    tokenizer = byte_tokenizer()
    ids = [*tokenizer(" kind").input_ids, tokenizer.eos_token_id]
    read = append_tokens(prompt(tokenizer, "The soup"), ids, tokenizer)
    assert read.text == "The soup kind"
    assert read.spans[-1] == (13, 13)


def test_bytes_that_are_no_character() -> None:
    tokenizer = byte_tokenizer()
    broken = tokenizer("房").input_ids[:1] * 6
    read = append_tokens(prompt(tokenizer, "a"), broken, tokenizer)
    assert len(read.spans) == len(read.ids) == 7
    assert set(read.text[1:]) == {"\ufffd"}
    assert read.spans[-1][1] == len(read.text)
