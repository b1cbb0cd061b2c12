"""A row's answer is the same alone and beside others, also where the model sees but a window."""

from collections.abc import Callable

import pandas as pd
import pytest

import nbllm
from nbllm.frame.running import run_record
from nbllm.models.model import Model
from tests.architectures.tiny import derive
from tests.conftest import byte_tokenizer, seeded

ROWS = pd.DataFrame({"t": ["dull", "a warm film", "The food was cold. " * 12]})


@pytest.fixture(params=[8, 64, None])
def windowed(request, tmp_path) -> Model:
    """A Mistral whose layers see so many tokens, loaded from its folder."""
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = byte_tokenizer()
    config = MistralConfig(**derive(MistralConfig, sliding_window=request.param))
    seeded(MistralForCausalLM, config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return nbllm.load(tmp_path, dtype="fp32", quantize="none")


ASKS: dict[str, Callable[[pd.DataFrame, Model], list[object]]] = {
    "prompt": lambda frame, model: frame.llm.prompt(
        "Say what the review is about: {t}", into="w", model=model, max_new_tokens=8, ledger=False
    )["w"].tolist(),
    "summarize": lambda frame, model: frame.llm.summarize(
        "t", into="w", model=model, max_words=5, ledger=False
    )["w"].tolist(),
    "translate": lambda frame, model: frame.llm.translate(
        "t", to="German", into="w", model=model, ledger=False
    )["w"].tolist(),
    "extract": lambda frame, model: frame.llm.extract(
        "t", {"subject": str}, into="w", model=model, ledger=False
    )["w_subject"].tolist(),
}


@pytest.mark.parametrize("verb", ASKS)
def test_a_text_is_the_one_written_for_the_row_alone(windowed: Model, verb: str) -> None:
    ask = ASKS[verb]
    alone = [ask(ROWS.iloc[[n]], windowed)[0] for n in range(len(ROWS))]
    assert ask(ROWS, windowed) == alone


def test_a_label_has_the_probability_of_the_row_alone(windowed: Model) -> None:
    def ask(frame: pd.DataFrame) -> list[float]:
        answered = frame.llm.sentiment("t", model=windowed, ledger=False)
        return answered["t_sentiment_score"].tolist()

    alone = [ask(ROWS.iloc[[n]])[0] for n in range(len(ROWS))]
    assert ask(ROWS) == pytest.approx(alone, abs=1e-4)


def test_answers_on_file_of_an_earlier_format_are_not_served(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forwards() -> int:
        return ROWS.llm.sentiment("t", model=tiny_llama).llm.report().forwards

    with monkeypatch.context() as earlier:
        earlier.setattr(run_record, "ANSWER_FORMAT", run_record.ANSWER_FORMAT - 1)
        assert forwards() > 0
        assert forwards() == 0
    assert forwards() > 0
    assert forwards() == 0
