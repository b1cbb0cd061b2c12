"""The result of fine-tuning: figures on held-out rows, curves, and the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.display.card import card, remarks, terms, terms_text
from nbllm.display.table import Table
from nbllm.train.curves import svg
from nbllm.train.result import TrainingResult
from nbllm.train.saving import write_readme
from nbllm.wording import counted, duration

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["Finetuned", "write_card"]


class Finetuned(TrainingResult):
    """A fine-tuned model or adapter on disk, and the record of how it was made."""

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter on a model, or a model by itself."""
        return bool(self.record["method"] != "full")

    def load(self) -> Model:
        """Load the trained model; of an adapter, its base with it."""
        from nbllm.models.loader import load

        if not self.is_adapter:
            return load(self.folder, quantize="none")
        base = self.record["base"]
        return load(
            base["name"],
            quantize=base["quantization"],
            revision=base["revision"],
            adapter=self.folder,
        )

    def lines(self) -> dict[str, str]:
        """The account as label and text."""
        record = self.record
        bits = record["base"]["quantization"]
        lines = {
            "from": f"{record['base']['name']}, revision {record['base']['revision'][:12]}, "
            + ("not quantized" if bits == "none" else bits),
            "trained": f"{record['method']} on {counted(record['rows']['train'], 'row')}, "
            f"{counted(record['steps'], 'step')} in {duration(record['seconds'])}"
            + (", interrupted" if record["interrupted"] else ""),
            "rows": record["rows"]["said"],
        }
        lines |= _figures(self.metrics)
        how = (
            f"nbllm.load({record['base']['name']!r}, "
            f"quantize={record['base']['quantization']!r}, adapter={str(self.folder)!r})"
            if self.is_adapter
            else f"nbllm.load({str(self.folder)!r})"
        )
        return lines | {
            "licence": record["licence"] or "not stated by its base",
            "load": how,
            "ask": _asked(record),
        }

    def __repr__(self) -> str:
        return terms_text(f"Fine-tuned {self.record['base']['name']}", self.lines())

    def _repr_html_(self) -> str:
        return card(
            f"Fine-tuned {self.record['base']['name']}",
            terms(self.lines()),
            _by_label(self.metrics),
            svg(self.history, unit="nats"),
        )


def write_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the model card of a fine-tuned model.

    Args:
        folder: The folder of the run.
        record: The record of how it was made, as in training.json.
    """
    named = record["base"]["name"]
    base = Path(named).name if Path(named).is_dir() else named
    figures = ", ".join(
        f"{name} {value:.3f}"
        for name, value in record["metrics"].items()
        if isinstance(value, float)
    )
    how = f"nbllm.load({base!r}, adapter=folder)" if record["lora"] else "nbllm.load(folder)"
    generates = record["prompt"] is not None or record["template"]
    write_readme(
        folder,
        f"{base}, fine-tuned",
        [
            f"{base} ({record['base']['source']}, revision {record['base']['revision']}), "
            f"fine-tuned by nbllm ({record['method']}) on "
            f"{counted(record['rows']['train'], 'row')}.",
            f"On {record['rows']['held']:,} held-out rows: {figures}.",
            f"`{how}` loads it. training.json has the record of how it was made.",
        ],
        licence=record["licence"],
        base=base,
        task="text-generation" if generates else "text-classification",
    )


def _asked(record: Mapping[str, Any]) -> str:
    """The call of the verb that it was trained for, with the very prompt that it learned."""
    subject = record["template"] or record["columns"]["reads"][0]
    options = "".join(f"{name}={value!r}, " for name, value in record["options"].items())
    into = "into=..., " if record["template"] else ""
    return f"df.llm.{record['verb']}({subject!r}, {options}{into}model=model)"


def _figures(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Those of all held-out rows together, a few to a line."""
    before, after = metrics["held-out loss before"], metrics["held-out loss"]
    lines = {"held-out loss": f"{after:.3f} (before training {before:.3f})"}
    if "accuracy" in metrics:
        commonest = metrics["accuracy of the commonest label"]
        low, high = metrics["accuracy, 95 % interval"]
        lines["accuracy"] = (
            f"{metrics['accuracy']:.3f}, 95 % interval {low:.3f} to {high:.3f} (the commonest "
            f"label alone {commonest:.3f})"
        )
        lines["means"] = ", ".join(
            f"{name} {metrics[key]:.3f}"
            for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
        )
    if "perplexity of answers" in metrics:
        lines["answers"] = (
            f"perplexity {metrics['perplexity of answers']:.3f} a token, "
            f"{metrics['answer tokens foretold']:.0%} of tokens foretold"
        )
    return lines


def _by_label(metrics: Mapping[str, Any]) -> str:
    """Precision, recall and F1 of each label, the first of many."""
    labels: Mapping[str, Mapping[str, float]] = metrics.get("labels", {})
    if not labels:
        return ""
    some = list(labels.items())[:20]
    left = len(labels) - len(some)
    names = ("precision", "recall", "f1")
    rows = [
        (label, *(f"{scores[name]:.3f}" for name in names), f"{int(scores['rows']):,}")
        for label, scores in some
    ]
    table = Table(rows, ("label", "precision", "recall", "F1", "rows"), full_width=False)
    return table.html() + remarks(f"and {counted(left, 'more label')}" if left else "")
