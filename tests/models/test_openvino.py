"""What may be read by OpenVINO GenAI, what is refused, and what a loaded model says of it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from nbllm.errors import ArgumentError, ModelError, UnsupportedModelError
from nbllm.frame.running.record_schema import _Model
from nbllm.models.fetch.at_hand import is_at_hand
from nbllm.models.fetch.cached_models import CachedModel, list_cached, verify
from nbllm.models.fetch.catalog import CATALOG, DEFAULT
from nbllm.models.in_memory import loaded
from nbllm.models.loader import held_as, load, reload
from nbllm.models.openvino import is_installed
from tests.models.gguf_files import configuration, network, write_for_openvino, write_gguf

installed = pytest.mark.skipif(not is_installed(), reason="needs nbllm[openvino]")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_for_openvino(tmp_path / "tiny.gguf")


@installed
def test_a_model_says_what_writes_its_texts(file: Path) -> None:
    with load(file, quantize="none", text_engine="openvino") as model:
        engine = model.provenance()["text_engine"]
        assert engine.startswith("openvino-genai 20")
        assert engine in repr(model) and engine in model._repr_html_()
        assert "text_engine" in _Model.__annotations__


@installed
def test_it_is_shared_with_none_that_writes_by_torch(file: Path) -> None:
    by_torch = load(file, quantize="none")
    assert by_torch.pipeline is None and "text_engine" not in by_torch.provenance()
    by_openvino = load(file, quantize="none", text_engine="openvino")
    again = load(file, quantize="none", text_engine="openvino")
    assert again.pipeline is by_openvino.pipeline is not None
    assert load(file, quantize="none").pipeline is None


@installed
def test_unloading_frees_the_pipeline(file: Path) -> None:
    model = load(file, quantize="none", text_engine="openvino")
    assert model.pipeline is not None
    pipeline = weakref.ref(model.pipeline)
    model.unload()
    gc.collect()
    assert pipeline() is None


@installed
def test_a_record_is_loaded_again_with_its_engine(file: Path) -> None:
    model = load(file, quantize="none", text_engine="openvino")
    load(file, quantize="none")
    record = json.loads(json.dumps(model.provenance()))
    assert held_as(record) is model
    model.unload()
    again = reload(record)
    assert again.pipeline is not None and again.provenance() == record
    assert loaded()[-1] is again


@pytest.mark.parametrize("engine", ["onnx", "OpenVINO", 1, None])
def test_another_engine_is_refused(file: Path, engine: str) -> None:
    with pytest.raises(ArgumentError, match=r"text_engine=.* is none of torch, openvino"):
        load(file, text_engine=engine)


def test_without_the_package_nothing_is_fetched(
    file: Path, monkeypatch: pytest.MonkeyPatch, nbllm_home: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed\. Install it with pip install 'nbllm\["):
        load(file, text_engine="openvino")
    assert not (nbllm_home / "models").exists()


@installed
def test_what_torch_would_compute_otherwise_is_refused(file: Path, tmp_path: Path) -> None:
    stretched = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    longer = write_for_openvino(tmp_path / "long.gguf", **stretched)
    with pytest.raises(UnsupportedModelError, match="stretches its positions"):
        load(longer, quantize="none", text_engine="openvino")
    with pytest.raises(UnsupportedModelError, match="would be quantized to int8"):
        load(file, quantize="int8", text_engine="openvino")


@installed
def test_models_of_other_kinds_and_files_are_refused(
    tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    with pytest.raises(UnsupportedModelError, match=r"reads GGUF files, and .* is none"):
        load(tiny_folder("causal"), quantize="none", text_engine="openvino")
    with pytest.raises(UnsupportedModelError, match="not a causal model"):
        load(tiny_folder("seq2seq"), quantize="none", text_engine="openvino")
    other = write_gguf(network(configuration("gemma3")), tmp_path / "g.gguf", "gemma3")
    with pytest.raises(UnsupportedModelError, match=r"'gemma3', .*Leave text_engine="):
        load(other, quantize="none", text_engine="openvino")


SENDS_NOTHING = """
import sys
from nbllm.models.loader import load

load(sys.argv[1], quantize="none", text_engine="openvino")
import openvino.tools.ovc.telemetry_utils as used

assert used.tm.__name__ == "openvino.tools.ovc.telemetry_stub", used.tm
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""


@installed
def test_nothing_is_reported_to_the_makers_of_openvino(file: Path, tmp_path: Path) -> None:
    # It leaves an id in the folder of the user where it sends something.
    environment = {"HOME": str(tmp_path), "NBLLM_HOME": str(tmp_path / "nbllm")}
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    command = [sys.executable, "-c", SENDS_NOTHING, str(file)]
    subprocess.run(command, env=environment | path, check=True, timeout=120)
    assert not (tmp_path / "intel").exists()


@installed
def test_a_file_is_repacked_once_and_at_hand_only_with_what_was_repacked(
    file: Path, monkeypatch: pytest.MonkeyPatch, nbllm_home: Path
) -> None:
    first = load(file, quantize="none", text_engine="openvino")
    [folder] = (nbllm_home / "models").glob("gguf-*-openvino-v1")
    assert first.pipeline is not None and first.pipeline.file.parent == folder
    first.unload()

    def never(*_: object) -> None:
        raise AssertionError("repacked again")

    monkeypatch.setattr("nbllm.models.fetch.gguf_repacking.repack", never)
    load(file, quantize="none", text_engine="openvino")
    kept = [item for item in list_cached() if item.path == folder]
    assert [(item.quantization, item.whole) for item in kept] == [("openvino", True)]
    assert verify(kept[0]).ok


def test_a_record_of_the_default_model_is_at_hand_with_its_repacked_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = CATALOG[DEFAULT]
    record = {"name": entry.name, "source": entry.source, "revision": entry.weights_sha256}
    asked = record | {"text_engine": "openvino-genai 1"}
    cached = [
        CachedModel(entry.name, Path(kind), 1, datetime.now(), True, quantization=kind)
        for kind in ("none", "openvino")
    ]
    monkeypatch.setattr("nbllm.models.fetch.at_hand.is_installed", lambda: True)
    monkeypatch.setattr("nbllm.models.fetch.cached_models.list_cached", lambda: cached)
    assert is_at_hand(record) and is_at_hand(asked)
    monkeypatch.setattr("nbllm.models.fetch.cached_models.list_cached", lambda: cached[:1])
    assert is_at_hand(record) and not is_at_hand(asked)
    monkeypatch.setattr("nbllm.models.fetch.cached_models.list_cached", lambda: cached[1:])
    assert not is_at_hand(record) and not is_at_hand(asked)
    monkeypatch.setattr("nbllm.models.fetch.at_hand.is_installed", lambda: False)
    assert not is_at_hand(asked)
