"""Where models are kept."""

from pathlib import Path

import pytest

from nbllm.errors import DownloadError
from nbllm.models.cache import cache_folder


def test_it_lies_in_the_home_and_is_made(nbllm_home: Path) -> None:
    assert cache_folder("wheels") == nbllm_home / "models" / "wheels"
    assert cache_folder("wheels").is_dir()


def test_a_home_that_cannot_be_written_says_so(nbllm_home: Path) -> None:
    nbllm_home.write_text("in the way")
    with pytest.raises(DownloadError, match=r"cannot be written to.*Set NBLLM_HOME"):
        cache_folder()
