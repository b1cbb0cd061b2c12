"""JSON that others wrote is read within bounds, or refused by the error of whoever reads it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbllm.errors import DownloadError, ModelError, TrainingError
from nbllm.storage.json_file import read_json, read_object, read_text

Make = Callable[[Path], object]


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(8_000_000_000)


# What lies there, and what is said of it.
REFUSED: dict[str, tuple[Make, str]] = {
    "nothing": (lambda file: None, "cannot be read"),
    "a folder": (Path.mkdir, "not a regular file"),
    "a FIFO": (os.mkfifo, "not a regular file"),
    "a link to nothing": (lambda file: file.symlink_to("nowhere"), "cannot be read"),
    "a link to itself": (lambda file: file.symlink_to(file), "cannot be read"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "not a regular file"),
    "8 GB": (sparse, "more than 10,000,000 bytes"),
    "empty": (lambda file: file.write_text(""), "is not JSON"),
    "cut off": (lambda file: file.write_text('{"a": '), "is not JSON"),
    "Latin-1": (lambda file: file.write_bytes('{"a": "é"}'.encode("latin-1")), "UTF-8"),
    "UTF-16": (lambda file: file.write_bytes('{"a": 1}'.encode("utf-16")), "UTF-8"),
    "zeros": (lambda file: file.write_bytes(bytes(1000)), "is not JSON"),
    "65 deep": (lambda file: file.write_text(nested(65)), "more than 64 deep"),
    "a million deep": (lambda file: file.write_text(nested(1_000_000)), "more than 64 deep"),
    "objects without end": (lambda file: file.write_text('{"a":' * 100_000), "more than 64 deep"),
    "a number of digits": (lambda file: file.write_text("1" * 9_000_000), "is not JSON"),
    "a list": (lambda file: file.write_text("[]"), "has to hold a JSON object"),
    "a text": (lambda file: file.write_text('"a"'), "has to hold a JSON object"),
    "null": (lambda file: file.write_text("null"), "has to hold a JSON object"),
}


@pytest.mark.parametrize("what", REFUSED)
# One of them is an OSError too.
@pytest.mark.parametrize("error", [ModelError, TrainingError, DownloadError])
def test_what_is_no_object_is_refused_at_once(
    what: str, error: type[ModelError], tmp_path: Path
) -> None:
    make, says = REFUSED[what]
    file = tmp_path / "config.json"
    make(file)
    began = time.thread_time()
    with pytest.raises(error, match=says) as refused:
        read_object(file, error=error)
    assert str(file) in str(refused.value) and type(refused.value) is error
    assert time.thread_time() - began < 1


def test_what_is_an_object_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"a": [1, {"b": "é"}], "deep": json.loads(nested(63))}))
    assert read_object(file, error=ModelError)["a"] == [1, {"b": "é"}]
    linked = tmp_path / "linked.json"
    linked.symlink_to(file)
    assert read_object(linked, error=ModelError) == read_json(file, error=ModelError)
    assert read_text(file, error=ModelError, max_bytes=file.stat().st_size) == file.read_text()
    with pytest.raises(ModelError, match="more than"):
        read_text(file, error=ModelError, max_bytes=file.stat().st_size - 1)
