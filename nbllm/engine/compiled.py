"""Compiled decoding steps: a cache of fixed size, and one graph of kernels per step.

transformers compiles a step wherever it is given a StaticCache on a GPU
(https://huggingface.co/docs/transformers/llm_optims). Each size of cache is compiled anew, which
takes about as long as generating a hundred texts; so a run has one size, and only a long run has
any.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import CompileConfig, LogitsProcessor, StaticCache, StoppingCriteria

from nbllm.engine.sharing import same_steps
from nbllm.escaping import say

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from nbllm.engine.prefix import SharedPrefix
    from nbllm.engine.structured.constraint import Constraint
    from nbllm.models.model import Model

__all__ = ["Batch", "CompiledSteps"]

_COMPARED, _TIMED = 4, 32  # steps, of the same batch written in both ways
_COMPARED_ROWS = 8  # logits are large
_LENGTH_STEP = 128  # tokens that the length of a cache is rounded up to


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left."""

    ids: torch.Tensor  # (row, token), on the model's device
    mask: torch.Tensor  # the same shape: 0 for padding
    padding: list[int]  # of each row, in tokens, which the host knows without asking the device

    @classmethod
    def of(cls, model: Model, ids: torch.Tensor, mask: torch.Tensor) -> Batch:
        """Return a batch on the model's device.

        Args:
            model: the model that gets the batch.
            ids: tokens in the host's memory, padded on the left, shape (row, token).
            mask: the same shape: 0 for padding.
        """
        padding: list[int] = (mask == 0).sum(1).tolist()
        return cls(ids.to(model.device), mask.to(model.device), padding)

    def __len__(self) -> int:
        return len(self.ids)

    def filled(self, rows: int) -> Batch:
        """Return a batch of more rows, which repeats the last one.

        Args:
            rows: of the new batch.
        """
        more = rows - len(self)
        return Batch(
            torch.cat([self.ids, self.ids[-1:].expand(more, -1)]),
            torch.cat([self.mask, self.mask[-1:].expand(more, -1)]),
            self.padding + self.padding[-1:] * more,
        )


class CompiledSteps:
    """Compiled decoding steps for batches of one size; smaller ones are filled up.

    Args:
        model: a causal model that shares prefixes.
        prefix: the tokens that all prompts start with.
        config: how the texts are generated.
        rows: texts in a batch.
        length: tokens that a row may have in the end, the prefix included.
        how: the way in which torch compiles a step; by default into CUDA graphs.
    """

    def __init__(
        self,
        model: Model,
        prefix: SharedPrefix,
        config: GenerationConfig,
        rows: int,
        length: int,
        how: CompileConfig | None = None,
    ) -> None:
        self.rows = rows
        self._model = model
        self._prefix = prefix
        self._config = copy.copy(config)
        self._config.compile_config = how or compile_config()
        self._length = length
        text_config = model.network.config.get_text_config(decoder=True)
        self._cache: Any = StaticCache(config=text_config, max_cache_len=length)

    @classmethod
    def suit(cls, model: Model) -> bool:
        """Return whether transformers would compile the steps of a model on its device.

        Args:
            model: a causal model.
        """
        network = model.network
        places = set(getattr(network, "hf_device_map", {}).values())
        quantizer = getattr(network, "hf_quantizer", None)
        return (
            model.device.type in compiling_devices()
            and network._can_compile_fullgraph
            and len(places) < 2
            and (quantizer is None or bool(quantizer.is_compileable))
        )

    @classmethod
    def if_faster(
        cls, model: Model, prefix: SharedPrefix, config: GenerationConfig, batch: Batch
    ) -> CompiledSteps | None:
        """Compile steps for batches of one size, and compare them with the usual ones.

        Args:
            model: a causal model that shares prefixes.
            prefix: the tokens that all prompts start with.
            config: how the texts are generated.
            batch: prompts of that size, on which both ways are timed.

        Returns:
            The compiled steps; None where they cannot be compiled, differ in their logits or are no
            faster. A line is printed that says which.
        """
        say(f"nbllm: compiling how {model.name} writes, which takes about a minute ...")
        length = batch.ids.shape[1] + config.max_new_tokens
        length = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        try:
            steps = cls(model, prefix, config, len(batch), length)
            # The cache of fixed size comes second: there may be no room for both.
            plain, slow = steps._tried(batch, steps._plain)
            ours, fast = steps._tried(batch, steps._generate)
        except Exception as error:  # a compiler that is not there, memory, a network it cannot take
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            say(f"nbllm: it writes on as before, since compiling failed ({reason:.200})")
            return None
        if not same_steps(model, ours, plain):
            say("nbllm: it writes on as before, since what was compiled gives other numbers")
            return None
        if fast >= slow:
            say("nbllm: it writes on as before, since what was compiled is no faster here")
            return None
        say(f"nbllm: it writes {slow / fast:.1f} times as fast from now on")
        return steps

    def take(self, batch: Batch) -> bool:
        """Return whether a batch has room, and fills at least a quarter of the rows.

        Args:
            batch: the prompts.
        """
        room = batch.ids.shape[1] + self._config.max_new_tokens <= self._length
        return room and len(batch) <= self.rows <= 4 * len(batch)

    def write(
        self, batch: Batch, finished: StoppingCriteria, constraint: Constraint | None
    ) -> list[list[int]]:
        """Return the generated tokens of each row of a batch that `take` accepts.

        Args:
            batch: the prompts.
            finished: a criterion over all `rows`, not only those of the batch.
            constraint: what each row of the batch has to follow.
        """
        out = self._generate(
            batch.filled(self.rows),
            self._config,
            logits_processor=[_FirstRows(constraint, len(batch))] if constraint else [],
            stopping_criteria=[finished],
        )
        written: list[list[int]] = out[: len(batch), batch.ids.shape[1] :].tolist()
        return written

    def _generate(self, batch: Batch, config: GenerationConfig, **options: Any) -> Any:
        self._cache.reset()
        self._prefix.shifted(batch.padding, into=self._cache)
        return self._model.network.generate(  # type: ignore[operator]
            input_ids=batch.ids,
            attention_mask=batch.mask,
            past_key_values=self._cache,
            generation_config=config,
            **options,
        )

    def _plain(self, batch: Batch, config: GenerationConfig) -> Any:
        """Generate with a cache that grows, whose steps transformers does not compile."""
        config.compile_config = None
        return self._model.network.generate(  # type: ignore[operator]
            input_ids=batch.ids,
            attention_mask=batch.mask,
            past_key_values=self._prefix.shifted(batch.padding),
            generation_config=config,
        )

    def _tried(
        self, batch: Batch, generate: Callable[[Batch, GenerationConfig], Any]
    ) -> tuple[tuple[torch.Tensor, ...], float]:
        """Return logits of the first steps, each (row, token), and the seconds of further ones."""
        config = self._trial(_COMPARED)
        config.output_logits = config.return_dict_in_generate = True
        # The first time compiles.
        logits = tuple(step[:_COMPARED_ROWS].cpu() for step in generate(batch, config).logits)
        start = time.perf_counter()
        generate(batch, self._trial(_TIMED)).tolist()
        return logits, time.perf_counter() - start

    def _trial(self, tokens: int) -> GenerationConfig:
        """Return the same configuration for a fixed number of tokens."""
        config = copy.copy(self._config)
        config.max_new_tokens = config.min_new_tokens = min(tokens, config.max_new_tokens)
        return config


class _FirstRows(LogitsProcessor):
    """Applies a constraint to the rows that are texts, and not to those that fill the batch up."""

    def __init__(self, constraint: Constraint, rows: int) -> None:
        self._constraint = constraint
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        held = self._constraint(input_ids[: self._rows], scores[: self._rows])
        return torch.cat([held, scores[self._rows :]])


def compiling_devices() -> tuple[str, ...]:
    """Return the device types on which launching kernels limits the speed."""
    return ("cuda",)


def compile_config() -> CompileConfig:
    """Return how torch compiles a step: into CUDA graphs."""
    return CompileConfig(mode="reduce-overhead")
