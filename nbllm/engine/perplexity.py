"""Perplexity: how well a model predicts texts, token by token.

Tokens differ from one tokenizer to the next, and so does the perplexity of the same
probability. Bits per byte do not, so models are compared in those.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nbllm.blank import is_blank
from nbllm.checks import check_whole, reads, shown
from nbllm.display.progress_bar import bar_class
from nbllm.engine.batching import TokenBudget, batches
from nbllm.engine.chunks import logits_at_once
from nbllm.engine.logits import head_input, logits_of_states
from nbllm.engine.padding import pad_rows
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, plain
from nbllm.engine.runner import is_out_of_memory
from nbllm.engine.sharing import refuse_unless_scored, shares_prefix
from nbllm.errors import ModelError, TextError, UnsupportedModelError
from nbllm.escaping import visible
from nbllm.models.kind import CALLED
from nbllm.models.loader import resolve
from nbllm.models.model import Model, ModelLike
from nbllm.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

__all__ = ["Perplexity", "perplexity"]

# Longer windows cost more and tell little more; it is the length that most figures are given for.
_WINDOW = 2048


@dataclass(frozen=True, eq=False)
class Perplexity:
    """The result of `perplexity`, in total and text by text.

    `nll`, `tokens` and `utf8_bytes` have shape (texts,): the negative log-likelihood in nats, and
    the number of tokens and bytes it is of. A text of which nothing could be predicted has 0.
    """

    model: str  # what the user called it
    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]
    window: int
    stride: int

    @property
    def value(self) -> float:
        """The perplexity of all texts together: exp of the mean over tokens."""
        return float(np.exp(self.nll.sum() / self.tokens.sum()))

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8, by which models with different tokenizers can be compared."""
        return float(self.nll.sum() / np.log(2) / self.utf8_bytes.sum())

    @property
    def per_text(self) -> NDArray[np.float64]:
        """The perplexity of each text, shape (texts,); NaN where nothing could be predicted."""
        known = self.tokens > 0
        mean = np.divide(self.nll, self.tokens, where=known, out=np.full(len(known), np.nan))
        perplexities: NDArray[np.float64] = np.exp(mean)
        return perplexities

    def __repr__(self) -> str:
        return visible(
            f"perplexity {self.value:.4g}, {self.bits_per_byte:.4g} bits a byte: {self.model} on "
            f"{counted(int((self.tokens > 0).sum()), 'text')}, "
            f"{counted(int(self.tokens.sum()), 'token')}"
        )


@dataclass(frozen=True)
class _Window:
    """A piece of a text that is computed in one pass, of which the tokens from `first` on count."""

    text: int
    ids: tuple[int, ...]
    first: int


@reads(window=check_whole, stride=check_whole)
def perplexity(
    model: ModelLike, texts: Iterable[Any], *, window: int | None = None, stride: int | None = None
) -> Perplexity:
    """Measure how well a causal model predicts texts; lower is better.

    Each text stands alone. Where the tokenizer opens a text with BOS, its first token is
    predicted from that; else it has nothing before it and does not count, nor do its bytes.
    Texts longer than a window are read in windows that overlap, each token counted once, in the
    window that has most of the text before it
    (https://huggingface.co/docs/transformers/perplexity).

    Args:
        model: a causal model, or its name.
        texts: strings, such as a column of a frame; missing and blank ones do not count.
        window: tokens per window; by default 2,048, or all that the model takes.
        stride: tokens from one window to the next; by default half a window.

    Returns:
        The perplexity, the bits per byte, and the figures of each text.

    Raises:
        UnsupportedModelError: the model is not a causal one, or its network is not.
        TextError: one of them is no text, or there is none with two tokens.
        ModelError: a window or stride that cannot be, or the output is not finite.

    Example:
        >>> perplexity(llm, df["review"]).bits_per_byte  # doctest: +SKIP
        1.31
    """
    model = resolve(model)
    if model.kind != "causal":
        raise UnsupportedModelError(
            f"perplexity asks a causal language model, and {model.name} is "
            f"{CALLED[model.kind]}. Load one that generates text, such as nbllm.load()."
        )
    if not shares_prefix(model.network):
        refuse_unless_scored(model)
    window = min(_WINDOW, model.context_length) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 2 <= window <= model.context_length or not 1 <= stride <= window:
        raise ModelError(
            f"window={window} with stride={stride} cannot be. Pass a window of 2 to "
            f"{counted(model.context_length, 'token')}, which is all that {model.name} takes, and "
            "a stride of 1 to a window."
        )
    prompts = _tokenize(model, texts)
    windows = [
        _Window(number, prompt.ids[begin:end], first - begin)
        for number, prompt in enumerate(prompts)
        if prompt is not None
        for begin, end, first in _cut(len(prompt.ids), window, stride)
    ]
    if not windows:
        raise TextError("there is no text of two tokens or more. Pass some with more words.")
    nll = np.zeros(len(prompts))
    tokens = np.zeros(len(prompts), dtype=np.int64)
    budget = TokenBudget.of(model, decodes=False)
    make_bar = bar_class()
    with make_bar(total=len(windows), desc="perplexity", unit="window", dynamic_ncols=True) as bar:
        for batch in batches([len(piece.ids) for piece in windows], budget):
            some = [windows[i] for i in batch]
            for piece, value in zip(some, _window_losses(model, some, budget), strict=True):
                nll[piece.text] += value
                tokens[piece.text] += len(piece.ids) - piece.first
            bar.update(len(some))
    if not np.isfinite(nll).all():
        raise ModelError(
            f"the output of {model.name} is not a finite number in {model.dtype}. Load it with "
            "dtype='bf16' or 'fp32'."
        )
    # The first token has nothing before it, or is BOS.
    counts = [
        0 if p is None or len(p.ids) < 2 else len(p.text[p.spans[0][1] :].encode()) for p in prompts
    ]
    return Perplexity(model.name, nll, tokens, np.array(counts), window, stride)


def _tokenize(model: Model, texts: Iterable[Any]) -> list[Prompt | None]:
    """Return each text as tokens, after BOS where the tokenizer writes one; None without a text."""
    if isinstance(texts, str):
        raise TextError("texts is one string. Pass a list of them: [text].")
    if not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) != 1:
        raise TextError(f"texts={shown(texts)} is no list. Pass one of strings.")
    values = list(texts)
    filled = [n for n, value in enumerate(values) if isinstance(value, str) and not is_blank(value)]
    odd = [value for value in values if not isinstance(value, str) and not _is_missing(value)]
    if odd:
        raise TextError(f"{odd[0]!r:.80} is not a text. Pass strings, for instance str(value).")
    template = CompiledTemplate(plain(model.tokenizer, [Part("field", "text")]), model.tokenizer)
    read = template.encode([(values[n],) for n in filled], limit=sys.maxsize)
    prompts: list[Prompt | None] = [None] * len(values)
    for n, prompt in zip(filled, read, strict=True):
        if isinstance(prompt, Exception):
            raise prompt
        prompts[n] = prompt
    return prompts


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA will not say
        return True


def _cut(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield windows over a text of `length` tokens as (begin, end, first token that counts)."""
    counted = 1
    for begin in range(0, length - 1, stride):
        end = min(begin + window, length)
        yield begin, end, max(counted, begin + 1)
        counted = end
        if end == length:
            return


def _window_losses(model: Model, windows: Sequence[_Window], budget: TokenBudget) -> list[float]:
    """Return the nats of each window, of the tokens that count; in halves where memory runs out."""
    try:
        return _nats(model, windows)
    except Exception as error:
        if len(windows) == 1 or not is_out_of_memory(error):
            raise
    budget.lower(len(windows), max(len(piece.ids) for piece in windows))
    half = len(windows) // 2
    return [
        *_window_losses(model, windows[:half], budget),
        *_window_losses(model, windows[half:], budget),
    ]


def _nats(model: Model, windows: Sequence[_Window]) -> list[float]:
    # Padding to the right: no token that counts sees it.
    ids, seen = pad_rows([piece.ids for piece in windows], 0)
    first = torch.tensor([[piece.first] for piece in windows])
    network, device = model.network, model.device
    rows, places = (seen & (torch.arange(ids.shape[1]) >= first)).nonzero(as_tuple=True)
    with torch.inference_mode():
        states = _states(network, ids.to(device), seen.long().to(device))
        before = states[rows.to(states.device), places.to(states.device) - 1]
        targets = ids[rows, places]
        size = max(1, logits_at_once(device) // network.config.get_text_config().vocab_size)
        losses = [
            _losses(logits_of_states(model, some, windows[0].ids[0]), wanted).cpu()
            for some, wanted in zip(
                torch.split(before, size), torch.split(targets, size), strict=True
            )
        ]
    nats = torch.zeros(len(windows), dtype=torch.float64)
    nats.index_add_(0, rows, torch.cat(losses).double())
    return [float(value) for value in nats]


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    # Logits of a network that is spread come back to the device of its input.
    return torch.nn.functional.cross_entropy(logits, targets.to(logits.device), reduction="none")


def _states(network: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the input of the output matrix for each token: shape (rows, tokens, width)."""
    taken: list[torch.Tensor] = []

    def take(states: torch.Tensor) -> torch.Tensor:
        taken.append(states)
        return states[:, -1:]

    with head_input(network, take):
        network(input_ids=ids, attention_mask=mask, use_cache=False)
    return taken[0]
