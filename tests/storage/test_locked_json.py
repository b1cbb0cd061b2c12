"""Files that several processes write: whole or not at all, for their user alone, no entry lost."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbllm.storage.json_file import find_object
from nbllm.storage.locked_json import replace_text, update_json, write_json


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    file.chmod(0o644)
    replace_text(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o600)
    with pytest.raises(UnicodeEncodeError):
        replace_text(file, "half \ud800")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


def test_entries_of_writers_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: update_json(file, {str(n): n}), range(40)))
    assert find_object(file) == {str(n): n for n in range(40)}
    assert (mode(file.parent), mode(file)) == (0o700, 0o600)


@pytest.mark.parametrize("content", ["", "[1]", '{"a": ', "[" * 100_000])
def test_a_damaged_file_is_written_anew(content: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    assert find_object(file) is None
    update_json(file, {"b": 1})
    assert json.loads(file.read_text()) == {"b": 1}


def test_an_own_file_is_no_link_and_no_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, link = tmp_path / "a.json", tmp_path / "link.json"
    write_json(file, {"a": 1})
    link.symlink_to(file)
    assert find_object(link) == find_object(file, own_only=True) == {"a": 1}
    assert find_object(link, own_only=True) is None
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_object(file, own_only=True) is None and find_object(file) == {"a": 1}
