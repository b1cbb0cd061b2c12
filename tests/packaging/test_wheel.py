"""What is published installs and works where there is no Node."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import nbllm

ROOT = Path(__file__).parents[2]
BUNDLE = "nbllm/widgets/static/attention.js"


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def without_node(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH holds neither node nor npm."""
    empty = tmp_path / "empty-path"
    empty.mkdir()
    return {**os.environ, "PATH": str(empty)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder), cwd=ROOT)
    return next(folder.glob("*.tar.gz"))


def test_wheel_holds_the_bundle_and_the_data_and_no_sources_of_the_bundle(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert BUNDLE in names
    assert any(name.startswith("nbllm/data/sets/") for name in names)
    metadata = f"nbllm-{nbllm.__version__}.dist-info"
    assert f"{metadata}/licenses/LICENSE" in names
    assert [n for n in names if n.endswith((".ts", ".tsx", ".map", ".ipynb"))] == []
    assert {name.partition("/")[0] for name in names} == {"nbllm", metadata}


def test_wheel_is_at_most_1_mb(wheel: Path) -> None:
    assert wheel.stat().st_size <= 1_000_000


def test_wheel_installs_and_shows_its_widget_without_node(wheel: Path, tmp_path: Path) -> None:
    environment = without_node(tmp_path)
    target = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", str(target), str(wheel), env=environment)
    said = run(
        *(sys.executable, "-c"),
        "import nbllm, nbllm.widgets.attention as module, anywidget\n"
        "widgets = [v for v in vars(module).values() if isinstance(v, type)\n"
        "           and issubclass(v, anywidget.AnyWidget) and v is not anywidget.AnyWidget]\n"
        "print(nbllm.__file__, [len(str(v._esm)) > 1000 for v in widgets])",
        env={**environment, "PYTHONPATH": str(target)},
        cwd=tmp_path,
    )
    assert said.split(maxsplit=1) == [str(target / "nbllm" / "__init__.py"), "[True]\n"]


def test_sdist_builds_without_node(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path, filter="data")
    source = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert (source / "widgets" / "package.json").exists()
    run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)),
        cwd=source,
        env=without_node(tmp_path),
    )
    assert BUNDLE in zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
