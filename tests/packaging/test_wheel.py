"""What is published installs and works where there is no Node."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import nbllm

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BUNDLE = "nbllm/widgets/static/attention.js"
DATA = f"nbllm-{nbllm.__version__}.data/data"
LABEXTENSION = f"{DATA}/share/jupyter/labextensions/nbllm"
SERVER_CONFIG = f"{DATA}/etc/jupyter/jupyter_server_config.d/nbllm.json"


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


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, where no Node is on PATH."""

    prefix: Path
    environment: dict[str, str]

    def python(self, *arguments: str) -> tuple[str, str]:
        """What its Python prints on stdout and stderr, without colours."""
        done = subprocess.run(
            [str(self.prefix / "bin" / "python"), *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.prefix,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        plain = partial(re.sub, r"\x1b\[\d*m", "")
        return plain(done.stdout), plain(done.stderr)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("clean")
    prefix = folder / "environment"
    venv.create(prefix, symlinks=True)
    # Its libraries are those that the tests run with, but for nbllm: the .pth file by which
    # these see the checkout is not read in a folder that is itself named by one.
    site = sysconfig.get_path("purelib", vars={"base": str(prefix)})
    Path(site, "libraries.pth").write_text(sysconfig.get_path("purelib"))
    environment = without_node(folder) | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "NBLLM_HOME": str(folder / "home"),
    }
    environment.pop("JUPYTER_PATH", None)
    pip = (sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), "install")
    run(*pip, "--quiet", "--no-deps", "--no-index", str(wheel), env=environment)
    return Installed(prefix, environment)


def test_wheel_holds_bundles_data_and_notebooks_and_no_sources_of_them(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert BUNDLE in names
    assert any(name.startswith("nbllm/data/sets/") for name in names)
    assert "nbllm/py.typed" in names, "type checkers read no annotations without it"
    metadata = f"nbllm-{nbllm.__version__}.dist-info"
    assert f"{metadata}/licenses/LICENSE" in names
    assert [n for n in names if n.endswith((".ts", ".tsx", ".map"))] == []
    notebooks = [
        f"nbllm/lab/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")
    ]
    assert sorted(n for n in names if n.endswith(".ipynb")) == sorted(notebooks)
    assert {name.partition("/")[0] for name in names} == {"nbllm", metadata, DATA.split("/")[0]}


def test_wheel_holds_a_prebuilt_extension_of_its_version(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel)
    names = set(packed.namelist())
    package = json.loads(packed.read(f"{LABEXTENSION}/package.json"))
    assert (package["name"], package["version"]) == ("nbllm", nbllm.__version__)
    assert f"{LABEXTENSION}/{package['jupyterlab']['_build']['load']}" in names
    assert f"{LABEXTENSION}/schemas/nbllm/plugin.json" in names
    told = json.loads(packed.read(f"{LABEXTENSION}/install.json"))
    assert (told["packageManager"], told["packageName"]) == ("python", "nbllm")
    enabled = json.loads(packed.read(SERVER_CONFIG))
    assert enabled == {"ServerApp": {"jpserver_extensions": {"nbllm.lab": True}}}


def test_the_extension_asks_for_no_newer_jupyterlab_than_nbllm_does(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel)
    package = json.loads(packed.read(f"{LABEXTENSION}/package.json"))
    shared = package["jupyterlab"]["sharedPackages"]
    assert shared.keys() == package["dependencies"].keys()
    assert shared["@jupyterlab/application"]["requiredVersion"] == "^4.2.0"
    entry = packed.read(f"{LABEXTENSION}/{package['jupyterlab']['_build']['load']}").decode()
    # The builder's own demand is that of the JupyterLab it belongs to.
    consumed = re.findall(r'shareKey:"(@jupyterlab/[^"]+)"[^}]*?requiredVersion:"([^"]+)"', entry)
    assert dict(consumed)["@jupyterlab/application"] == "^4.2.0"


def test_the_package_index_shows_where_the_project_lives(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"nbllm-{nbllm.__version__}.dist-info/METADATA").decode()
    shown = dict(re.findall(r"^Project-URL: (\w+), (https://\S+)$", metadata, re.MULTILINE))
    assert shown.keys() == {"Homepage", "Repository", "Documentation", "Changelog", "Issues"}


def test_wheel_is_at_most_1_25_mib(wheel: Path) -> None:
    assert wheel.stat().st_size <= 5 * 2**18


def test_both_extensions_are_enabled_without_node(installed: Installed) -> None:
    lab = "".join(installed.python("-m", "jupyterlab.labextensions", "list"))
    assert re.search(rf"nbllm v{nbllm.__version__} enabled OK \(python, nbllm\)", lab), lab
    listed = installed.python("-m", "jupyter_server.extension.serverextension", "list")
    server = "".join(listed)
    assert re.search(
        r"nbllm\.lab enabled\s+- Validating nbllm\.lab\.\.\.\s+nbllm\.lab \S+ OK", server
    ), server


def test_an_installed_wheel_has_its_widget_and_its_gallery(installed: Installed) -> None:
    said, _ = installed.python(
        "-c",
        "import nbllm, nbllm.widgets.attention.view as module, anywidget\n"
        "from nbllm.lab.gallery import curated_notebooks\n"
        "widgets = [v for v in vars(module).values() if isinstance(v, type)\n"
        "           and issubclass(v, anywidget.AnyWidget) and '_esm' in vars(v)]\n"
        "print(nbllm.__file__, [len(str(v._esm)) > 1000 for v in widgets])\n"
        "print(len(curated_notebooks()))",
    )
    file, *rest = said.split()
    assert Path(file).is_relative_to(installed.prefix)
    assert rest == ["[True]", str(len(list((ROOT / "notebooks").glob("*.ipynb"))))]


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
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert BUNDLE in names
    assert f"{LABEXTENSION}/install.json" in names
    assert SERVER_CONFIG in names
