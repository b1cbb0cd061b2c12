"""The kinds of models."""

from __future__ import annotations

from typing import Literal

__all__ = ["CALLED", "Kind"]

Kind = Literal["causal", "seq2seq", "classifier", "encoder", "extractive_qa"]

# As a message says what a model is, or what is wanted.
CALLED: dict[Kind, str] = {
    "causal": "a causal language model",
    "seq2seq": "an encoder-decoder",
    "classifier": "a classifier",
    "encoder": "a sentence encoder",
    "extractive_qa": "an extractive question-answering model (…ForQuestionAnswering)",
}
