"""Where models are kept."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

from nbllm.errors import DownloadError
from nbllm.models.fetch.cache import cache_folder, explained_when_full, require_space


def test_it_lies_in_the_home_and_is_made(nbllm_home: Path) -> None:
    assert cache_folder("wheels") == nbllm_home / "models" / "wheels"
    assert cache_folder("wheels").is_dir()


def test_a_home_that_cannot_be_written_says_so(nbllm_home: Path) -> None:
    nbllm_home.write_text("in the way")
    with pytest.raises(DownloadError, match=r"cannot be written to.*Set NBLLM_HOME"):
        cache_folder()


def test_room_is_measured_where_a_folder_is_going_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=1_000_000_000)

    monkeypatch.setattr("nbllm.models.fetch.cache.shutil.disk_usage", usage)
    folder = tmp_path / "not" / "there"
    require_space(folder, 900_000_000, "It")
    with pytest.raises(DownloadError, match=r"It needs 960 MB on disk.*has 1.0 GB left.*set ELSE"):
        require_space(folder, 960_000_000, "It", "ELSEWHERE")  # some is left to the system
    require_space(folder, 0, "Nothing")
    assert set(asked) == {tmp_path}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        # As it was seen on a full tmpfs.
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
)
def test_a_full_disk_is_told_from_other_errors(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(DownloadError, match=r"disk was full before writing had ended.*NBLLM_HOME"),
        explained_when_full("writing", tmp_path),
    ):
        raise error
    with pytest.raises(PermissionError), explained_when_full("writing", tmp_path):
        raise PermissionError(errno.EACCES, "no")
