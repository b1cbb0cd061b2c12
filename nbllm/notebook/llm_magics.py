"""The magics %llm, which manages models, and %%llm, which sends a cell as a prompt."""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import MagicArgumentParser

from nbllm.errors import NbllmError
from nbllm.escaping import say
from nbllm.notebook.prompt_cell import cell_prompt, fill_variables
from nbllm.notebook.resolve_model import resolve_model
from nbllm.notebook.stream import Stream
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.models.model import Model
    from nbllm.models.shelf import Shelf
    from nbllm.notebook.status import Status

__all__ = ["LlmMagics"]

_USAGE = "%llm load NAME, %llm list, %llm unload [NAME] or %llm status"


@magics_class
class LlmMagics(Magics):
    """The magics %llm and %%llm."""

    @line_magic("llm")  # type: ignore[arg-type]
    def manage(self, line: str) -> Any:
        """Load, list and unload models, and show the status.

            %llm load NAME [--quantize Q] [--device D] [--dtype T] [--revision R]
                           [--adapter A] [--accept-license]
            %llm list
            %llm unload [NAME]
            %llm status

        `load` has the options of nbllm.load() and returns its model: `llm = %llm load smollm2`.
        `list` shows the models in memory, on this disk, and those to fetch. `unload` frees the
        memory of one model, or of all. `status` shows memory, running jobs, and the ledger.
        """
        name, _, rest = line.strip().partition(" ")
        commands: dict[str, Callable[[str], Any]] = {
            "load": self._load,
            "list": self._list,
            "unload": self._unload,
            "status": self._status,
        }
        if name not in commands:
            problem = f"%llm has no {name!r}" if name else "%llm needs a command"
            raise UsageError(f"{problem}. Write {_USAGE}.")
        try:
            return commands[name](rest)
        except NbllmError as error:
            raise UsageError(str(error)) from error

    @cell_magic("llm")  # type: ignore[arg-type]
    def prompt(self, line: str, cell: str) -> None:
        """Send the cell to a model as a prompt, and stream the answer.

            %%llm [--model NAME] [--max-tokens N] [--temperature T] [--system TEXT] [--out NAME]
            Write a headline for this review: {review}

        Variables are in {braces}, with attributes, indices and formats as in `str.format`; a
        literal brace is {{ or }}. `--model` names a variable with a model, or a model for
        nbllm.load(); the default is the model loaded last, else the default model.
        `--max-tokens` limits the length of the answer (256), `--temperature` above 0 samples it.
        The answer is in `_`, and in the variable that `--out` names. An interrupt keeps the text
        generated so far.
        """
        assert self.shell is not None
        options = _cell_options(line)
        text = fill_variables(cell.removesuffix("\n"), self.shell.user_ns)
        from nbllm.blank import is_blank

        if is_blank(text):
            raise UsageError("%%llm needs a prompt: write it below, in the same cell.")
        # Imported here, so that %load_ext stays fast.
        from nbllm.engine.streaming import write

        try:
            model = resolve_model(self.shell, options.model)
            encoded = cell_prompt(model, text, system=options.system, room=options.max_tokens)
            stream = Stream(self.shell)
            started = time.perf_counter()
            written = write(
                model,
                encoded,
                max_new_tokens=options.max_tokens,
                temperature=options.temperature,
                on_text=stream.update,
            )
        except NbllmError as error:
            raise UsageError(str(error)) from error
        seconds = time.perf_counter() - started
        about = f"{model.name}, {counted(written.tokens, 'token')} in {seconds:.1f} s"
        if written.cut:
            about += f"; cut there, --max-tokens {2 * options.max_tokens} would allow more"
        if written.interrupted:
            about += "; interrupted"
        stream.end(written.text, about)
        # Sets `_` without displaying the answer again, as a value of the cell would be.
        self.shell.displayhook.update_user_ns(written.text)  # type: ignore[no-untyped-call]
        if options.out:
            self.shell.user_ns[options.out] = written.text

    def _load(self, line: str) -> Model:
        parser = MagicArgumentParser("%llm load", add_help=False)  # type: ignore[no-untyped-call]
        parser.add_argument("name", nargs="?")
        for option in ("quantize", "device", "dtype", "revision", "adapter"):
            parser.add_argument(f"--{option}")
        parser.add_argument("--accept-license", action="store_true", default=None)
        options = vars(_parsed(parser, line))
        from nbllm.models.loader import load

        name = options.pop("name")
        given = {key: value for key, value in options.items() if value is not None}
        return load(name, **given) if name else load(**given)

    def _list(self, line: str) -> Shelf:
        _refuse_arguments(line, "list")
        from nbllm.models.shelf import shelf

        return shelf()

    def _unload(self, line: str) -> None:
        from nbllm.models.in_memory import loaded

        held = loaded()
        for name in _words(line):
            matches = self._named(name, held)
            if not matches:
                names = ", ".join(sorted({model.name for model in held})) or "none"
                raise UsageError(f"No model {name!r} is in memory. There is: {names}.")
            _free(matches)
        if not line.strip():
            _free(held)
            if not held:
                say("No model is in memory.")

    def _named(self, name: str, held: Sequence[Model]) -> list[Model]:
        """Return the models with a name, or the model in the variable of that name."""
        from nbllm.models.model import Model

        assert self.shell is not None
        variable = self.shell.user_ns.get(name)
        if isinstance(variable, Model) and variable.loaded:
            return [variable]
        return [model for model in held if model.name == name]

    def _status(self, line: str) -> Status:
        _refuse_arguments(line, "status")
        from nbllm.notebook.status import status

        return status()


def _free(models: Sequence[Model]) -> None:
    """Unload models, including all others that share their networks."""
    from nbllm.models.in_memory import loaded
    from nbllm.models.memory.budget import held_bytes
    from nbllm.wording import byte_size

    for model in models:
        name, network = model.name, model.network
        size = byte_size(held_bytes(network))
        model.unload()
        while sharing := [other for other in loaded() if other.network is network]:
            sharing[0].unload()
        say(f"{name}: unloaded, {size} are free again.")
        del network


def _cell_options(line: str) -> Namespace:
    """Return the options of %%llm; raise UsageError for invalid ones."""
    parser = MagicArgumentParser("%%llm", add_help=False)  # type: ignore[no-untyped-call]
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T")
    parser.add_argument("--system", metavar="TEXT")
    parser.add_argument("--out", metavar="NAME")
    options = _parsed(parser, line)
    if options.max_tokens < 1:
        raise UsageError("--max-tokens takes a number of tokens, 1 or more.")
    if not 0 <= options.temperature < float("inf"):
        raise UsageError("--temperature takes 0, for the likeliest text, or a number above it.")
    if options.out is not None and not options.out.isidentifier():
        raise UsageError(f"--out {options.out} is no name for a variable.")
    return options


def _parsed(parser: MagicArgumentParser, line: str) -> Namespace:
    # Like a shell: IPython's own splitting keeps the quotes of --system "a text".
    return parser.parse_args(_words(line))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"The line cannot be read: {error}. Close its quotes.") from error


def _refuse_arguments(line: str, command: str) -> None:
    if line.strip():
        raise UsageError(f"%llm {command} takes nothing more. Leave out {line.strip()!r}.")
