"""pretrain(): a LLaMA of the caller's own, from random weights, on a column of texts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from narwhals.dependencies import is_into_dataframe

from nbllm.checks import shown
from nbllm.engine.perplexity import perplexity
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, plain
from nbllm.errors import ArgumentError, TooLargeError, TrainingError
from nbllm.escaping import say
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.models.memory.budget import free_memory, readable
from nbllm.models.memory.freeing import give_freed_memory_back
from nbllm.models.model import Model
from nbllm.models.silence import quiet
from nbllm.train import loop
from nbllm.train.folder import RunFolder, writing
from nbllm.train.job import check_numbers
from nbllm.train.layout import Blocks, pack
from nbllm.train.live import Live
from nbllm.train.loop import Recipe, Schedule, training_device
from nbllm.train.ngrams import Bigram, Unigram
from nbllm.train.order import Order
from nbllm.train.plan import Forecast, planned
from nbllm.train.pretrained import Pretrained
from nbllm.train.rows import LearnedRow, digest, hold_out, learned_rows
from nbllm.train.saving import save_whole, write_readme
from nbllm.train.tokenizer import END, train_tokenizer
from nbllm.versions import versions
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from nbllm.train.examples import Example
    from nbllm.train.loop import Outcome

__all__ = ["pretrain"]

_EPOCHS = 10  # where neither steps nor minutes are given
_SAMPLE = 60  # tokens
_TEMPERATURE = 0.8
_SAMPLES = "samples.jsonl"

Ids = list[tuple[int, ...]]


@dataclass(frozen=True)
class _Shape:
    """What the network is like."""

    layers: int
    heads: int
    hidden: int
    vocabulary: int
    context: int

    def check(self) -> None:
        """Raise ArgumentError or TrainingError where there can be no such network."""
        check_numbers(**asdict(self))
        if self.hidden % self.heads or self.hidden // self.heads % 2:
            raise TrainingError(
                f"hidden={self.hidden} cannot be split into {counted(self.heads, 'head')} of an "
                f"even width, which rotary positions want. Pass a multiple of {2 * self.heads}."
            )

    def network(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
        """Of random weights, in float32."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            # SwiGLU has three matrices where others have two of four times the width.
            intermediate_size=-(-8 * self.hidden // 3 // 32) * 32,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(seed)
            return LlamaForCausalLM(config)

    def bytes(self) -> int:
        """Of weights, gradients and AdamW's means, before anything is made."""
        inner = -(-8 * self.hidden // 3 // 32) * 32
        layer = 4 * self.hidden**2 + 3 * self.hidden * inner + 2 * self.hidden
        return 16 * (self.layers * layer + self.vocabulary * self.hidden + self.hidden)


def pretrain(
    frame: Any,
    *,
    text: str,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 256,
    vocabulary: int = 4096,
    context: int = 256,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 16,
    learning_rate: float = 1e-3,
    validation: float | Any = 0.1,
    patience: int | None = 5,
    sample: str = "",
    seed: int = 0,
    device: str | torch.device = "auto",
    folder: str | Path | None = None,
    resume: bool = True,
    dry_run: bool = False,
) -> Pretrained | Forecast:
    """Train a small LLaMA from random weights on a column of texts.

    A byte-level BPE tokenizer is trained on the column first. Texts are packed end to end into
    blocks of `context` tokens, in which no text sees the one before it. Perplexity on held-out
    texts is given beside that of a unigram model (add-one) and a bigram model (Kneser–Ney) of the
    same tokens.

    An interrupt, or a kill, loses what came after the last checkpoint: the same call goes on from
    there to the same result. An interrupt gives the best that there is until then.

    Args:
        frame: a pandas or polars DataFrame.
        text: the column to learn.
        layers, heads, hidden: of the network: layers, attention heads a layer, and width.
        vocabulary: tokens at most, 259 of which are single bytes and special ones.
        context: tokens that it reads at once.
        steps: at most; by default 10 passes over the texts.
        minutes: of training, instead of steps: as many steps as that takes, by a step that is
            measured first.
        batch: blocks a step.
        learning_rate: at its highest; it warms up and then falls as a cosine.
        validation: the share of texts to hold out, or a frame of them.
        patience: validations without a better one until it stops; None never stops early.
        sample: what the samples that it writes on the way begin with.
        seed: of the split, the weights, the order and the samples.
        device: "auto" is a GPU where there is one; of several, it has to be the first.
        folder: where the run and its result go; by default below NBLLM_HOME.
        resume: go on with the run in `folder`, or give its result again.
        dry_run: give the forecast of memory and time, and train nothing.

    Raises:
        ArgumentError: a number that nothing can be trained with.
        FrameError: the column is missing or no text, or too few rows are left.
        TooLargeError: it does not fit in memory; nothing was trained.
        TrainingError: settings that make no model, a GPU other than the first, texts that fill no
            block, a folder that holds something else or cannot be written to, or a loss that is no
            longer finite.

    Example:
        >>> made = nbllm.pretrain(films, text="overview", minutes=10)  # doctest: +SKIP
        >>> llm = made.load()  # doctest: +SKIP
    """
    shape = _Shape(layers, heads, hidden, vocabulary, context)
    shape.check()
    if steps is not None and minutes is not None:
        raise TrainingError("steps and minutes both say how long to train. Pass one of them.")
    check_numbers(
        steps=steps, minutes=minutes, batch=batch, learning_rate=learning_rate, patience=patience,
        seed=seed,
    )  # fmt: skip
    if not isinstance(sample, str):
        raise ArgumentError(f"sample={shown(sample)} is no text. Pass a string.")
    rows, counts = learned_rows(frame, [text], None)
    if not is_into_dataframe(validation):
        train, held = hold_out(rows, validation, seed, by_answer=False)
    else:
        train, held = rows, learned_rows(validation, [text], None)[0]
    recipe = Recipe(
        rows=batch,
        learning_rate=learning_rate,
        schedule="cosine",
        warmup=0.05,
        weight_decay=0.1,
        patience=patience,
        seed=seed,
    )
    where = training_device(device)
    asked = {
        "shape": asdict(shape),
        "column": text,
        "train": digest(train),
        "held": digest(held),
        "steps": steps,
        "minutes": minutes,
        "recipe": asdict(recipe),
        "sample": sample,
        "device": where.type,
    }
    place = RunFolder(folder, "pretrain", asked, resume=resume or dry_run)
    done = place.record
    if done is not None and not done["interrupted"] and not dry_run:
        say(f"nbllm: this run has ended before; its result is in {place.path}")
        return Pretrained(place.path, done)
    if shape.bytes() > free_memory(where):
        raise TooLargeError(
            f"Training such a model takes {readable(shape.bytes())} before a single text is read, "
            f"and {readable(free_memory(where))} of {where.type} memory are free. Pass fewer "
            "layers, or a smaller hidden or vocabulary."
        )
    said = f"{counts}, {len(train):,} to train on and {len(held):,} held out"
    run = _Run(shape, recipe, place, where, sample, said)
    with nullcontext() if dry_run else place.claimed():
        return run(train, held, steps, minutes, dry_run)


class _Run:
    """One run of pretraining, from the tokenizer to the record of its result."""

    def __init__(
        self,
        shape: _Shape,
        recipe: Recipe,
        place: RunFolder,
        device: torch.device,
        sample: str,
        said: str,
    ) -> None:
        self.shape, self.recipe, self.place, self.device = shape, recipe, place, device
        self.sample, self.said = sample, said
        self.mixed = loop.mixed(device)

    def __call__(
        self,
        train: Sequence[LearnedRow],
        held: Sequence[LearnedRow],
        steps: int | None,
        minutes: float | None,
        dry_run: bool,
    ) -> Pretrained | Forecast:
        started = time.perf_counter()
        texts = [row.texts[0] for row in train]
        tokenizer = train_tokenizer(texts, self.shape.vocabulary, self.shape.context)
        network = self.shape.network(tokenizer, self.recipe.seed).to(self.device)  # type: ignore[arg-type]
        model = _model(network, tokenizer, self.shape.context)
        learned, seen = (_tokens(model, rows) for rows in (train, held))
        blocks = self._blocks(learned, "train on")
        validated = self._blocks(seen, "hold out")
        layout = Blocks(int(tokenizer.bos_token_id))
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
        samples = _Samples(self.place.path / _SAMPLES, model, self.sample, self.recipe.seed, live)
        with live, writing(self.place.path):
            outcome = loop.run(
                network,
                layout,
                blocks,
                validated,
                self.recipe,
                plan,
                self.place.checkpoints,
                watch=live,
                at_validation=samples,
            )
            live.close(outcome, plan)
        save_whole(network, model, self.place.path)
        record = self._record(network, learned, seen, outcome, expected)
        record["samples"] = samples.read(outcome.steps)
        # What the figures are of, so that all foretell the same tokens: no text's end.
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
            mixed=self.mixed,
        )

    def _record(
        self, network: Any, learned: Ids, seen: Ids, outcome: Outcome, expected: Forecast
    ) -> dict[str, Any]:
        asked: Mapping[str, Any] = self.place.asked
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
            "columns": {"reads": [asked["column"]]},
            "rows": {
                "train": len(learned),
                "held": len(seen),
                "train_sha256": asked["train"],
                "held_sha256": asked["held"],
                "said": self.said,
            },
            "tokens": {"train": sum(map(len, learned)), "held": sum(map(len, seen))},
            "recipe": asdict(self.recipe),
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "interrupted": outcome.interrupted,
            "forecast": expected.to_dict(),
            "versions": versions(),
            "history": outcome.history,
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


class _Samples:
    """What the model writes at each validation, kept on disk, so that a restart has them all."""

    def __init__(self, file: Path, model: Model, begins: str, seed: int, live: Live) -> None:
        self.file, self.model, self.begins = file, model, begins
        self.seed, self.live = seed, live

    def __call__(self, step: int) -> None:
        text = self._write()
        with writing(self.file.parent), self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")
        self.live.notes.append(f"step {step:,}: {text}")

    def read(self, last: int) -> list[dict[str, Any]]:
        """Those of each step, in order; steps that were done again after a kill count once."""
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
    import sys

    template = CompiledTemplate(plain(model.tokenizer, [Part("field", TEXT)]), model.tokenizer)
    end: Any = model.tokenizer.convert_tokens_to_ids(END)
    found = []
    for row in template.encode([row.texts for row in rows], limit=sys.maxsize):
        if not isinstance(row, Prompt):
            raise row
        found.append((*row.ids, end))
    return found
