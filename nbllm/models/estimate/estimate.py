"""Forecasts the memory that a model would take, here or on a card by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nbllm.checks import check_text, reads
from nbllm.errors import ModelError, QuantizationError, TextTooLongError, TooLargeError
from nbllm.models.devices.cards import Card, Where, called, card_named, is_of_torch
from nbllm.models.estimate.requirement import MANY, Fits, Requirement, has_room, most_texts
from nbllm.models.estimate.result import MemoryEstimate
from nbllm.models.fetch.catalog import DEFAULT
from nbllm.models.memory.budget import (
    active_bytes,
    device_memory,
    devices_alike,
    free_memory,
    kv_bytes,
    weight_bytes,
)
from nbllm.models.memory.footprint import quantizing_bytes
from nbllm.models.quantization import published as published_quantized
from nbllm.models.quantization import schemes as quantization
from nbllm.models.quantization.published import published
from nbllm.models.quantization.schemes import Quantization, quantized_layers
from nbllm.wording import byte_size, counted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from nbllm.models.estimate.dry_run import DryRun
    from nbllm.models.kind import Kind
    from nbllm.models.memory.plan import Plan

__all__ = ["estimate"]

_USUAL_CONTEXT = 2048  # tokens, where none is asked for and the model takes as many


@dataclass(frozen=True)
class _Subject:
    """The model that is asked about, and how it would run."""

    config: PreTrainedConfig
    kind: Kind
    dtype: torch.dtype
    where: Where
    trust_remote_code: bool

    def network(self) -> PreTrainedModel:
        """Return a new network on the meta device."""
        from nbllm.models.architecture import skeleton

        return skeleton(self.config, self.kind, self.trust_remote_code)


@dataclass(frozen=True)
class _Held:
    """The weights as one quantization stores them."""

    layers: Mapping[str, tuple[int, int]]  # name to outputs and inputs
    weights: int  # bytes
    loading: int  # bytes at the worst moment


@reads(revision=check_text)
def estimate(
    name_or_path: str | Path = DEFAULT,
    *,
    quantize: str | Sequence[str] | None = None,
    context: int | Sequence[int] | None = None,
    batch: int | Sequence[int] = 1,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> MemoryEstimate:
    """Forecast the memory that a model takes, before any of its weights are fetched.

    It also says what `load` with quantize="auto" would choose, and why, and how many texts fit in
    a batch.

    The forecast is of `nbllm.load` and one pass over `batch` texts of `context` tokens: for a model
    that generates, with keys and values kept and only the last logits, as `generate` begins.
    An encoder-decoder is taken to answer with as many tokens as it reads. Counted is what
    the system cannot have back: tensors, and the pages of weight files that stay in use; `top`
    adds pages that were only read once. What CUDA itself takes, some hundred MB, is not in it.

    Args:
        name_or_path: as in `load`.
        quantize: one or several of those that `load` takes; None is all of them. A checkpoint
            that was published quantized stays so; "none" unpacks it.
        context: tokens of a text; None is what the model takes, 2048 at most.
        batch: texts at once.
        dtype: as in `load`.
        device: as in `load`; or the name of a card that is not here, such as "4090", "T4",
            "a100-80gb", "2x4090" or what nvidia-smi prints, which nothing else is taken to use.
            Whether it has a kernel for a quantization is then what the libraries document, and has
            not been tried. Of several, each is taken to hold the same part of the weights, and
            what a batch needs beside them for a moment.
        revision: as in `load`.
        trust_remote_code: as in `load`.

    Returns:
        A table of bytes, with a line on what "auto" would choose.

    Raises:
        ArgumentError: there is no such card on record.
        UnknownModelError: there is nothing by that name.
        DownloadError: its configuration could not be fetched.
        UnsupportedModelError: it is of another kind, or its configuration does not tell.
        QuantizationError: there is no such quantization, or it has another already.
        TextTooLongError: the model does not take as many tokens.

    Example:
        >>> estimate("owner/name", context=[512, 4096], batch=8).plot()  # doctest: +SKIP
        >>> estimate("owner/name", device="2x4090")  # doctest: +SKIP
    """
    import torch

    from nbllm.models.configuration import (
        context_length_of,
        kind_of,
        read_configuration,
        refuse_unsized,
    )
    from nbllm.models.devices.device import choose_device, choose_dtype
    from nbllm.models.fetch.sources import fetch_configuration
    from nbllm.models.loader import check_named
    from nbllm.models.memory.plan import Plan

    check_named("name_or_path", name_or_path)
    where: Where = choose_device(device) if is_of_torch(device) else card_named(str(device))
    fetched = fetch_configuration(name_or_path, revision)
    config = read_configuration(fetched, trust_remote_code)
    kind = kind_of(config, fetched.source)
    refuse_unsized(config, fetched.source)
    longest = context_length_of(config, fetched)
    contexts = _counts("context", min(longest, _USUAL_CONTEXT) if context is None else context)
    batches = _counts("batch", batch)
    if max(contexts) > longest:
        raise TextTooLongError(
            f"{name_or_path} takes {counted(longest, 'token')}, not {max(contexts):,}. Give a "
            "smaller context."
        )
    precision = choose_dtype(dtype, where, config=config)
    subject = _Subject(config, kind, precision, where, trust_remote_code)
    network = subject.network()
    choices = _choices(quantize, published(config), fetched.source)
    held = {
        choice: _hold(
            network, choice, replace(subject, dtype=choose_dtype(dtype, where, choice, config))
        )
        for choice in choices
    }
    layers = {choice: part.layers for choice, part in held.items()}
    places = [free_memory(place) for place in devices_alike(where)]
    plan = Plan(
        fetched.folder,
        fetched.revision,
        kind,
        longest,
        "auto",
        where if not isinstance(where, Card) else torch.device(where.type),
        precision,
    )
    auto, fastest = _auto(plan, subject, network, fetched.source, automatic=dtype == "auto")
    rows: list[Requirement] = []
    notes: list[str] = [] if fastest is None else [fastest]
    for tokens in contexts:
        passes = {n: _pass(subject, layers, tokens, n) for n in {*batches, 1, MANY}}
        notes += {note: None for _, note in passes.values() if note and note not in notes}
        one, many = passes[1][0], passes[MANY][0]
        most = {
            choice: 0
            if _kernel_problem(choice, subject)
            else most_texts(
                part.weights, part.loading, choice, one, many, free_memory(where), places
            )
            for choice, part in held.items()
        }
        for texts in batches:
            passed, _ = passes[texts]
            for choice, part in held.items():
                row = Requirement(
                    quantization=choice,
                    context=tokens,
                    batch=texts,
                    weights=part.weights,
                    cache=passed.cache,
                    activations=passed.activations[choice],
                    loading=part.loading,
                    most_texts=most[choice],
                )
                rows.append(replace(row, fits=_fits(row, subject, places)))
    return MemoryEstimate(
        name=str(name_or_path),
        kind=kind,
        parameters=network.num_parameters(),
        dtype=str(subject.dtype).removeprefix("torch."),
        device=called(where),
        memory=device_memory(where),
        free=free_memory(where),
        rows=tuple(rows),
        auto=auto,
        here=not isinstance(where, Card),
        notes=tuple(notes),
        devices=len(places),
    )


def _counts(name: str, asked: int | Sequence[int]) -> list[int]:
    counts: Any = asked if isinstance(asked, (list, tuple, range)) else [asked]
    if not counts or any(type(n) is not int or n < 1 for n in counts):
        raise ModelError(f"{name}={asked!r} is no number of things. Give 1 or more, or a list.")
    return list(counts)


def _choices(
    asked: str | Sequence[str] | None, as_published: str | None, source: str
) -> tuple[str, ...]:
    known = get_args(Quantization) if as_published is None else (as_published, "none")
    if asked is None:
        return known if as_published is None else (as_published,)
    choices: tuple[Any, ...] = tuple(asked) if isinstance(asked, (list, tuple)) else (asked,)
    wrong = [choice for choice in choices if not isinstance(choice, str) or choice not in known]
    if wrong or not choices:
        stated = "" if as_published is None else f" {source} was published in {as_published}."
        raise QuantizationError(
            f"There is no estimate for quantize={wrong or list(choices)!r}.{stated} Give one or "
            f"several of {', '.join(map(repr, known))}."
        )
    return choices


def _hold(network: PreTrainedModel, choice: str, subject: _Subject) -> _Held:
    """Return the bytes of the weights, as they are kept and while they are quantized."""
    ready = choice == published(subject.config)
    kept = choice if choice in get_args(Quantization) else "published"
    weights = weight_bytes(network, kept, subject.dtype, subject.where)
    # A checkpoint that says no more leaves its output matrix whole, as int8 does.
    rule = choice if kept == choice else "int8"
    layers = quantized_layers(network, rule, subject.where)
    most = max(
        (quantizing_bytes(choice, *shape, subject.where) for shape in layers.values()), default=0
    )
    return _Held(layers, weights, weights + (0 if ready else most))


def _pass(
    subject: _Subject, layers: Mapping[str, Mapping[str, tuple[int, int]]], context: int, batch: int
) -> tuple[DryRun, str | None]:
    """Dry-run one pass; where the model's code does not allow it, return the rest."""
    from nbllm.models.estimate.dry_run import DryRun, dry_run

    try:
        return dry_run(
            subject.network(), subject.kind, subject.dtype, subject.where, layers, context, batch
        ), None
    except Exception as error:  # whatever the model's code raises when there are no numbers
        cache = 0
        if subject.kind in ("causal", "seq2seq"):
            cache = batch * kv_bytes(subject.config, subject.dtype, context)
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        note = (
            f"Activations are not in these figures: the code of {subject.config.model_type} cannot "
            f"be run without numbers ({reason})."
        )
        return DryRun(cache, dict.fromkeys(layers, 0)), note


def _fits(row: Requirement, subject: _Subject, places: list[int]) -> Fits:
    """Return whether the row's peak is within the free memory, of each device in `places`."""
    where = subject.where
    if _kernel_problem(row.quantization, subject):
        return "no kernel"
    if has_room(row, [free_memory(where)]):
        return "yes"
    if len(places) > 1 and has_room(row, places):
        return "spread"
    if isinstance(where, Card):  # which nothing else uses
        return "no"
    with_all = [device_memory(place) for place in devices_alike(where)]
    return "not now" if any(has_room(row, m) for m in ([device_memory(where)], with_all)) else "no"


def _kernel_problem(choice: str, subject: _Subject) -> str | None:
    if choice in get_args(Quantization):
        return quantization.kernel_problem(choice, subject.where, subject.dtype)
    return published_quantized.kernel_problem(subject.config, subject.where)


def _auto(
    plan: Plan, subject: _Subject, network: PreTrainedModel, source: str, *, automatic: bool
) -> tuple[str, str | None]:
    """Return what "auto" chooses, as a line, and how fast that can be at most, where it is known.

    `automatic` says whether the dtype is chosen too.
    """
    from nbllm.models.devices.device import reason_of_dtype
    from nbllm.models.memory.planner import settle

    card = subject.where if isinstance(subject.where, Card) else None
    why_dtype = reason_of_dtype(subject.where, subject.config) if automatic else None
    try:
        settled, reason = settle(plan, subject.config, network, source, why_dtype, card)
    except (TooLargeError, QuantizationError) as error:
        return str(error), None
    line = reason or settled.quantize
    if card is None or settled.kind != "causal":
        return line, None
    kept = settled.quantize if settled.quantize in get_args(Quantization) else "published"
    return line, _speed(card, active_bytes(network, kept, settled.dtype, card))


def _speed(card: Card, read: int | None) -> str:
    """Say how fast a model generates on a card, by the bytes of weights read for each token."""
    if read is None:
        return (
            "How fast it writes is not forecast: its configuration does not say how many of its "
            "experts a token is sent to."
        )
    on_one = "" if card.count == 1 else " on one card, and no more over several, which take turns"
    return (
        f"Writing a token reads {byte_size(read)} of weights, at {card.bandwidth / 1e9:,.0f} GB a "
        f"second: one text alone gets {counted(round(card.bandwidth / read), 'token')} a second at "
        f"most{on_one}."
    )
