"""CONTRIBUTING.md's map of the code is that of the tree."""

import re

from tests.docs.pages import ROOT

# Made by the build.
BUILT = {"nbllm/widgets/static/"}


def test_each_folder_is_on_the_map_once() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(nbllm/[^`]*)` \| .+ \|$", page, re.MULTILINE)
    holding = {
        path.parent.relative_to(ROOT)
        for path in (ROOT / "nbllm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    here = {f"{folder.as_posix()}/" for folder in holding} - BUILT
    # Of folders that hold one folder a model, the upper one stands for them.
    here = {re.sub(r"^(nbllm/models/configs/).*", r"\1", folder) for folder in here}
    assert sorted(named) == sorted(here)
