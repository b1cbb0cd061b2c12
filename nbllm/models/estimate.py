"""What a model would take in memory on this machine, told from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from nbllm.checks import check_text, reads
from nbllm.errors import ModelError, QuantizationError, TextTooLongError
from nbllm.models import quantization
from nbllm.models.catalog import DEFAULT
from nbllm.models.footprint import quantizing_bytes
from nbllm.models.memory import device_memory, free_memory, kv_bytes, weight_bytes
from nbllm.models.published import published
from nbllm.models.quantization import Quantization, quantized_layers
from nbllm.wording import counted

if TYPE_CHECKING:
    import pandas
    import torch
    from plotly.graph_objects import Figure
    from transformers import PreTrainedConfig, PreTrainedModel

    from nbllm.models.model import Kind
    from nbllm.models.rehearsal import Rehearsal

__all__ = ["Estimate", "Requirement", "estimate"]

_USUAL_CONTEXT = 2048  # tokens, where none is asked for and the model takes as many

Fits = Literal["yes", "not now", "no", "no kernel"]


@dataclass(frozen=True)
class Requirement:
    """Bytes that one quantization takes with one context and batch."""

    quantization: str
    context: int  # tokens of each text
    batch: int  # texts
    weights: int
    cache: int  # keys and values, of all texts
    activations: int  # what else is alive at the worst moment of reading them
    loading: int  # the peak while the weights are read and quantized
    fits: Fits = "no"  # "not now": only if other programs gave memory back

    @property
    def running(self) -> int:
        """The peak once it is loaded."""
        return self.weights + self.cache + self.activations

    @property
    def peak(self) -> int:
        """The greater of loading and running."""
        return max(self.loading, self.running)


@dataclass(frozen=True, repr=False)
class Estimate:
    """The memory that a model would take: a row for each quantization, context and batch.

    It shows itself as a table; `to_frame()` gives the bytes, `plot()` a chart.
    """

    name: str
    kind: Kind
    parameters: int
    dtype: str
    device: str  # cpu, cuda, mps
    memory: int  # bytes of the device, in use or not
    free: int  # those that can be had now
    rows: tuple[Requirement, ...]
    notes: tuple[str, ...] = ()  # what could not be forecast

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a pandas frame, in bytes.

        >>> nbllm.estimate("smollm2").to_frame()[["quantization", "peak"]]  # doctest: +SKIP
        """
        import pandas

        return pandas.DataFrame([{**asdict(row), "peak": row.peak} for row in self.rows])

    def plot(self) -> Figure:
        """Stacked bars of what is held, and the machine's memory as a line."""
        from nbllm.models.estimate_view import plot

        return plot(self)

    def __repr__(self) -> str:
        from nbllm.models.estimate_view import plain

        return plain(self)

    def _repr_html_(self) -> str:
        from nbllm.models.estimate_view import html

        return html(self)


@dataclass(frozen=True)
class _Subject:
    """The model that is asked about, and how it would run."""

    config: PreTrainedConfig
    kind: Kind
    dtype: torch.dtype
    device: torch.device
    trust_remote_code: bool

    def network(self) -> PreTrainedModel:
        """A new one on the meta device."""
        from nbllm.models.architecture import skeleton

        return skeleton(self.config, self.kind, self.trust_remote_code)


@dataclass(frozen=True)
class _Held:
    """What one quantization makes of the weights."""

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
) -> Estimate:
    """Forecast the memory that a model takes, before any of its weights are fetched.

    It is that of `nbllm.load` and one pass over `batch` texts of `context` tokens: with keys
    and values kept and only the last logits, as `generate` begins, for a model that writes.
    An encoder-decoder is taken to answer with as many tokens as it reads. Counted is what
    the system cannot have back: tensors, and the pages of weight files that stay in use; `top`
    adds pages that were only read once. What CUDA itself takes, some hundred MB, is not in it.

    Args:
        name_or_path: as in `load`.
        quantize: one or several of those that `load` takes; None is all of them. A checkpoint
            that was published quantized stays so; "none" unpacks it.
        context: tokens of a text; None is what the model takes, 2048 at most.
        batch: texts at once.
        dtype, device, revision, trust_remote_code: as in `load`.

    Raises:
        UnknownModelError, DownloadError: its configuration could not be had.
        UnsupportedModelError: it is of another kind, or its configuration does not tell.
        QuantizationError: there is no such quantization, or it has another already.
        TextTooLongError: the model does not take as many tokens.

    Example:
        >>> estimate("owner/name", context=[512, 4096], batch=8).plot()  # doctest: +SKIP
    """
    from nbllm.models.configuration import (
        context_length_of,
        kind_of,
        read_configuration,
        refuse_unsized,
    )
    from nbllm.models.device import choose_device, choose_dtype
    from nbllm.models.loader import check_named
    from nbllm.models.sources import fetch_configuration

    check_named("name_or_path", name_or_path)
    where = choose_device(device)
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
    subject = _Subject(config, kind, choose_dtype(dtype, where), where, trust_remote_code)
    network = subject.network()
    choices = _choices(quantize, published(config), fetched.source)
    held = {
        choice: _hold(network, choice, replace(subject, dtype=choose_dtype(dtype, where, choice)))
        for choice in choices
    }
    layers = {choice: part.layers for choice, part in held.items()}
    memory, free = device_memory(where), free_memory(where)
    rows: list[Requirement] = []
    notes: list[str] = []
    for tokens in contexts:
        for texts in batches:
            passed, note = _pass(subject, layers, tokens, texts)
            notes += [note] if note and note not in notes else []
            for choice, part in held.items():
                row = Requirement(
                    quantization=choice,
                    context=tokens,
                    batch=texts,
                    weights=part.weights,
                    cache=passed.cache,
                    activations=passed.activations[choice],
                    loading=part.loading,
                )
                rows.append(replace(row, fits=_fits(row, where, memory, free)))
    return Estimate(
        name=str(name_or_path),
        kind=kind,
        parameters=network.num_parameters(),
        dtype=str(subject.dtype).removeprefix("torch."),
        device=where.type,
        memory=memory,
        free=free,
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _counts(name: str, asked: int | Sequence[int]) -> list[int]:
    counts = asked if isinstance(asked, (list, tuple, range)) else [asked]
    if not counts or any(type(n) is not int or n < 1 for n in counts):
        raise ModelError(f"{name}={asked!r} is no number of things. Give 1 or more, or a list.")
    return list(counts)


def _choices(
    asked: str | Sequence[str] | None, as_published: str | None, source: str
) -> tuple[str, ...]:
    known = get_args(Quantization) if as_published is None else (as_published, "none")
    if asked is None:
        return known if as_published is None else (as_published,)
    choices = tuple(asked) if isinstance(asked, (list, tuple)) else (asked,)
    wrong = [choice for choice in choices if not isinstance(choice, str) or choice not in known]
    if wrong or not choices:
        stated = "" if as_published is None else f" {source} was published in {as_published}."
        raise QuantizationError(
            f"There is no estimate for quantize={wrong or list(choices)!r}.{stated} Give one or "
            f"several of {', '.join(map(repr, known))}."
        )
    return choices


def _hold(network: PreTrainedModel, choice: str, subject: _Subject) -> _Held:
    """What the weights take, as they are kept and while they are quantized."""
    ready = choice == published(subject.config)
    kept = choice if choice in get_args(Quantization) else "published"
    weights = weight_bytes(network, kept, subject.dtype, subject.device)
    # A checkpoint that says no more leaves its output matrix whole, as int8 does.
    rule = choice if kept == choice else "int8"
    layers = quantized_layers(network, rule, subject.device)
    most = max(
        (quantizing_bytes(choice, *shape, subject.device) for shape in layers.values()), default=0
    )
    return _Held(layers, weights, weights + (0 if ready else most))


def _pass(
    subject: _Subject,
    layers: Mapping[str, Mapping[str, tuple[int, int]]],
    context: int,
    batch: int,
) -> tuple[Rehearsal, str | None]:
    """One pass rehearsed; where the model's code cannot be, what is known without it."""
    from nbllm.models.rehearsal import Rehearsal, rehearse

    try:
        return rehearse(
            subject.network(), subject.kind, subject.dtype, subject.device, layers, context, batch
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
        return Rehearsal(cache, dict.fromkeys(layers, 0)), note


def _fits(row: Requirement, device: torch.device, memory: int, free: int) -> Fits:
    if row.quantization in get_args(Quantization) and quantization.kernel_problem(
        row.quantization, device
    ):
        return "no kernel"
    if row.peak <= free:
        return "yes"
    return "not now" if row.peak <= memory else "no"
