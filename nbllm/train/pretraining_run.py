"""One run of pretraining, from the tokenizer to the record of its result."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from typing import TYPE_CHECKING, Any

import torch

from nbllm.engine.perplexity import perplexity
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, plain
from nbllm.engine.tokenization import special_token_id
from nbllm.errors import TrainingError
from nbllm.escaping import say
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.models.memory.freeing import give_freed_memory_back
from nbllm.models.model import Model
from nbllm.train import loop
from nbllm.train.folder import RunFolder, writing
from nbllm.train.layout import Blocks, pack
from nbllm.train.live import Live
from nbllm.train.ngrams import Bigram, Unigram
from nbllm.train.order import Order
from nbllm.train.plan import Forecast, planned
from nbllm.train.pretrained import Pretrained
from nbllm.train.recipe import Outcome, Recipe, Schedule
from nbllm.train.rows import LearnedRow
from nbllm.train.samples import Samples
from nbllm.train.saving import save_whole, write_readme
from nbllm.train.shape import Shape
from nbllm.train.tokenizer import END, train_tokenizer
from nbllm.versions import versions
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from nbllm.train.examples import Example

__all__ = ["PretrainingRun"]

_EPOCHS = 10  # where neither steps nor minutes are given

Ids = list[tuple[int, ...]]


@dataclass(frozen=True)
class PretrainingRun:
    """Trains a tokenizer and a network, and writes them with the record of how they were made."""

    shape: Shape
    recipe: Recipe
    place: RunFolder
    device: torch.device
    sample: str  # the beginning of the samples
    said: str  # which rows are used

    def __call__(
        self,
        train: Sequence[LearnedRow],
        held: Sequence[LearnedRow],
        steps: int | None,
        minutes: float | None,
        dry_run: bool,
    ) -> Pretrained | Forecast:
        """Train, save, and return the result; with `dry_run` the forecast alone."""
        started = time.perf_counter()
        texts = [row.texts[0] for row in train]
        tokenizer = train_tokenizer(texts, self.shape.vocabulary, self.shape.context)
        network = self.shape.network(tokenizer, self.recipe.seed).to(self.device)  # type: ignore[arg-type]
        model = _model(network, tokenizer, self.shape.context)
        learned, seen = (_tokens(model, rows) for rows in (train, held))
        blocks = self._blocks(learned, "train on")
        validated = self._blocks(seen, "hold out")
        bos = special_token_id(tokenizer, "bos")
        assert bos is not None  # it was trained with one
        layout = Blocks(bos)
        plan, expected = self._planned(network, layout, blocks, validated, steps, minutes)
        say(f"nbllm: pretrain: {self.said}; {expected}")
        if dry_run:
            return expected
        if self.place.decided is None:
            self.place.decide({"schedule": asdict(plan)})
        live = Live(
            "pretrain",
            "",
            self.place.path.name,
            steps=plan.steps,
            rows=self.recipe.rows,
            unit="nats a token",
        )
        counting = {"unigram": Unigram(learned, len(tokenizer))}
        pairs = Bigram(learned, len(tokenizer))
        live.refer([("unigram", counting["unigram"].nats(seen)), ("bigram", pairs.nats(seen))])
        samples = Samples(self.place.path, model, self.sample, self.recipe.seed, live)
        with live, writing(self.place.path):
            outcome = loop.run(
                network,
                layout,
                blocks,
                validated,
                self.recipe,
                plan,
                self.place.checkpoints,
                on_step=live,
                at_validation=samples,
            )
            live.close(outcome, plan)
        save_whole(network, model, self.place.path)
        record = self._record(network, learned, seen, outcome, expected)
        record["samples"] = samples.read(outcome.steps)
        # What the figures are of, so that all predict the same tokens: no text's end.
        bare = [ids[:-1] for ids in seen]
        record["metrics"] = {
            "perplexity, unigram": exp(counting["unigram"].nats(bare)),
            "perplexity, bigram": exp(pairs.nats(bare)),
        }
        del network, model
        give_freed_memory_back()
        self._write_card(record)
        self.place.finish(record)
        with Pretrained(self.place.path, record).load() as made:
            found = perplexity(made, [row.texts[0] for row in held], window=self.shape.context)
        record["metrics"] = {
            "perplexity": found.value,
            **record["metrics"],
            "bits a byte": found.bits_per_byte,
        }
        record["seconds"] = time.perf_counter() - started
        self._write_card(record)
        self.place.finish(record)
        if not outcome.interrupted:
            self.place.clear_checkpoints()
        return Pretrained(self.place.path, record)

    def _blocks(self, texts: Ids, what: str) -> list[Example]:
        blocks = list(pack(texts, self.shape.context))
        if not blocks:
            raise TrainingError(
                f"The texts to {what} have {counted(sum(map(len, texts)), 'token')} together, "
                f"which fill no block of context={self.shape.context}. Pass a shorter context, or "
                "more texts."
            )
        return blocks

    def _planned(
        self,
        network: Any,
        layout: Blocks,
        train: Sequence[Example],
        held: Sequence[Example],
        steps: int | None,
        minutes: float | None,
    ) -> tuple[Schedule, Forecast]:
        trained = sum(p.numel() for p in network.parameters())

        def whole(seconds: float) -> int:
            if minutes is not None:
                return max(1, int(60 * minutes / seconds))
            return steps or _EPOCHS * Order([1] * len(train), self.recipe.rows, 1, 0).steps

        return planned(
            self.place,
            network,
            layout,
            train,
            held,
            self.recipe,
            whole,
            standing={"weights": 4 * trained, "gradients": 4 * trained, "optimizer": 8 * trained},
            parameters=trained,
            layers=self.shape.layers,
            device=self.device,
            mixed=loop.mixed(self.device),
        )

    def _record(
        self, network: Any, learned: Ids, seen: Ids, outcome: Outcome, expected: Forecast
    ) -> dict[str, Any]:
        settings: Mapping[str, Any] = self.place.settings
        return {
            "made_by": "nbllm.pretrain",
            "method": "full",
            "licence": None,
            "prompt": None,
            "shape": {
                **asdict(self.shape),
                "vocabulary": network.config.vocab_size,
                "parameters": network.num_parameters(),
            },
            "columns": {"reads": [settings["column"]]},
            "rows": {
                "train": len(learned),
                "held": len(seen),
                "train_sha256": settings["train"],
                "held_sha256": settings["held"],
                "said": self.said,
            },
            "tokens": {"train": sum(map(len, learned)), "held": sum(map(len, seen))},
            "recipe": asdict(self.recipe),
            **asdict(outcome),
            "forecast": expected.to_dict(),
            "versions": versions(),
            "seconds": 0.0,
        }

    def _write_card(self, record: Mapping[str, Any]) -> None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in record["metrics"].items())
        write_readme(
            self.place.path,
            "A LLaMA of its own",
            [
                f"A model of {counted(record['shape']['parameters'], 'weight')}, trained from "
                f"scratch by nbllm on {counted(record['tokens']['train'], 'token')} of "
                f"{counted(record['rows']['train'], 'text')}. It knows nothing else.",
                f"On {record['rows']['held']:,} held-out texts: {figures}.",
                "`nbllm.load(folder)` loads it. training.json has the record of how it was made.",
            ],
            licence=None,
            base=None,
            task="text-generation",
        )


def _model(network: Any, tokenizer: PreTrainedTokenizerFast, context: int) -> Model:
    return Model(
        network=network,
        tokenizer=tokenizer,
        kind="causal",
        name="the model in training",
        source="",
        revision="",
        quantization="none",
        context_length=context,
    )


def _tokens(model: Model, rows: Sequence[LearnedRow]) -> Ids:
    """Each text between the tokens that open and end it."""
    template = CompiledTemplate(plain(model.tokenizer, [Part("field", TEXT)]), model.tokenizer)
    end: Any = model.tokenizer.convert_tokens_to_ids(END)
    found = []
    for row in template.encode([row.texts for row in rows], limit=sys.maxsize):
        if not isinstance(row, Prompt):
            raise row
        found.append((*row.ids, end))
    return found
