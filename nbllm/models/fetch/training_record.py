"""The record that training leaves beside a model or an adapter: `training.json`.

It says how the weights were made, and which prompt they were trained to answer with which labels:
such a model has learned how often each label is right, so its likelihoods are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from nbllm.errors import ModelError
from nbllm.storage.json_file import read_object

__all__ = ["RECORD", "prompt_digest", "read_record", "trained_on"]

RECORD = "training.json"


def read_record(folder: Path) -> Mapping[str, Any] | None:
    """Return the record of a training; None where there is none, or it cannot be read.

    Args:
        folder: of a model or an adapter.
    """
    try:
        return read_object(folder / RECORD, error=ModelError)
    except ModelError:
        return None


def prompt_digest(template: Sequence[Any], answers: Sequence[str]) -> str:
    """Return a hash of a prompt and of the answers to choose from.

    Args:
        template: its parts, each with `kind` and `value`.
        answers: the labels.
    """
    parts = [[part.kind, part.value] for part in template]
    return sha256(json.dumps([parts, list(answers)]).encode()).hexdigest()


def trained_on(folder: Path | None, digest: str) -> bool:
    """Return whether a model or adapter was trained to answer a prompt.

    Args:
        folder: where it lies; None for one that lies nowhere.
        digest: as `prompt_digest` returns it.
    """
    record = None if folder is None else read_record(folder)
    return record is not None and record.get("prompt") == digest
