"""The command line: `nbllm models | get | remove | verify | estimate | ledger | notebooks`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nbllm.errors import NbllmError
from nbllm.escaping import say
from nbllm.wording import counted

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the command line.

    Args:
        arguments: The arguments; those of the process by default.

    Returns:
        The exit status: 0 for success, 1 for an error, whose message is on standard error, and 130
        for an interrupt. argparse exits with 2 for wrong usage.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except NbllmError as error:
        say(f"nbllm: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        say("nbllm: interrupted", error=True)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbllm", description="Language models on this machine: fetch, list, check, remove."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    name = "a name of the shelf, a .gguf file, or owner/name on the Hugging Face hub"

    models = commands.add_parser("models", help="list what can be had and what is on this disk")
    models.set_defaults(run=_models)

    get = commands.add_parser("get", help="fetch a model, so that it loads without network")
    get.add_argument("name", help=name)
    get.add_argument("--revision", help="a commit, branch or tag of the hub")
    get.add_argument(
        "--accept-license", action="store_true", help="accept a licence that requires it"
    )
    get.set_defaults(run=_get)

    remove = commands.add_parser("remove", help="delete a model from this disk")
    remove.add_argument("name", help=name)
    remove.set_defaults(run=_remove)

    verify = commands.add_parser("verify", help="compare files with the hashes on record")
    verify.add_argument("name", nargs="?", help=f"{name}; all models where none is given")
    verify.set_defaults(run=_verify)

    estimate = commands.add_parser("estimate", help="say how much memory a model will take")
    estimate.add_argument("name", help=f"{name}, or a folder")
    estimate.add_argument("--revision", help="a commit, branch or tag of the hub")
    estimate.add_argument(
        "--quantize", action="append", metavar="Q", help="none, int8, nf4 ...; may be repeated"
    )
    estimate.add_argument("--context", type=int, metavar="TOKENS", help="of one text")
    estimate.add_argument("--batch", type=int, default=1, metavar="TEXTS", help="at once")
    estimate.add_argument(
        "--device", default="auto", metavar="D", help="cpu, cuda, or a card: 4090, 2x4090, T4 ..."
    )
    estimate.add_argument(
        "--dtype", default="auto", metavar="T", help="fp32, bf16 or fp16; auto if not said"
    )
    estimate.set_defaults(run=_estimate)

    ledger = commands.add_parser("ledger", help="say what answers are kept, or delete them")
    ledger.set_defaults(run=_ledger)
    purge = ledger.add_subparsers(metavar="COMMAND").add_parser("purge", help="delete answers")
    purge.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only of runs that began before that"
    )
    purge.set_defaults(run=_purge)

    notebooks = commands.add_parser("notebooks", help="list the curated notebooks, or copy one")
    notebooks.add_argument("name", nargs="?", help="as the list has it; sentiment will do")
    notebooks.add_argument(
        "--to", metavar="FOLDER", default=".", help="where the copy goes; this folder if not said"
    )
    notebooks.set_defaults(run=_notebooks)
    return parser


# What a command needs is imported when it runs: torch takes seconds, and most need none.


def _models(options: argparse.Namespace) -> int:
    from nbllm.models.shelf import shelf

    say(shelf())
    return 0


def _get(options: argparse.Namespace) -> int:
    from nbllm.models.fetch.sources import fetch

    fetched = fetch(options.name, options.revision, accept_license=options.accept_license)
    say(fetched.folder)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from nbllm.models.shelf import shelf
    from nbllm.wording import byte_size

    say(f"{options.name}: {byte_size(shelf().remove(options.name))} given back")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from nbllm.models.shelf import shelf

    checked = shelf().verify(options.name)
    if not checked:
        say("No model is on this disk.")
    for model in checked:
        say(model, error=not model.ok)
    return 0 if all(model.ok for model in checked) else 1


def _estimate(options: argparse.Namespace) -> int:
    from nbllm.models.estimate.estimate import estimate

    names = ("quantize", "context", "batch", "device", "dtype", "revision")
    say(estimate(options.name, **{name: getattr(options, name) for name in names}))
    return 0


def _ledger(options: argparse.Namespace) -> int:
    from datetime import datetime

    from nbllm.engine.ledger import Ledger, ledger_path
    from nbllm.wording import byte_size

    path = ledger_path()
    if not path.exists():
        say(f"{path}: nothing is kept yet.")
        return 0
    with Ledger(path) as ledger:
        if ledger.path is None:  # it has said why
            return 1
        say(f"{path}: {byte_size(ledger.size)}")
        for filed in ledger.contents():
            kept = counted(filed.answers, "answer")
            if filed.started is None:
                kept += ", of runs that were killed"
            else:
                day = datetime.fromtimestamp(filed.started)
                kept += f" of {counted(filed.runs, 'run')}, the newest of {day:%Y-%m-%d}"
            say(f"  {filed.verb:<11} {kept}")
    return 0


def _purge(options: argparse.Namespace) -> int:
    from nbllm.engine.ledger import Ledger, ledger_path
    from nbllm.wording import byte_size

    path = ledger_path()
    if not path.exists():
        say(f"{path}: nothing is kept yet.")
        return 0
    with Ledger(path) as ledger:
        if ledger.path is None:
            return 1
        before = ledger.size
        days = options.older_than
        deleted = ledger.purge(older_than=None if days is None else days * 86400)
        given_back = byte_size(max(0, before - ledger.size))
    say(f"{path}: {counted(deleted, 'answer')} deleted, {given_back} given back")
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from nbllm.lab.gallery import copy_notebook, curated_notebooks

    if options.name is not None:
        say(copy_notebook(options.name, options.to))
        return 0
    available = curated_notebooks()
    if not available:
        say("No curated notebooks are in this installation.")
    width = max((len(notebook.name) for notebook in available), default=0)
    for notebook in available:
        takes = f" ({notebook.minutes} min)" if notebook.minutes else ""
        say(f"{notebook.name:<{width}}  {notebook.title}{takes}")
    return 0
