"""The floors of the house: a module imports only from the floors below its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbllm

PACKAGE = Path(nbllm.__file__).parent

FLOORS = {
    "escaping": -1,  # below errors, warnings and bars, whose words go through it
    "__version__": 0,  # of the package itself, nothing but a string
    "blank": 0,
    "errors": 0,
    "home": 0,
    "progress_bar": 0,
    "versions": 0,
    "_warnings": 0,
    "wording": 0,
    "_deprecation": 1,
    "checks": 1,
    "json_file": 1,
    "activity": 1,
    "models": 2,
    "data": 2,
    "engine": 3,
    "frame": 4,
    "attention": 4,
    "train": 5,
    "widgets": 5,
    "accessor": 6,
    "notebook": 6,
    "lab": 6,
    "cli": 7,
    "__main__": 8,
}


def imported(source: str, module: str, is_package: bool) -> Iterator[str]:
    """The dotted nbllm modules that the source imports, wherever in it that stands."""
    parts = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package
            base = parts[: len(parts) - up] if node.level else []
            origin = [*base, *(node.module.split(".") if node.module else [])]
            # `from nbllm import frame` names a room; `from nbllm.frame import x` need not.
            names = [".".join([*origin, alias.name]) for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "nbllm")


def offences(source: str, module: str, is_package: bool = False) -> list[str]:
    """What the source imports from a floor that is not below its own room's."""
    room = module.split(".")[1]
    found = []
    for name in imported(source, module, is_package):
        other = name.removeprefix("nbllm").removeprefix(".").partition(".")[0]
        if other == room:
            continue
        if other not in FLOORS:
            found.append(f"{module} imports {name}: the package itself, or a room with no floor")
        elif FLOORS[other] >= FLOORS[room]:
            found.append(f"{module} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[other]})")
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def dotted(path: Path) -> str:
    inside = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(inside.parts).removesuffix(".__init__")


def test_every_room_has_a_floor() -> None:
    rooms = {dotted(path).split(".")[1] for path in modules()}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_only_from_floors_below(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert offences(source, dotted(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nbllm.engine.runner", "import nbllm.frame.running.run"),
        ("nbllm.engine.runner", "from nbllm.frame import run"),
        ("nbllm.engine.runner", "from nbllm import frame"),
        ("nbllm.engine.runner", "from ..widgets import attention"),
        ("nbllm.models.loader", "def f():\n    from nbllm.engine.prompt import Prompt"),
        ("nbllm.frame.running.run", "from nbllm.attention import capture"),
        ("nbllm.frame.running.run", "import nbllm"),
        ("nbllm.errors", "from nbllm import home"),
    ],
)
def test_an_import_from_above_or_beside_is_found(module: str, source: str) -> None:
    assert offences(source, module) != []


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        ("nbllm.engine.runner", "from nbllm.models.model import Model", False),
        ("nbllm.engine.runner", "from .prompt import Prompt", False),
        ("nbllm.engine", "from .prompt import Prompt", True),
        ("nbllm.accessor", "from .frame import run", False),
        ("nbllm.widgets.attention.view", "import anywidget, numpy", False),
    ],
)
def test_an_import_from_below_or_outside_passes(module: str, source: str, is_package: bool) -> None:
    assert offences(source, module, is_package) == []
