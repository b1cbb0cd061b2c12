"""The questions that verbs put to models stay what they are, unless somebody means to change them.

Answers on file, and all figures that were measured, hold for these prompts, examples and
calibration texts. After a change that is meant: `python tests/frame/test_questions.py`.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbllm.frame.calls.models import placeholder_model
from nbllm.frame.calls.registry import built_in, find_verb
from nbllm.frame.tasks.base import Task
from nbllm.frame.tasks.customer_service import draft_task, urgency_task
from nbllm.models.model import Model
from tests.conftest import CHAT_TEMPLATE, tiny_model

KNOWN = Path(__file__).with_name("questions.json")

CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "answer": [("text", {"question": "Why?"}), ("text", {"context_column": "c"}), ("text", {})],
    "classify": [
        ("text", {"labels": ["food", "post"]}),
        ("text", {"labels": {"food": "is about food", "post": "is about post"}}),
        ("text", {"labels": ["food", "post"], "multi": True}),
    ],
    "extract": [
        ("text", {"schema": {"product": str, "price": float | None}}),
        ("text", {"schema": {"product": str, "price": float | None}, "grounded": False}),
        ("text", {"schema": {"new": bool | None, "colors": list[str]}}),
    ],
    "filter": [("text", {"predicate": "complains"})],
    "prompt": [("Say {text}", {}), ("Say {text}", {"instruction": "Be brief."})],
    "reply": [("text", {"sources": ["A."], "intents": ["order", "refund"]})],
    "sentiment": [
        ("text", {}),
        ("text", {"neutral": True}),
        ("text", {"aspects": ["food"]}),
        ("text", {"aspects": ["服务"]}),
    ],
    "summarize": [("text", {}), ("text", {"style": "for a child", "max_words": 20})],
    "translate": [("text", {"to": "German"}), ("text", {"to": "en", "source": "zh"})],
    "verify": [("text", {"against": "article"})],
}


def models() -> Iterator[tuple[str, Model]]:
    yield "plain", placeholder_model("causal")
    chat = tiny_model("causal")
    chat.tokenizer.chat_template = CHAT_TEMPLATE
    yield "chat", chat


def tasks(model: Model) -> Iterator[tuple[str, Task]]:
    for verb, calls in CALLS.items():
        for subject, options in calls:
            yield f"{verb} {options}", find_verb(verb).call(subject, options, {}).task(model)
    yield "reply's urgency", urgency_task(model, "reply")
    yield "reply's draft", draft_task(model, "reply", instruction=None, max_new_tokens=64)


def questions() -> dict[str, str]:
    """A digest of template and parameters, by the kind of model and the call."""
    found = {}
    for kind, model in models():
        for name, task in tasks(model):
            parts = [[part.kind, part.value] for part in task.template]
            whole = json.dumps([parts, task.parameters()], sort_keys=True)
            found[f"{kind}: {name}"] = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return found


def test_every_verb_with_a_prompt_is_here() -> None:
    without = {"embed", "mask", "recommend", "search", "similarity"}
    assert {*CALLS} == {*built_in()} - without


def test_questions_are_what_they_were() -> None:
    assert questions() == json.loads(KNOWN.read_text(encoding="utf-8"))


if __name__ == "__main__":
    KNOWN.write_text(json.dumps(questions(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
