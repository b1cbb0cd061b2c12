"""Models and adapters of strangers: each file may hold anything, and is loaded or refused at once.

A refusal is nbllm's own error and takes no second of the processor's time; what is no nonsense
loads as ever.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from nbllm.errors import NbllmError
from nbllm.models.architecture import skeleton
from nbllm.models.configuration import (
    context_length_of,
    kind_of,
    read_configuration,
    refuse_unsized,
)
from nbllm.models.memory import kv_bytes
from nbllm.models.model import Kind
from nbllm.models.plan import Plan
from nbllm.models.reading import _tokenizer
from nbllm.models.sources import fetch_configuration
from tests.conftest import tiny_network

# What no field is, or what too much of it is.
ODD: tuple[Any, ...] = (
    "x", "", -1, 0, 1, 10**6, 10**12, 10**30, -(10**6), 1.5, float("nan"), float("inf"), True,
    None, [], ["x"], [1, 2, 3], {}, {"a": 1}, [[[[]]]],
)  # fmt: skip


@contextmanager
def at_once(what: object) -> Iterator[None]:
    """Fail where what is done inside takes the processor a second, or raises another's error."""
    began = time.thread_time()
    try:
        yield
    except NbllmError as error:
        assert len(str(error)) < 2000 and "\n" not in str(error), what
    except Exception as error:
        raise AssertionError(f"{what} ends in {type(error).__name__}: {error}") from error
    assert time.thread_time() - began < 1, f"{what} took too long"


def known_of(folder: Path) -> None:
    """All that is found out of a configuration, before weights are read."""
    fetched = fetch_configuration(folder)
    config = read_configuration(fetched)
    kind = kind_of(config, fetched.source)
    refuse_unsized(config, fetched.source)
    length = context_length_of(config, fetched)
    network = skeleton(config, kind)
    assert length >= 1 and network.num_parameters() > 0
    if kind in ("causal", "seq2seq"):
        assert kv_bytes(config, torch.float32, length) >= 0


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classifier"])
def test_every_field_of_a_configuration(kind: Kind, tmp_path: Path) -> None:
    network, _ = tiny_network(kind)
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    plain = json.loads(file.read_text())
    known_of(tmp_path)
    for field in plain:
        for value in ODD:
            file.write_text(json.dumps(plain | {field: value}))
            with at_once(f"{field}={value!r}"):
                known_of(tmp_path)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"]
)
def test_every_field_of_a_tokenizer(name: str, tmp_path: Path) -> None:
    network, tokenizer = tiny_network("causal")
    tokenizer.save_pretrained(tmp_path)
    network.config.save_pretrained(tmp_path)
    file = tmp_path / name
    plain = json.loads(file.read_text()) if file.is_file() else dict(tokenizer.special_tokens_map)
    assert read_tokenizer(tmp_path).is_fast
    for field in plain:
        for value in ODD:
            file.write_text(json.dumps(plain | {field: value}))
            with at_once(f"{field}={value!r}"):
                read_tokenizer(tmp_path)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, as it is read before its weights."""
    fetched = fetch_configuration(folder)
    plan = Plan(
        folder=fetched.folder,
        revision="",
        kind="causal",
        context_length=128,
        quantize="none",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return _tokenizer(plan, {"local_files_only": True, "trust_remote_code": False})
