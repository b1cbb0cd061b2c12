"""Texts are tokenized as they are asked, and the rows of a part are alike."""

import threading

import pytest

from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.engine.prompt import CompiledTemplate
from nbllm.errors import ModelError
from nbllm.frame.running import local
from nbllm.frame.tasks.bound_prompt import BoundPromptTask
from nbllm.models.model import Model
from tests.asking import sentiment

TEXTS = [("word " * (n % 37 + 1) + str(n),) for n in range(100)]


def answers(model: Model, texts=TEXTS):
    task = sentiment(model)
    bound = task.bind(model, model.context_length - task.answer_tokens(model))
    bound.calibrate(None)
    return list(local.answer_locally(texts, task, model, bound, truncate=False))


def test_a_part_is_tokenized_when_it_is_its_turn(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answers(tiny_llama)
    happened: list[str] = []
    encode, score = BoundPromptTask.encode, BoundPromptTask.__call__
    monkeypatch.setattr(local, "_PART_SIZE", 30)
    monkeypatch.setattr(
        BoundPromptTask, "encode", lambda *a, **k: happened.append("encode") or encode(*a, **k)
    )
    monkeypatch.setattr(
        BoundPromptTask, "__call__", lambda *a, **k: happened.append("ask") or score(*a, **k)
    )
    parts = answers(tiny_llama, [*TEXTS, ("word " * 5000,)])
    # Once for the calibration, then part by part.
    assert [h for n, h in enumerate(happened) if n == 0 or happened[n - 1] != h] == [
        "encode",
        *["ask", "encode"] * 3,
        "ask",
    ]
    assert parts[0].errors.keys() == {100} and len(parts) > 4
    found, expected = ({n: a for d in run for n, a in d.answers.items()} for run in (parts, whole))
    assert found.keys() == expected.keys()
    for n, scores in expected.items():
        assert found[n] == pytest.approx(scores, abs=1e-4)
    # Parts of like length: hardly more padding than all at once.
    assert sum(d.padding for d in parts) < 2 * sum(d.padding for d in whole) + 100


def test_an_error_that_lasts_is_that_of_its_text(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        BoundPromptTask, "__call__", lambda self, prompts: [ModelError("never")] * len(prompts)
    )
    task = sentiment(tiny_llama)
    bound = task.bind(tiny_llama, tiny_llama.context_length)
    texts = [("word " * 5000,), ("a",), ("b",)]
    too_long, failed = local.answer_locally(texts, task, tiny_llama, bound, truncate=False)
    assert too_long.errors.keys() == {0} and not too_long.lasting
    assert failed.errors == {1: "never", 2: "never"} and sorted(failed.lasting) == [1, 2]


def test_a_tokenizer_is_used_by_one_at_a_time(tiny_llama: Model) -> None:
    """Else a run beside the notebook could make a special token of a text that spells one out."""
    template = CompiledTemplate(sentiment(tiny_llama).template, tiny_llama.tokenizer)
    done = threading.Event()

    def encode() -> None:
        template.encode([("a text",)], limit=10**6)
        done.set()

    with TOKENIZER_LOCK:
        beside = threading.Thread(target=encode)
        beside.start()
        assert not done.wait(0.2)
    beside.join(10)
    assert done.is_set()
