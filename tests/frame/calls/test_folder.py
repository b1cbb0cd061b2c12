"""What a folder of files is not answered with; the rest needs Ray, see running/test_ray.py."""

from pathlib import Path
from typing import Any

import pytest

import nbllm
from nbllm.errors import FrameError


@pytest.mark.parametrize("option", [{"by": "product"}, {"evidence": True}])
def test_an_option_that_needs_more_than_a_row_is_refused(
    option: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(FrameError, match=f"^{next(iter(option))}= needs"):
        nbllm.answer_folder(tmp_path / "in", tmp_path / "out", "summarize", "review", **option)
