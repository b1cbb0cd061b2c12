"""Repacked files hold the same model, in formats without an offset."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Format

from nbllm.errors import DownloadError, UnsupportedModelError
from nbllm.models.fetch.gguf_repacking import repack
from tests.models.gguf_files import configuration, network, write_for_openvino, write_gguf

MATRIX = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
FORMATS = {
    Format.Q4_1: Format.Q8_0,
    Format.Q5_0: Format.Q8_0,
    Format.Q8_0: Format.Q8_0,
    Format.BF16: Format.F16,
    Format.F16: Format.F16,
    Format.F32: Format.F16,
}


@pytest.mark.parametrize("published", FORMATS, ids=lambda kind: kind.name)
def test_a_matrix_keeps_its_values(published: Format, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    data = gguf.quants.quantize(MATRIX, published)
    writer.add_tensor("matrix", data, raw_dtype=published)
    writer.add_tensor("vector", MATRIX[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    repack(tmp_path / "a.gguf", tmp_path / "b.gguf", "a")

    matrix, vector = gguf.GGUFReader(tmp_path / "b.gguf").tensors
    assert matrix.tensor_type == FORMATS[published]
    before = gguf.quants.dequantize(data, published)
    after = gguf.quants.dequantize(matrix.data, matrix.tensor_type)
    assert np.abs(after - before).max() <= np.abs(before).max() / 254 + 1e-3
    assert (vector.data == MATRIX[0]).all()


def test_headers_are_copied_and_the_type_of_the_file_is_stated(tmp_path: Path) -> None:
    file = write_for_openvino(tmp_path / "a.gguf")
    repack(file, tmp_path / "b.gguf", "a")
    before, after = (
        {
            name: field.contents()
            for name, field in gguf.GGUFReader(path).fields.items()
            if not name.startswith("GGUF.")
        }
        for path in (file, tmp_path / "b.gguf")
    )
    assert after == before | {"general.file_type": gguf.LlamaFileType.MOSTLY_F16}


def test_an_architecture_that_openvino_does_not_read_is_refused_before_it_is_written(
    tmp_path: Path,
) -> None:
    file = write_gguf(network(configuration("phi3")), tmp_path / "a.gguf", "phi3")
    with pytest.raises(UnsupportedModelError, match="'phi3', and OpenVINO GenAI reads llama"):
        repack(file, tmp_path / "b.gguf", "a")
    assert not (tmp_path / "b.gguf").exists()


def test_a_full_disk_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbllm.models.fetch.cache._free", lambda folder: 10)
    with pytest.raises(DownloadError, match=r"Repacking a\.gguf needs"):
        repack(write_for_openvino(tmp_path / "a.gguf"), tmp_path / "b.gguf", "a")
