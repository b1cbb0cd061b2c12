"""The house: floors, no circles, modules of a readable length, and tests beside what they test.

A module imports only from the floors below its own, no two modules import each other by any way
round, and the sub-rooms of a room have an order too. A verb is named in its own file alone.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import nbllm

PACKAGE = Path(nbllm.__file__).parent
ROOT = PACKAGE.parent
TESTS = Path(__file__).parent

FLOORS = {
    "escaping": -1,  # below errors, warnings and bars, whose words go through it
    "__version__": 0,  # of the package itself, nothing but a string
    "blank": 0,
    "errors": 0,
    "home": 0,
    "stats": 0,
    "versions": 0,
    "_warnings": 0,
    "wording": 0,
    "_deprecation": 1,
    "checks": 1,
    "display": 1,
    "storage": 1,
    "activity": 2,
    "data": 3,
    "models": 3,
    "engine": 4,
    "ledger": 5,  # what users reach as `nbllm.ledger`
    "frame": 5,
    "attention": 5,
    "train": 6,
    "widgets": 6,
    "_verb_methods": 6,
    "accessor": 7,
    "registration": 8,
    "verbs": 6,  # what users reach as `nbllm.verbs`
    "notebook": 7,
    "lab": 7,
    "cli": 8,
    "__main__": 9,
}

LONGEST = 400  # lines of a module that is written by hand

VERBS = "nbllm.frame.verbs"
VERB_NAMES = {path.stem for path in (PACKAGE / "frame/verbs").glob("[a-z]*.py")}
OTHER_MEANINGS = {
    "answer",
    "mask",
    "prompt",
    "similarity",
    "verify",
}  # of strings that name a verb too

# Tests of several modules together, or of nbllm as a whole.
OF_SEVERAL = {
    "activity/test_strangers.py",
    "attention/test_capture_batch.py",
    "attention/test_capture_generation.py",
    "attention/test_device_maps.py",
    "attention/test_names.py",
    "frame/test_any_text.py",
    "frame/test_blank_cells.py",
    "frame/test_check_first.py",
    "frame/test_chinese.py",
    "frame/test_labels.py",
    "frame/test_lists_of_strings.py",
    "frame/test_neighbours.py",
    "frame/test_questions.py",
    "frame/test_resume.py",
    "frame/test_rounding.py",
    "frame/test_sst2.py",
    "frame/test_strangers_records.py",
    "frame/test_templates.py",
    "frame/test_verbs.py",
    "lab/test_activity.py",
    "lab/test_routes.py",
    "models/test_architectures.py",
    "models/test_device_maps.py",
    "models/test_strangers.py",
    "models/test_unloading.py",
    "test_architecture.py",
    "test_arguments.py",
    "test_doctests.py",
    "test_import.py",
    "test_model_by_name.py",
    "test_time_limits.py",
    "test_without_network.py",
    "widgets/test_freed.py",
    "widgets/test_messages.py",
    "widgets/attention/test_one_number.py",
}
# Folders of such tests.
FOLDERS_OF_SEVERAL = {
    "architectures", "benchmarks", "browser", "docs", "notebooks", "packaging", "pretended",
    "tools",
}  # fmt: skip


def imported(source: str, module: str, is_package: bool, types: bool = True) -> Iterator[str]:
    """The dotted nbllm modules that the source imports, wherever in it that stands.

    Args:
        types: whether to look under `if TYPE_CHECKING:` too.
    """
    parts = module.split(".")
    for node in nodes(ast.parse(source), types):
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


def nodes(tree: ast.AST, types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if checking and not types:
            continue
        yield node
        yield from nodes(node, types)


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


@cache
def imports(types: bool) -> dict[str, set[str]]:
    """By module, the other modules of nbllm that it imports."""
    names = {dotted(path) for path in modules()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in modules():
        name, source = dotted(path), path.read_text(encoding="utf-8")
        for other in imported(source, name, path.name == "__init__.py", types):
            target = other if other in names else other.rpartition(".")[0]
            if target in names and target != name:
                found[name].add(target)
    return found


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The groups of two nodes or more that can be reached from each other."""
    names = sorted(graph)
    place = {name: n for n, name in enumerate(names)}
    edges = [(place[name], place[other]) for name in names for other in graph[name]]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    matrix = csr_array((np.ones(len(edges)), (rows, columns)), shape=(len(names),) * 2)
    count, group = connected_components(matrix, directed=True, connection="strong")
    found = [[name for name in names if group[place[name]] == n] for n in range(count)]
    return sorted(names for names in found if len(names) > 1)


def circles_of_modules() -> Iterator[str]:
    """Modules that import each other, also where only a type checker would."""
    for names in circles(imports(types=True)):
        yield "circle: " + ", ".join(name.removeprefix("nbllm.") for name in names)


def circles_of_sub_rooms() -> Iterator[str]:
    """Of each folder, the modules and sub-rooms that import each other when they are used."""
    folders = {path.parent for path in modules() if path.parent != PACKAGE}
    graph = imports(types=False)
    for folder in sorted(folders):
        room = ".".join(folder.relative_to(ROOT).parts) + "."
        inner: dict[str, set[str]] = defaultdict(set)
        for name, others in graph.items():
            if name.startswith(room):
                part = name.removeprefix(room).partition(".")[0]
                beside = (other for other in others if other.startswith(room))
                inner[part] |= {other.removeprefix(room).partition(".")[0] for other in beside}
        whole = {name: inner[name] - {name} for name in list(inner)}
        for names in circles(whole):
            yield f"sub-rooms of {room.removeprefix('nbllm.')[:-1]}: {', '.join(names)}"


def long_modules() -> Iterator[str]:
    """Modules of more than 400 lines that no tool wrote."""
    for path in modules():
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > LONGEST and not any("Generated by tools/" in line for line in lines[:5]):
            yield f"long: {path.relative_to(ROOT).as_posix()}"


def lonely_tests() -> Iterator[str]:
    """Test modules that stand neither beside what they test nor among those of several."""
    for path in TESTS.rglob("test_*.py"):
        inside = path.relative_to(TESTS)
        name = inside.name.removeprefix("test_")
        tested = [PACKAGE / inside.with_name(one) for one in (name, f"_{name}")]
        known = inside.as_posix() in OF_SEVERAL or inside.parts[0] in FOLDERS_OF_SEVERAL
        if not known and not any(path.exists() for path in tested):
            yield f"no module of test: {inside.as_posix()}"


def named_verbs(source: str) -> Iterator[str]:
    """The places of a module that name a verb: by its file, or by a string that stands for it.

    Docstrings may name one, and so may a message, as one word of several. "answer", "prompt" and
    the like are roles and columns too, and count only where they are compared with a verb.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{VERBS}."):
            yield f"{node.lineno}: import of {node.module}"
        elif isinstance(node, ast.Constant) and node.value in VERB_NAMES - OTHER_MEANINGS:
            yield f"{node.lineno}: {node.value}"
        elif isinstance(node, (ast.Compare, ast.Call)) and "verb" in ast.unparse(node).lower():
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else node.args
            inner = [one for part in parts for one in ast.walk(part)]
            for one in inner:
                if isinstance(one, ast.Constant) and one.value in VERB_NAMES & OTHER_MEANINGS:
                    yield f"{node.lineno}: {one.value}"


def verbs_outside_their_files() -> Iterator[str]:
    """Modules that name a verb. A verb that is composed of others imports them, and no more."""
    for path in modules():
        name = dotted(path)
        if name != "nbllm._verb_methods" and not name.startswith(VERBS):
            for place in named_verbs(path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(ROOT).as_posix()}:{place}"


RULES = (
    circles_of_modules,
    circles_of_sub_rooms,
    long_modules,
    lonely_tests,
    verbs_outside_their_files,
)


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule) -> None:
    assert sorted(rule()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from nbllm.frame.verbs.answer import Options",
        "names = {'summarize': 3}",
        "if record['verb'] == 'prompt':\n    pass",
        "verb in ('mask', 'embed')",
        "find_verb('answer')",
    ],
)
def test_a_verb_that_is_named_elsewhere_is_found(source: str) -> None:
    assert list(named_verbs(source)) != []


@pytest.mark.parametrize("source", ["role = 'answer'", "'as the verb summarize does'"])
def test_other_words_name_no_verb(source: str) -> None:
    assert list(named_verbs(source)) == []


def test_what_is_listed_as_of_several_modules_is_there_and_is_not_of_one() -> None:
    for name in OF_SEVERAL:
        path = Path(name)
        assert (TESTS / path).exists(), name
        assert not (PACKAGE / path.with_name(path.name.removeprefix("test_"))).exists(), name


def test_circles_are_found_whatever_their_length() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"f"}, "f": {"e"}}
    assert circles(graph) == [["a", "b", "c"], ["e", "f"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_for_types_are_told_apart() -> None:
    source = "if TYPE_CHECKING:\n    from nbllm.b import c\ndef f():\n    from nbllm.d import e"
    assert list(imported(source, "nbllm.a", False)) == ["nbllm.b.c", "nbllm.d.e"]
    assert list(imported(source, "nbllm.a", False, types=False)) == ["nbllm.d.e"]
