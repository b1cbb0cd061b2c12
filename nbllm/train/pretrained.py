"""The result of pretraining: perplexity, that of baselines, curves, samples, and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import TYPE_CHECKING, Any

from nbllm.attention.recording.indexing import evenly_spaced
from nbllm.display.card import card, terms, terms_text
from nbllm.train.curves import svg
from nbllm.train.result import TrainingResult
from nbllm.wording import counted, duration

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["Pretrained"]


class Pretrained(TrainingResult):
    """A model trained from scratch, on disk, and the record of how it was made."""

    @property
    def samples(self) -> Sequence[Mapping[str, Any]]:
        """The samples that it wrote on the way: `step` and `text`."""
        found: Sequence[Mapping[str, Any]] = self.record["samples"]
        return found

    def load(self) -> Model:
        """Load the model."""
        from nbllm.models.loader import load

        return load(self.folder, quantize="none")

    def lines(self) -> dict[str, str]:
        """The account as label and text."""
        record, shape = self.record, self.record["shape"]
        lines = {
            "model": f"LLaMA of {counted(shape['parameters'], 'weight')}: "
            f"{counted(shape['layers'], 'layer')} × {counted(shape['heads'], 'head')}, width "
            f"{shape['hidden']}, {counted(shape['vocabulary'], 'token')}, context "
            f"{shape['context']}",
            "trained": f"{counted(record['steps'], 'step')} on "
            f"{counted(record['tokens']['train'], 'token')} in "
            f"{duration(record['seconds'])}" + (", interrupted" if record["interrupted"] else ""),
            "rows": record["rows"]["said"],
        }
        lines |= {name: f"{value:.4g}" for name, value in self.metrics.items()}
        return lines | {"load": f"nbllm.load({str(self.folder)!r})"}

    def __repr__(self) -> str:
        last = {f"step {s['step']:,}": s["text"] for s in self.samples[-1:]}
        return terms_text("Pretrained model", self.lines() | last)

    def _repr_html_(self) -> str:
        lines = [
            (name.removeprefix("perplexity, "), log(value))
            for name, value in self.metrics.items()
            if name.startswith("perplexity, ")
        ]
        shown = [self.samples[n] for n in evenly_spaced(len(self.samples), 4)]
        return card(
            "Pretrained model",
            terms(self.lines()),
            svg(self.history, unit="nats a token", references=lines),
            terms({f"step {sample['step']:,}": sample["text"] for sample in shown}),
        )
