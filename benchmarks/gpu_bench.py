"""What the sections of the GPU benchmark share: how large it is, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from logbook import NotMeasured, Row
from meter import Meter
from random_llama import LLAMA_8B, Shape
from transformers import CompileConfig, ContinuousBatchingConfig, GenerationConfig

from nbllm.engine.prompt import Prompt
from nbllm.models.estimate.estimate import estimate
from nbllm.models.estimate.requirement import Requirement
from nbllm.models.model import Model

__all__ = [
    "FULL",
    "TINY",
    "Bench",
    "Settings",
    "as_prompts",
    "continuously",
    "generate",
    "random_ids",
    "unique",
]

_PAGE = 256  # tokens, as transformers' continuous batching has them by default


TINY_SHAPE = Shape(
    vocabulary=8192,
    hidden=256,
    intermediate=512,
    layers=2,
    heads=4,
    key_heads=2,
    context=2048,
)


def _captured() -> CompileConfig:
    """Steps that torch captures as a graph and runs as they are, on any device."""
    how: Any = CompileConfig(backend="eager", mode="default")
    how._compile_all_devices = True
    config: CompileConfig = how
    return config


@dataclass(frozen=True)
class Settings:
    """How large, how often and how long."""

    shape: Shape = LLAMA_8B
    small: Shape = TINY_SHAPE  # of what is checked before anything is timed
    quantizations: tuple[str, ...] = ("none", "nf4", "int8")
    seconds: float = 420  # after which no section is started
    compiled: CompileConfig | None = None  # how steps are compiled; as nbllm does it by default
    rounds: int = 3  # of which the median counts
    matrix: int = 8192  # rows and columns of the matrix product that is the limit
    copied: int = 4_000_000_000  # bytes
    prefill: tuple[tuple[int, int], ...] = ((64, 256), (8, 2048))  # texts, tokens of each
    decode: tuple[int, ...] = (1, 32, 256)  # texts
    compiled_for: int = 32  # of those; each number is compiled anew, which takes a minute
    prompt: int = 128  # tokens before decoding
    written: int = 32  # tokens decoded
    reviews: int = 256
    articles: int = 32
    words: int = 20  # of a summary
    batches: tuple[int, ...] = (32, 128)  # that the pipeline is tried with
    recorded: int = 8192  # tokens
    tile: int = 256  # rows and columns of attention weights


FULL = Settings()
TINY = Settings(
    rounds=1,
    shape=TINY_SHAPE,
    compiled=_captured(),
    matrix=512,
    copied=8_000_000,
    prefill=((4, 64), (2, 128)),
    decode=(1, 4),
    compiled_for=4,
    prompt=16,
    # A difference of two times is measured: fewer tokens are lost in what else a machine does.
    written=32,
    reviews=8,
    articles=2,
    words=5,
    batches=(4,),
    recorded=256,
    tile=64,
)


@dataclass
class Bench:
    """What the sections share."""

    settings: Settings
    meter: Meter
    folder: Path
    matrix_rate: float = 0.0  # operations a second
    bandwidth: float = 0.0  # bytes a second, read and written
    quantization: str = "none"
    loaded: Model | None = None
    before: int = 0  # bytes in use before it was loaded
    weights: int = 0  # bytes that it is forecast to take
    absent: list[dict[str, str]] = field(default_factory=list)  # what this machine does not have

    def small(self, name: str) -> Path:
        """Where a small model is."""
        return self.folder.parent / name

    def note(self, section: str, measure: str, reason: str) -> None:
        """Say what this machine does not have."""
        self.absent.append({"section": section, "measure": measure, "reason": reason})
        print(f"  {measure}: not here ({reason})", flush=True)

    @property
    def model(self) -> Model:
        """The one that the section before has loaded."""
        assert self.loaded is not None
        return self.loaded

    def row(self, section: str, measure: str, value: float, unit: str, **against: Any) -> Row:
        return Row(section, self.quantization, measure, value, unit, **against)

    def foreseen(self, texts: int, tokens: int) -> Requirement:
        """The memory that nbllm forecasts for reading so many texts of so many tokens."""
        return estimate(
            self.folder,
            quantize=self.quantization,
            context=tokens,
            batch=texts,
            dtype="bf16",
            device=self.meter.device,
        ).rows[0]


def random_ids(bench: Bench, texts: int, tokens: int) -> torch.Tensor:
    """Tokens of random texts, (texts, tokens); the special ones are left out."""
    generator = torch.Generator().manual_seed(texts * tokens)
    return torch.randint(3, len(bench.model.tokenizer), (texts, tokens), generator=generator)


def as_prompts(ids: torch.Tensor) -> list[Prompt]:
    return [
        Prompt(ids=tuple(row), text="", spans=((0, 0),) * len(row), field_spans=())
        for row in ids.tolist()
    ]


def generate(network: Any, ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """What transformers does by itself: greedy, with its own defaults."""
    ids = ids.to(network.device)
    written: torch.Tensor = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return written


def continuously(network: Any, ids: list[list[int]], tokens: int) -> None:
    """What transformers' continuous batching writes, greedy, with room for all texts at once."""
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=-1
    )
    pages = sum(1 + (len(each) + tokens) // _PAGE for each in ids)
    room = ContinuousBatchingConfig(page_size=_PAGE, num_blocks=pages)
    written = network.generate_batch(
        inputs=ids, generation_config=config, continuous_batching_config=room
    )
    if len(written) != len(ids):
        raise NotMeasured("continuous batching has lost texts")


def unique(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """As many rows, no text twice: duplicates would be answered once."""
    copies = [frame.assign(text=frame.text + f" (no. {n})") for n in range(1 + rows // len(frame))]
    return pd.concat(copies, ignore_index=True).head(rows)
