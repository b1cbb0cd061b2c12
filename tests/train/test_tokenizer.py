"""The tokenizer of a corpus's own."""

from __future__ import annotations

import pytest

from nbllm.errors import TrainingError
from nbllm.train.tokenizer import BEGIN, train_tokenizer
from tests.conftest import CORPUS


def test_any_text_comes_back_and_opens_with_bos() -> None:
    tokenizer = train_tokenizer(CORPUS, 300, 64)
    for text in ("a never seen word: zyzzyva", "房间 👍 é", "", "  two  blanks "):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.convert_tokens_to_ids(BEGIN)
        assert tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False) == text
    assert len(tokenizer) <= 300 and tokenizer.model_max_length == 64


def test_more_tokens_make_shorter_texts() -> None:
    few, many = (len(train_tokenizer(CORPUS, n, 64)(CORPUS[0]).input_ids) for n in (259, 400))
    assert many < few == len(CORPUS[0].encode()) + 1


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(TrainingError, match="Pass 259 or more"):
        train_tokenizer(CORPUS, 100, 64)
