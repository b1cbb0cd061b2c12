"""Every text architecture of transformers: as plain transformers answers, or refused in words.

Rows alone, beside a shorter and beside a much longer one, against the network itself with one row
and no cache. `make architectures` runs all tasks on all classes and writes the table of verdicts;
here each class is asked for what it is mostly loaded for.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nbllm
from nbllm.attention.recording.capture import record_batch
from nbllm.engine.encoding import HeadScorer, TextEncoder
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.engine.sharing import shares_prefix
from nbllm.errors import NbllmError, UnsupportedModelError
from nbllm.models.model import Model
from tests.architectures.tiny import Architecture, NotBuilt, architectures

EVERYTHING = bool(os.environ.get("NBLLM_ALL_ARCHITECTURES"))
CLOSE = 1e-4


def ids(count: int, seed: int) -> tuple[int, ...]:
    return tuple(map(int, np.random.default_rng(seed).integers(5, 380, count)))


# Longer than the windows, which are of 8 tokens.
PREFIX = ids(14, 1)
ROWS = {"middle": PREFIX + ids(9, 2), "short": PREFIX + ids(3, 3), "long": PREFIX + ids(50, 4)}
BATCHES = (
    [("middle",), ("middle", "short"), ("middle", "long"), ("short", "long")]
    if EVERYTHING
    else [("short", "long")]
)
READ = {name: ROWS[name] for name in sorted({name for batch in BATCHES for name in batch})}
LABELS = [[7], [9, 11], [9, 13, 15], [20, 22]]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["xy", "yz", "zz"]}, "b": {"type": "string", "maxLength": 6}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
END = 2


def prompt(row: tuple[int, ...], prefix_length: int = 0) -> Prompt:
    return Prompt(row, "", tuple((0, 0) for _ in row), (), prefix_length)


def softmax(scores: Any) -> np.ndarray:
    scores = np.asarray(scores)
    return np.exp(scores - np.logaddexp.reduce(scores))


def labels(model: Model) -> Iterator[str]:
    """Probabilities of labels of one and more tokens behind a shared prefix."""
    scorer = LabelScorer(model, PREFIX, LABELS)
    wanted = {name: softmax([likelihood(model, row, label) for label in LABELS])
              for name, row in READ.items()}  # fmt: skip
    for batch in BATCHES:
        found = scorer([prompt(ROWS[name], scorer.prefix.length) for name in batch])
        for name, scores in zip(batch, found, strict=True):
            assert not isinstance(scores, Exception), scores
            gap = np.abs(softmax(scores) - wanted[name]).max()
            if not gap < CLOSE:
                yield f"{name} in {batch}: off by {gap:.2g}"


def likelihood(model: Model, row: tuple[int, ...], label: list[int]) -> float:
    logits = plain(model, row + tuple(label)).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(row) - 1 + n, token]) for n, token in enumerate(label))


def plain(model: Model, row: tuple[int, ...], **options: Any) -> Any:
    """The network on one row, as it comes and without a cache."""
    given = {"input_ids": torch.tensor([row]), **options}
    with torch.no_grad():
        try:
            return model.network(**given, use_cache=False)
        except TypeError:
            return model.network(**given)


def text(model: Model) -> Iterator[str]:
    """Eight tokens, each the likeliest."""
    return _texts(model, None, 8)


def schema(model: Model) -> Iterator[str]:
    """JSON of a schema."""
    return _texts(model, SCHEMA, 24)


def _texts(model: Model, given: Any, count: int) -> Iterator[str]:
    generator = TextGenerator(model, PREFIX, max_new_tokens=count, schema=given)
    wanted = {}
    for name, row in READ.items():
        constraint = generator.grammar and generator.grammar.constraint(1, filler=END)
        config = copy.deepcopy(generator.config)
        config.use_cache = False
        read = torch.tensor([row])
        out = model.network.generate(
            input_ids=read,
            attention_mask=torch.ones_like(read),
            generation_config=config,
            logits_processor=[constraint] if constraint else [],
        )[0].tolist()
        written = out[1:] if model.kind == "seq2seq" else out[len(row) :]
        plainly = model.tokenizer.decode(written, skip_special_tokens=True).strip()
        wanted[name] = constraint.texts()[0] if constraint else plainly
    for batch in BATCHES:
        found = generator([prompt(ROWS[name], generator.prefix.length) for name in batch])
        for name, said in zip(batch, found, strict=True):
            if said != wanted[name] and not (isinstance(said, Exception) and not wanted[name]):
                yield f"{name} in {batch}: {said!r}, not {wanted[name]!r}"


def vectors(model: Model) -> Iterator[str]:
    """The mean of a text's vectors, or the log-probabilities of a classifier's labels."""
    reader = TextEncoder(model) if model.kind == "encoder" else HeadScorer(model)
    rows = {name: (*row, END) for name, row in READ.items()}
    wanted = {}
    for name, row in rows.items():
        out = plain(model, row)
        wanted[name] = (
            out.last_hidden_state[0].mean(0)
            if model.kind == "encoder"
            else out.logits[0].log_softmax(-1)
        )
    for batch in BATCHES:
        for name, vector in zip(batch, reader([prompt(rows[name]) for name in batch]), strict=True):
            assert not isinstance(vector, Exception), vector
            gap = float((torch.tensor(vector) - wanted[name]).abs().max())
            if not gap < CLOSE * max(1.0, float(wanted[name].abs().max())):
                yield f"{name} in {batch}: off by {gap:.2g}"


def attention(model: Model) -> Iterator[str]:
    """Recorded weights against those of eager attention."""
    target = ROWS["short"]
    pairs = model.kind == "seq2seq"
    recorded = {
        batch: record_batch(
            model,
            [prompt(ROWS[name]) for name in batch],
            **({"targets": [prompt(target)] * len(batch)} if pairs else {}),
        )
        for batch in BATCHES
    }
    eager = copy.copy(model)
    eager.network = copy.deepcopy(model.network)
    eager.network.set_attn_implementation("eager")
    sinks = any("sinks" in name for name, _ in model.network.named_parameters())
    start = model.network.config.decoder_start_token_id if pairs else None
    for name, row in READ.items():
        options = {"decoder_input_ids": torch.tensor([[start, *target]])} if pairs else {}
        out = plain(eager, row, output_attentions=True, **options)
        if pairs:
            weights = {
                "encoder": out.encoder_attentions,
                "decoder": out.decoder_attentions,
                "cross": out.cross_attentions,
            }
        elif getattr(out, "attentions", None) is None:
            raise NoReferenceError
        else:
            weights = {"all": out.attentions}
        for batch, recordings in recorded.items():
            if name in batch:
                recording: Any = recordings[batch.index(name)]
                for part, layers in weights.items():
                    one = getattr(recording, part) if pairs else recording
                    gap = _gap(one, layers, normalized=sinks)
                    if not gap < CLOSE:
                        yield f"{part} of {name} in {batch}: off by {gap:.2g}"


def _gap(recording: Any, layers: Any, *, normalized: bool) -> float:
    """The largest difference; what a sink takes is left out by some and not by others."""
    gaps = []
    for number, wanted in zip(recording.layer_numbers, layers, strict=True):
        for head in range(recording.heads):
            found = torch.tensor(recording.weights(number, head))
            plainly = wanted[0, head]
            if normalized:
                found, plainly = (w / w.sum(-1, keepdim=True) for w in (found, plainly))
            gaps.append(float((found - plainly).abs().max()))
    return max(gaps)


class NoReferenceError(Exception):
    """transformers does not return what is to be compared."""


Task = Callable[[Model], Iterator[str]]
TASKS: dict[str, tuple[Task, ...]] = {
    "causal": (labels, text, schema, attention),
    "seq2seq": (text, schema, attention),
    "encoder": (vectors, attention),
    "classifier": (vectors, attention),
}
QUICK: dict[str, tuple[Task, ...]] = {
    "causal": (labels, text),
    "seq2seq": (text,),
    "encoder": (vectors,),
    "classifier": (vectors,),
}


# Without an ordinary cache, or with masks and positions of their own: slower, and not refused.
ANSWER = {
    *("bamba", "falcon_h1", "jamba", "lfm2", "mamba", "mamba2", "minimax", "qwen3_next"),
    *("recurrent_gemma", "rwkv", "bloom", "falcon", "gpt_neo", "mpt"),
}


@pytest.mark.parametrize("architecture", architectures(every=EVERYTHING), ids=str)
def test_answers_as_plain_transformers_does_or_is_refused(
    architecture: Architecture, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    try:
        architecture.save(tmp_path)
    except NotBuilt as missing:
        record_property("verdict", ("all", f"not built: {missing}"))
        return
    try:
        model = nbllm.load(tmp_path, dtype="fp32", quantize="none")
    except UnsupportedModelError as refused:
        record_property("verdict", ("all", f"refused at load: {reason(refused, tmp_path)}"))
        return
    with model:
        assert model.kind == architecture.kind
        for task in (TASKS if EVERYTHING else QUICK)[architecture.kind]:
            try:
                wrong = list(task(model))
            except UnsupportedModelError as refused:
                assert architecture.model_type not in ANSWER or task is attention
                verdict = f"refused: {reason(refused, tmp_path)}"
                record_property("verdict", (task.__name__, verdict))
                continue
            except NoReferenceError:
                record_property("verdict", (task.__name__, "no reference"))
                continue
            assert wrong == []
            way = " (one pass for all)" if shares(model) else ""
            record_property("verdict", (task.__name__, f"agrees{way}"))


def reason(refused: NbllmError, folder: Path) -> str:
    """The first sentence of a refusal, which has to say what to do after it."""
    why, _, advice = str(refused).replace(str(folder), "it").partition(". ")
    assert len(advice) > 20 and advice.endswith(".")
    return why


def shares(model: Model) -> bool:
    return model.kind == "causal" and shares_prefix(model.network)


# What people load most is neither refused nor read row by row.
@pytest.mark.parametrize(
    "name",
    ["llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "gpt2",
     "gpt_oss", "smollm3", "olmo2", "granite", "gemma4_text", "deepseek_v3", "llama4_text"],
)  # fmt: skip
def test_what_people_load_most_shares_a_prefix(name: str) -> None:
    assert shares_prefix(Architecture("causal", name).network())
