"""A session with every part of nbllm, in a process that no name lookup or connection leaves.

    python tests/without_network.py FOLDER

FOLDER holds a model of each kind, and takes what is written. What was called, and what tried to
reach a network, even where the error was caught, is printed as JSON.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ATTEMPTS: list[str] = []
# Audit events of CPython: each is raised before anything is sent, whichever module asked.
_ADDRESSED = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_NAMED = {
    "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo",
}  # fmt: skip


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _ADDRESSED:
        address = arguments[_ADDRESSED[event]]
        host = address[0] if isinstance(address, tuple) else None  # a path, or none at all
    elif event in _NAMED:
        host = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
    else:
        return
    if not is_here(host):
        ATTEMPTS.append(f"{event} {host}")
        raise OSError(f"{event}: this process has no network")


def is_here(host: object) -> bool:
    """Whether a host is this machine."""
    if host in (None, "", b"", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


TEXTS = [
    "The soup was warm and the staff were kind.",
    "Terrible service: we waited an hour.",
    None,
    "Write to ann@example.org, https://example.org/a or +44 20 7946 0958.",
    "A quiet film about two brothers.",
    "Two hours of shouting.",
    "It works about every second time.",
    "The best dumplings in town.",
    "Nobody answered the telephone.",
    "A fine, gripping piece of work.",
    "The room was cold and the bed was short.",
    "We would come again.",
    "I want my money back.",
]


def calls(folder: Path) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is called, by part: each public method of df.llm, each public name, each command."""
    import ipykernel  # noqa: F401  so that runs are shown by widgets, as in a notebook
    import pandas as pd

    import nbllm

    data = pd.DataFrame({"text": TEXTS, "other": TEXTS[::-1], "stars": range(len(TEXTS))})
    data["label"] = [["positive", "negative"][n % 2] for n in range(len(data))]
    llm = data.llm
    models = {
        kind: nbllm.load(folder / f"tiny-{kind}")
        for kind in ("causal", "classifier", "encoder", "seq2seq")
    }
    causal, encoder = models["causal"], models["encoder"]
    answered = llm.sentiment("text", model=causal)
    options: dict[str, dict[str, Any]] = {
        "sentiment": {"model": causal},
        "classify": {"labels": ["food", "film"], "model": causal},
        "filter": {"predicate": "is about food", "model": causal},
        "summarize": {"model": causal, "max_words": 4},
        "translate": {"model": causal, "to": "German", "max_new_tokens": 3},
        "answer": {"model": causal, "question": "Who?", "max_new_tokens": 3},
        "extract": {"model": causal, "schema": {"good": bool}, "max_new_tokens": 44},
        "embed": {"model": encoder},
        "similarity": {"model": encoder, "other": "other"},
        "search": {"model": encoder, "query": "soup"},
        "recommend": {"model": encoder, "history": [0]},
        "reply": {"sources": TEXTS[:2], "intents": ["food", "film"], "model": causal,
                  "encoder": encoder, "max_new_tokens": 3},
        "prompt": {"model": causal, "into": "said", "max_new_tokens": 3},
        "verify": {"model": causal, "against": "other"},
        "mask": {"entities": ["EMAIL_ADDRESS", "URL", "PHONE_NUMBER"]},
    }  # fmt: skip
    subjects = {verb: "What of {text}?" if verb == "prompt" else "text" for verb in options}

    def explored() -> None:
        view = answered.llm.explore(truth="label")
        view.selected = [1]
        view._repr_mimebundle_()

    def asked(verb: str) -> Any:
        return getattr(llm, verb)(subjects[verb], **options[verb])

    def shown(method: str) -> None:
        for verb in options:
            given = {k: v for k, v in options[verb].items() if k != "into"}
            getattr(llm, method)(verb, subjects[verb], **given)

    def read(frame: Any) -> Any:
        frame.to_parquet(folder / "answered.parquet")
        return pd.read_parquet(folder / "answered.parquet")

    methods: dict[str, Callable[[], Any]] = {verb: lambda v=verb: asked(v) for verb in options}
    methods |= {
        "preview": lambda: shown("preview"),
        "estimate": lambda: shown("estimate"),
        "report": lambda: answered.llm.report(),
        "evaluate": lambda: (
            answered.llm.evaluate("label")._repr_html_(),
            asked("summarize").llm.evaluate("text", metrics=["rouge1", "bleu", "chrf"]),
        ),
        "calibrate": lambda: answered.llm.calibrate(data["label"]),
        "corrected": lambda: answered.llm.corrected({0: "positive"}),
        "explain": lambda: read(answered).llm.explain(0, model=causal).words_html(),
        "explore": explored,
    }

    def inspected() -> None:
        view = nbllm.inspect(causal, "The soup was warm.")
        view._repr_mimebundle_()
        view.to_html(folder / "view.html")

    names: dict[str, Callable[[], Any]] = {
        "load": lambda: nbllm.load().unload(),  # the default one, which is on this disk
        "llm": lambda: nbllm.llm(data).sentiment("text", model=causal),
        "shelf": lambda: repr(nbllm.shelf()),
        "estimate": lambda: repr(nbllm.estimate(folder / "tiny-causal")),
        "compare": lambda: nbllm.compare(
            causal, models["classifier"], data, "sentiment", "text", truth="label"
        )._repr_html_(),
        "record": lambda: nbllm.record(causal, "The soup was warm."),
        "inspect": inspected,
        "perplexity": lambda: nbllm.perplexity(causal, data["text"]),
        "finetune": lambda: nbllm.finetune(
            data, text="text", label="label", model=encoder, dry_run=True
        ),
        "pretrain": lambda: nbllm.pretrain(
            data, text="text", layers=1, context=16, minutes=0.1, dry_run=True
        ),
        "use_chart_theme": nbllm.use_chart_theme,
        "data": lambda: nbllm.data.load("reviews"),
        "errors": lambda: nbllm.errors,
        "stats": lambda: nbllm.stats.proportion(9, 10, 0.95),
        "ledger": lambda: nbllm.ledger.contents(),
        "verbs": lambda: nbllm.verbs.text_task(causal, "own", "Shorten the text."),
        "register_verb": lambda: own_verb(causal),
        "Model": lambda: causal._repr_html_(),
        "Recording": lambda: nbllm.record(causal, "Soup.").closure(),
    }
    return {"df.llm": methods, "nbllm": names, "command": commands(folder), "notebook": notebook()}


def own_verb(model: Any) -> Any:
    """What a verb of the user's own answers."""
    import pandas as pd

    import nbllm
    from nbllm.verbs import Verb, text_task

    @dataclass(frozen=True)
    class Options:
        """None."""

    class Shorten(Verb[Options]):
        """Shorten each text."""

        name = "shorten"
        options = Options

        def task(self, model: Any, subject: str, options: Options) -> Any:
            return text_task(model, self.name, "Shorten the text.", max_new_tokens=2)

    nbllm.register_verb(Shorten())
    return pd.DataFrame({"text": ["The soup was warm."]}).llm.shorten("text", model=model)


def commands(folder: Path) -> dict[str, Callable[[], Any]]:
    """Each command that says nothing of fetching: what is asked by name is what `get` is for."""
    from nbllm.cli import main

    return {
        "models": lambda: main(["models"]),
        "verify": lambda: main(["verify", "smollm2"]),
        "estimate": lambda: main(["estimate", str(folder / "tiny-causal")]),
        "ledger": lambda: (main(["ledger"]), main(["ledger", "purge"])),
        "notebooks": lambda: main(["notebooks"]),
    }


def notebook() -> dict[str, Callable[[], Any]]:
    """The extensions of a kernel and of a server."""
    from IPython.core.interactiveshell import InteractiveShell
    from tornado.web import Application

    import nbllm
    from nbllm.lab import _load_jupyter_server_extension
    from nbllm.lab.status import status

    server = SimpleNamespace(web_app=Application(), base_url="/", log=logging.getLogger("a server"))

    def magics() -> None:
        shell = InteractiveShell.instance()
        nbllm.load_ipython_extension(shell)
        shell.run_cell_magic("llm", "", "Say a word.")

    return {
        "server": lambda: (_load_jupyter_server_extension(server), status()),
        "kernel": magics,
    }


def main(folder: Path) -> dict[str, Any]:
    sys.addaudithook(refuse)
    warnings.simplefilter("ignore")
    called: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    for part, functions in calls(folder).items():
        for name, function in functions.items():
            before = len(ATTEMPTS)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    function()
            except Exception as error:
                failed[f"{part} {name}"] = f"{type(error).__name__}: {error}"[:500]
            ATTEMPTS[before:] = [f"{part} {name}: {attempt}" for attempt in ATTEMPTS[before:]]
            called.setdefault(part, []).append(name)
    return {"called": called, "failed": failed, "attempts": ATTEMPTS}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
