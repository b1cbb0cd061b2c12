"""Texts that a model writes while it is trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nbllm.models.silence import quiet
from nbllm.train.folder import writing

if TYPE_CHECKING:
    from nbllm.models.model import Model
    from nbllm.train.live import Live

__all__ = ["Samples"]

_SAMPLE = 60  # tokens
_TEMPERATURE = 0.8
_SAMPLES = "samples.jsonl"


class Samples:
    """Samples that the model writes at each validation, kept on disk for a restart.

    Args:
        folder: The folder of the run.
        model: The model in training.
        begins: The text that each sample begins with.
        seed: The seed of each sample.
        live: Where they are shown.
    """

    def __init__(self, folder: Path, model: Model, begins: str, seed: int, live: Live) -> None:
        self.file: Path = folder / _SAMPLES
        self.model: Model = model
        self.begins: str = begins
        self.seed: int = seed
        self.live: Live = live

    def __call__(self, step: int) -> None:
        """Write one sample after a validation, and keep it."""
        text = self._write()
        with writing(self.file.parent), self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")
        self.live.notes.append(f"step {step:,}: {text}")

    def read(self, last: int) -> list[dict[str, Any]]:
        """The samples up to a step, in order; steps that were repeated after a kill count once."""
        found = {entry["step"]: entry for entry in self._entries() if entry["step"] <= last}
        return [found[step] for step in sorted(found)]

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not self.file.is_file():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # the kill came while it was written
                continue

    def _write(self) -> str:
        network, tokenizer = self.model.network, self.model.tokenizer
        ids = torch.tensor([tokenizer(self.begins).input_ids], device=network.device)
        room = max(1, self.model.context_length - ids.shape[1])
        # Its own generator: what is drawn here must not change what is drawn in training.
        with quiet(), torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self.seed)
            written = network.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(_SAMPLE, room),
                do_sample=True,
                temperature=_TEMPERATURE,
                top_k=0,
                top_p=0.95,
            )
        return str(tokenizer.decode(written[0], skip_special_tokens=True)).strip()
