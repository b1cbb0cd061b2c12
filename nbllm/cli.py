"""The command line: `nbllm models | get | remove | verify | estimate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nbllm.errors import NbllmError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those of the process unless given.

    Returns the exit status: 0 where it worked, 1 where nbllm could not do it and said why on
    standard error, 130 where it was interrupted. argparse ends with 2 at a wrong usage.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except NbllmError as error:
        print(f"nbllm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("nbllm: interrupted", file=sys.stderr)
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
        "--accept-license", action="store_true", help="say yes to a licence that asks for it"
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
    estimate.set_defaults(run=_estimate)
    return parser


# What a command needs is imported when it runs: torch takes seconds, and most need none.


def _models(options: argparse.Namespace) -> int:
    from nbllm.models.shelf import shelf

    print(shelf())
    return 0


def _get(options: argparse.Namespace) -> int:
    from nbllm.models.sources import fetch

    fetched = fetch(options.name, options.revision, accept_license=options.accept_license)
    print(fetched.folder)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from nbllm.models.memory import readable
    from nbllm.models.shelf import shelf

    print(f"{options.name}: {readable(shelf().remove(options.name))} given back")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from nbllm.models.shelf import shelf

    checked = shelf().verify(options.name)
    if not checked:
        print("No model is on this disk.")
    for model in checked:
        print(model, file=sys.stdout if model.ok else sys.stderr)
    return 0 if all(model.ok for model in checked) else 1


def _estimate(options: argparse.Namespace) -> int:
    from nbllm.models.estimate import estimate

    print(
        estimate(
            options.name,
            quantize=options.quantize,
            context=options.context,
            batch=options.batch,
            revision=options.revision,
        )
    )
    return 0
