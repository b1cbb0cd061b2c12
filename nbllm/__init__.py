"""nbllm: a language model as one more column operation in a notebook.

Heavy dependencies are imported on first use. Importing nbllm only registers `.llm` on the
DataFrames of pandas and polars, at once or when these are imported.

    >>> import nbllm, pandas as pd
    >>> df = pd.DataFrame({"review": ["A delight from start to finish."]})
    >>> df.llm.sentiment("review")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    from nbllm import data, errors, ledger, stats, verbs
    from nbllm.attention.recording.capture import Recording, record
    from nbllm.display.theme import use_chart_theme
    from nbllm.engine.perplexity import perplexity
    from nbllm.frame.calls.folder import answer_folder
    from nbllm.frame.calls.registry import register_verb
    from nbllm.frame.comparison.runs import compare
    from nbllm.models.estimate.estimate import estimate
    from nbllm.models.loader import load
    from nbllm.models.model import Model
    from nbllm.models.shelf import shelf
    from nbllm.registration import llm
    from nbllm.train.finetuning import finetune
    from nbllm.train.pretraining import pretrain
    from nbllm.widgets.attention.view import inspect

__all__ = [
    "Model",
    "Recording",
    "__version__",
    "answer_folder",
    "compare",
    "data",
    "errors",
    "estimate",
    "finetune",
    "inspect",
    "ledger",
    "llm",
    "load",
    "perplexity",
    "pretrain",
    "record",
    "register_verb",
    "shelf",
    "stats",
    "use_chart_theme",
    "verbs",
]

__version__ = "0.1.0"

_MODULES = {
    "Model": "nbllm.models.model",
    "Recording": "nbllm.attention.recording.capture",
    "answer_folder": "nbllm.frame.calls.folder",
    "compare": "nbllm.frame.comparison.runs",
    "estimate": "nbllm.models.estimate.estimate",
    "finetune": "nbllm.train.finetuning",
    "inspect": "nbllm.widgets.attention.view",
    "llm": "nbllm.registration",
    "load": "nbllm.models.loader",
    "perplexity": "nbllm.engine.perplexity",
    "pretrain": "nbllm.train.pretraining",
    "record": "nbllm.attention.recording.capture",
    "register_verb": "nbllm.frame.calls.registry",
    "shelf": "nbllm.models.shelf",
    "use_chart_theme": "nbllm.display.theme",
}


def __getattr__(name: str) -> Any:
    if name in ("data", "errors", "ledger", "stats", "verbs"):
        return import_module(f"nbllm.{name}")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'nbllm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Register the magics %llm, %%llm and %%attention; called by `%load_ext nbllm`."""
    from nbllm.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magics; called by `%unload_ext nbllm`."""
    from nbllm.notebook.extension import unload

    unload(shell)


def _register(library: Any) -> None:
    from nbllm.registration import register

    register(library)


when_imported("pandas")(_register)
when_imported("polars")(_register)
