"""nbllm's exceptions: the tree is as drawn, Python's own catch them, and no other is raised."""

import ast
import builtins
import importlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbllm
from nbllm import errors
from nbllm.engine.runner import is_out_of_memory

PACKAGE = Path(nbllm.__file__).parent
CLASSES = {name: getattr(errors, name) for name in errors.__all__}

# What no argument of a user's can cause, and why.
INTERNAL = {
    ("activity/records.py", "finite_number", "ValueError"): "read_records catches it",
    ("activity/jobs.py", "from_json", "ValueError"): "read_records catches it",
    ("frame/evaluation/base.py", "measures", "NotImplementedError"): "an abstract property",
    ("engine/scoring.py", "__init__", "ValueError"): "label_ids refuses such labels before",
    ("lab/gallery.py", "copy_notebook", "AssertionError"): "cannot be reached",
    ("attention/recording/storage.py", "read", "ValueError"): "check_layer_calls refuses it before",
    ("models/devices/device.py", "choose_device", "RuntimeError"): "caught where torch's own is",
    ("models/fetch/hub.py", "_info", "OfflineModeIsEnabled"): "fetch explains it as the hub's own",
    ("widgets/explorer/view.py", "_answer", "ValueError"): "the view's own page sends nothing else",
    ("widgets/run/view.py", "_answer", "ValueError"): "the view's own page sends nothing else",
    ("frame/verbs/mask.py", "task", "NotImplementedError"): "mask runs no model",
    **{
        ("_verb_methods.py", method, "NotImplementedError"): "the accessors override it"
        for method in ("_call", "_preview", "_estimate", "_subject")
    },
}
ALWAYS = {"AttributeError", "UsageError", "HTTPError", "SystemExit", "KeyboardInterrupt"}


def drawn() -> dict[str, tuple[str, str | None]]:
    """Each class of the module's drawing: its parent, and the exception of Python's it names."""
    found: dict[str, tuple[str, str | None]] = {}
    above: list[str] = ["NbllmError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ├└─]+)(\w+)(?:\s{2,}.*?)?(?:\((\w+(?:, \w+)*)\))?$", line)
        if match:
            depth = len(match[1]) // 4
            found[match[2]] = (above[depth - 1], match[3])
            above[depth:] = [match[2]]
    return found


def test_the_drawing_is_the_tree() -> None:
    assert drawn().keys() | {"NbllmError"} == CLASSES.keys()
    for name, (parent, builtin) in drawn().items():
        bases = [base.__name__ for base in CLASSES[name].__bases__]
        assert bases == [parent, *(builtin.split(", ") if builtin else [])], name


@pytest.mark.parametrize("name", CLASSES)
def test_a_message_is_said_as_it_is_and_survives_a_process(name: str) -> None:
    message = "there is no column 'a'.\nIt has: \"b\"."
    error = CLASSES[name](message)
    assert str(error) == message
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CLASSES[name] and str(again) == message
    assert not is_out_of_memory(CLASSES[name]("CUDA out of memory"))


@pytest.mark.parametrize(
    ("kind", "caught"),
    [
        (errors.ColumnError, KeyError),
        (errors.LabelError, ValueError),
        (errors.ArgumentError, TypeError),
        (errors.SelectionError, IndexError),
        (errors.UnknownModelError, LookupError),
        (errors.DownloadError, OSError),
        (errors.TooLargeError, MemoryError),
    ],
)
def test_pythons_own_catch_them(kind: type[Exception], caught: type[Exception]) -> None:
    with pytest.raises(caught):
        raise kind("no")


def raised(path: Path) -> Iterator[tuple[str, str]]:
    """The function and the name of each exception that a file raises by a name of its own."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield from visit(child, child.name)
                continue
            if isinstance(child, ast.Raise) and child.exc is not None:
                made = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
                if isinstance(made, ast.Name) and made.id[0].isupper():
                    yield function, made.id
                elif isinstance(made, ast.Attribute) and made.attr[0].isupper():
                    yield function, made.attr
            yield from visit(child, function)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), "")


def test_what_is_raised_is_nbllms_own() -> None:
    met = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        private = set(re.findall(r"^class (_\w+)\(Exception\)", path.read_text(), re.M))
        for function, kind in raised(path):
            if kind not in CLASSES.keys() | ALWAYS | private:
                met.add((name, function, kind))
    assert met == INTERNAL.keys()


# Handlers of Python's exceptions around code of nbllm that raises none of its own.
RAISES_NONE_OF_OURS = {
    "activity/jobs.py": 2,
    "activity/processes.py": 1,
    "activity/records.py": 3,
    "attention/recording/storage.py": 1,
    "engine/ledger.py": 1,
    "frame/evaluation/masks.py": 1,
    "frame/running/provenance.py": 1,  # LedgerError is named
    "frame/tasks/fields.py": 1,  # whatever parsing raises, it is no answer
    "models/fetch/cache.py": 1,
    "models/fetch/cached_models.py": 1,
    "models/weights.py": 1,
    "models/fetch/wheel.py": 1,
    "models/flops.py": 1,
    "notebook/prompt_cell.py": 2,
}


def swallowing(path: Path) -> Iterator[int]:
    """The lines of `try` whose handlers may take an error of nbllm's for one of Python's.

    There is code of nbllm within, or what a `with` holds, and no `except NbllmError` before.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbllm"):
            own |= {alias.asname or alias.name for alias in node.names}
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Try):
            continue
        names = vars(builtins) | vars(importlib.import_module(module.removesuffix(".__init__")))
        inside = [part for statement in node.body for part in ast.walk(statement)]
        called = {
            part.func.id if isinstance(part.func, ast.Name) else part.func.attr
            for part in inside
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name | ast.Attribute)
        }
        if not called & own and not any(isinstance(p, ast.Yield | ast.YieldFrom) for p in inside):
            continue
        for handler in node.handlers:
            try:
                kinds = eval(ast.unparse(handler.type), names) if handler.type else BaseException
            except NameError:  # imported within a function: another library's
                continue
            kinds = kinds if isinstance(kinds, tuple) else (kinds,)
            if errors.NbllmError in kinds:
                break
            if any(
                issubclass(ours, kind) and kind not in (Exception, BaseException)
                for kind in kinds
                for ours in CLASSES.values()
                if not issubclass(kind, errors.NbllmError)
            ):
                yield node.lineno
                break


def test_no_handler_of_pythons_errors_swallows_one_of_ours() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): len(lines)
        for path in sorted(PACKAGE.rglob("*.py"))
        if "lab" not in path.parts and (lines := list(swallowing(path)))
    }
    assert found == RAISES_NONE_OF_OURS
