"""Texts are tokenized as they are asked, and the rows of a part are alike."""

import threading

import pytest

from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.engine.prompt import CompiledTemplate
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
    monkeypatch.setattr(local, "_AHEAD", 30)
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
