"""%load_ext nbllm and %%attention, in a shell of IPython's own."""

import subprocess
import sys

import pytest
from IPython.core.error import UsageError

import nbllm
import nbllm.models.loader as loader
from nbllm.errors import SelectionError, UnknownModelError
from nbllm.models import in_memory
from nbllm.notebook import extension

TEXT = "The soup was warm, and {the staff} were kind."


def test_the_view_is_returned_and_is_of_the_cells_text_as_it_stands(loaded) -> None:
    loaded.user_ns["the"] = "not this"
    view = loaded.run_cell_magic("attention", "--model llm --layer 0 --head 3", TEXT + "\n")
    assert view.recording.text == TEXT
    assert (view.layer, view.head) == (0, 3)


def test_a_cell_of_the_notebook_has_the_view_as_its_value(loaded) -> None:
    done = loaded.run_cell(f"%%attention --model llm\n{TEXT}")
    assert done.success
    assert done.result.recording.text == TEXT


def test_without_a_model_the_one_that_verbs_take(loaded, tiny_llama, monkeypatch) -> None:
    monkeypatch.setattr(loader, "choose", lambda given: tiny_llama)
    assert loaded.run_cell_magic("attention", "", TEXT).recording.model == tiny_llama.name


def test_a_model_is_named_as_load_takes_it_and_loaded_once(loaded, tiny_folder) -> None:
    folder = str(tiny_folder("causal"))
    for _ in range(2):
        view = loaded.run_cell_magic("attention", f"--model {folder}", TEXT)
        assert view.recording.model == folder
    [model] = [model for model in in_memory.loaded() if model.name == folder]
    assert in_memory.holders(model) == 1
    model.unload()


def test_the_model_writes_on(loaded) -> None:
    plain = loaded.run_cell_magic("attention", "--model llm", TEXT)
    view = loaded.run_cell_magic("attention", "--model llm --generate 4", TEXT)
    assert view.recording.prompt_length == len(plain.recording)
    assert len(plain.recording) < len(view.recording) <= len(plain.recording) + 4


@pytest.mark.parametrize(
    ("line", "cell", "error", "said"),
    [
        ("", " \n", UsageError, "needs a text"),
        ("--colour red", TEXT, UsageError, "unrecognized arguments: --colour red"),
        ("--layer first", TEXT, UsageError, "invalid int value"),
        ("--generate -1", TEXT, UsageError, "0 or more"),
        ("--model llm --layer 2", TEXT, SelectionError, "layer 2 is not in this recording"),
        ("--model no_such_model", TEXT, UnknownModelError, "no_such_model"),
    ],
)
def test_bad_input_is_told(loaded, line, cell, error, said) -> None:
    with pytest.raises(error, match=said):
        loaded.run_cell_magic("attention", line, cell)


def test_unloading_takes_the_magic_away(loaded) -> None:
    loaded.run_line_magic("unload_ext", "nbllm")
    assert "attention" not in loaded.magics_manager.magics["cell"]


def test_unloading_puts_back_what_had_the_name(shell) -> None:
    def other(line: str, cell: str) -> str:
        return "other"

    shell.register_magic_function(other, "cell", "attention")
    for _ in range(2):  # also by %reload_ext, which loads again
        nbllm.load_ipython_extension(shell)
    assert shell.run_cell_magic is not None
    assert shell.magics_manager.magics["cell"]["attention"] is not other
    nbllm.unload_ipython_extension(shell)
    assert shell.run_cell_magic("attention", "", "x") == "other"
    nbllm.unload_ipython_extension(shell)
    assert shell.run_cell_magic("attention", "", "x") == "other"


def test_it_can_be_reloaded(loaded) -> None:
    loaded.run_line_magic("reload_ext", "nbllm")
    assert loaded.run_cell_magic("attention", "--model llm", TEXT).recording.text == TEXT
    loaded.run_line_magic("unload_ext", "nbllm")
    assert "attention" not in loaded.magics_manager.magics["cell"]


def test_loading_the_extension_imports_nothing_heavy() -> None:
    code = (
        "import sys, nbllm; from IPython.core.interactiveshell import InteractiveShell;"
        "nbllm.load_ipython_extension(InteractiveShell.instance());"
        "print({'torch', 'transformers', 'pandas', 'anywidget'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_extension_keeps_no_shell_alive(shell) -> None:
    extension.load(shell)
    assert len(extension._replaced) >= 1
    extension.unload(shell)
    assert shell not in extension._replaced
