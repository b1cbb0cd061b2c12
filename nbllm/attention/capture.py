"""Recording attention inside the function that really computes it.

Attention kernels (sdpa, flash) never write the weights down. But softmax(q·kᵀ) can be
computed again for any part of a head from the q and k that the kernel was given, after
RoPE and before the grouped key heads are repeated. So a recording keeps those, and a
tile of 256 by 256 weights costs a product of that size, whatever the length of the text.

A listener takes the place of the model's own entry in transformers' AttentionInterface
for one forward pass, calls the function that was there, and writes down what went in.
The model's configuration is left alone: its masks, its kernel and its result are those
of an ordinary pass. Every layer is then checked against what the kernel returned.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nbllm.attention.layer import Layer
from nbllm.engine.prompt import Mark, Prompt
from nbllm.errors import SelectionError, TextError, TextTooLongError, UnsupportedModelError
from nbllm.models.model import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Recording", "record"]

CHECKED_ROWS = 16  # of every layer and head
# Beyond this the recorded q and k are not all that the model's attention is made of.
# Far above rounding, which closure() reports: about 1e-6 in fp32, 4e-3 in bf16.
LARGEST_GAP = {torch.float32: 1e-3, torch.float64: 1e-3}
LARGEST_GAP_HALF = 5e-2

Selection = slice | Sequence[int] | None


@dataclass(eq=False)
class Recording:
    """The attention of one forward pass over one text.

    Made by `record`. It holds no reference to the model, which may be unloaded.
    """

    model: str  # what the user called it
    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]  # each as readable text
    spans: tuple[tuple[int, int], ...]  # character range in `text` of each token
    special: tuple[bool, ...]  # added by the tokenizer or the chat template
    marks: tuple[Mark, ...]  # where the user's own texts lie, if the prompt tells
    causal: bool
    layers: tuple[Layer, ...] = field(repr=False)
    gaps: tuple[float, ...] = field(repr=False)  # per layer, on a sample of rows
    _sums: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.layers[0].heads

    def __len__(self) -> int:
        """Tokens of the text."""
        return len(self.ids)

    def weights(
        self, layer: int, head: int, rows: Selection = None, columns: Selection = None
    ) -> NDArray[np.float32]:
        """Attention weights of one head: how much each query took from each key.

        `rows` chooses queries and `columns` keys, as slices or as token positions; without
        them all are given. A part equals that part of the whole to rounding: a row of the whole
        sums to 1 (to less with a model that has attention sinks).

        Returns float32, (rows, columns). Raises SelectionError for a layer, head or token
        that is not in the recording.

            recording.weights(layer=3, head=1, rows=[-1 + len(recording)])
        """
        self.check(layer, head)
        chosen = self.layers[layer]
        device = chosen.query.device
        one = torch.tensor([head], device=device)
        if (layer, head) not in self._sums:
            every = torch.arange(len(self), device=device)
            self._sums[layer, head] = chosen.log_sum_exp(one, every)[0]
        queries = torch.tensor(self._positions(rows), dtype=torch.long, device=device)
        keys = torch.tensor(self._positions(columns), dtype=torch.long, device=device)
        scores = chosen.scores(one, queries, keys)[0]
        weights = torch.exp(scores - self._sums[layer, head][queries, None])
        return weights.cpu().numpy()

    def closure(self) -> float:
        """How far the recorded weights are from explaining what the kernel returned.

        The largest relative error of weights · v over all layers, taken on a sample of
        rows of every head while the pass ran: about 1e-6 in fp32, 4e-3 in bf16.
        """
        return max(self.gaps)

    def check(self, layer: int, head: int, token: int | None = None) -> None:
        """Raise SelectionError unless layer, head and token are in the recording."""
        limits = [("layer", layer, len(self.layers)), ("head", head, self.heads)]
        if token is not None:
            limits.append(("token", token, len(self)))
        for name, value, size in limits:
            if not 0 <= value < size:
                raise SelectionError(
                    f"{name} {value} is not in this recording of {self.model}, which has "
                    f"{name}s 0 to {size - 1}. Choose one of those."
                )

    def _positions(self, selection: Selection) -> list[int]:
        if selection is None:
            return list(range(len(self)))
        if isinstance(selection, slice):
            return list(range(len(self))[selection])
        for position in selection:
            self.check(0, 0, position)
        return list(selection)


def record(model: Model, text: str | Prompt) -> Recording:
    """Run one forward pass and keep what its attention was computed from.

    The model runs as it is: quantized or not, with its own attention function. A string
    is tokenized as it stands, with the tokenizer's special tokens and no chat template; a
    Prompt is taken token by token, with its marks.

    Raises UnsupportedModelError for a model whose attention does not go through
    transformers' AttentionInterface, TextTooLongError for a text beyond the context, and
    TextError for a text without tokens.

        recording = nbllm.record(model, "The plot was thin, but I loved it.")
        recording.weights(layer=5, head=2)      # (tokens, tokens)
    """
    if model.network.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{model.name} is an encoder-decoder, whose cross-attention cannot be recorded "
            "yet. Record a causal model, an encoder or a classifier."
        )
    prompt = text if isinstance(text, Prompt) else _tokenize(model, text)
    count = len(prompt.ids)
    if count == 0:
        raise TextError("There is no text to record: it has no tokens. Give one that has words.")
    if count > model.context_length:
        raise TextTooLongError(
            f"The text has {count:,} tokens, and {model.name} reads at most "
            f"{model.context_length:,}. Shorten it by {count - model.context_length:,} tokens."
        )
    config = model.network.config.get_text_config()
    heard: list[tuple[Layer, float]] = []
    ids = torch.tensor([prompt.ids], device=model.device)
    options = {"use_cache": False} if model.kind == "causal" else {}
    with torch.inference_mode(), _listening(model, heard):
        # The body without its head: logits over a vocabulary would be the largest tensor.
        model.network.base_model(input_ids=ids, **options)
    _check_heard(model, heard, config.num_hidden_layers)
    special = set(model.tokenizer.all_special_ids)
    return Recording(
        model=model.name,
        text=prompt.text,
        ids=prompt.ids,
        tokens=tuple(
            _readable(model, token, prompt.text[start:stop], token in special)
            for token, (start, stop) in zip(prompt.ids, prompt.spans, strict=True)
        ),
        spans=prompt.spans,
        special=tuple(token in special for token in prompt.ids),
        marks=prompt.marks,
        causal=model.kind == "causal",
        layers=tuple(layer for layer, _ in heard),
        gaps=tuple(gap for _, gap in heard),
    )


def _tokenize(model: Model, text: str) -> Prompt:
    if not isinstance(text, str):
        raise TypeError(f"record takes a str or a Prompt, not {type(text).__name__}.")
    # Half of a surrogate pair, as pandas may read it from a broken file, is no text.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    coded = model.tokenizer(text, return_offsets_mapping=True, verbose=False)
    spans = tuple((start, stop) for start, stop in coded["offset_mapping"])
    return Prompt(ids=tuple(coded["input_ids"]), text=text, spans=spans, marks=())


def _readable(model: Model, token: int, piece: str, special: bool) -> str:
    if piece:
        return piece
    if special:
        return str(model.tokenizer.convert_ids_to_tokens(token))
    return str(model.tokenizer.decode([token]))


_pass: ContextVar[list[tuple[Layer, float]] | None] = ContextVar("_pass", default=None)
_one_at_a_time = threading.RLock()


@contextmanager
def _listening(model: Model, heard: list[tuple[Layer, float]]) -> Iterator[None]:
    """Put a listener before each attention function that the network's parts name."""
    table = ALL_ATTENTION_FUNCTIONS
    configs = (getattr(module, "config", None) for module in model.network.modules())
    names = {getattr(config, "_attn_implementation", None) for config in configs} - {None}
    with _one_at_a_time:
        before = {name: table.get(name) for name in names}
        for name, function in before.items():
            table[name] = _listener(function)
        mine = _pass.set(heard)
        try:
            yield
        finally:
            _pass.reset(mine)
            for name, function in before.items():
                table.pop(name)
                if function is not None and table.get(name) is not function:
                    table[name] = function  # an override that stood there before


def _listener(function: Callable[..., Any] | None) -> Callable[..., Any]:
    """The same attention function, with what it is given and returns written down.

    None stands for eager, which each model's own file defines.
    """

    def listen(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        run = function or sys.modules[type(module).__module__].eager_attention_forward
        result = run(module, query, key, value, attention_mask, *arguments, **options)
        heard = _pass.get()
        if heard is not None:  # None in the thread of another model
            layer = _layer(module, query, key, attention_mask, function is None, options)
            heard.append((layer, _gap(layer, value[0], result[0][0])))
        return result

    return listen


def _layer(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    eager: bool,
    options: dict[str, Any],
) -> Layer:
    tokens = query.shape[2]
    if mask is not None and mask.ndim == 2:
        mask = None  # flash's padding mask, and nothing is padded here
    causal = options.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    scale = options.get("scaling")
    bias = options.get("position_bias")
    sinks = options.get("s_aux")
    return Layer(
        # A view into a fused q, k, v projection would keep all of it alive.
        query=query[0].detach().contiguous(),
        key=key[0].detach().contiguous(),
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        mask=None if mask is None else mask[0, :, :tokens, :tokens],
        bias=None if bias is None else bias[0],
        # Eager code masks nothing by itself; the kernels do where they are given no mask.
        causal=bool(causal) and mask is None and not eager,
        window=options.get("sliding_window") if mask is None and not eager else None,
        softcap=options.get("softcap"),
        sinks=None if sinks is None else sinks.detach(),
    )


def _gap(layer: Layer, value: torch.Tensor, output: torch.Tensor) -> float:
    """Relative error of weights · v against the kernel's output, on a sample of rows.

    value: (key_heads, tokens, value_dim); output: (tokens, heads, value_dim).
    """
    tokens, device = value.shape[1], value.device
    rows = torch.linspace(0, tokens - 1, min(tokens, CHECKED_ROWS), device=device).long()
    heads = torch.arange(layer.heads, device=device)
    spread = value.float()[heads // (layer.heads // value.shape[0])]
    explained = layer.weights(heads, rows) @ spread
    returned = output[rows].float().transpose(0, 1)
    return float((explained - returned).norm() / returned.norm().clamp_min(1e-12))


def _check_heard(model: Model, heard: list[tuple[Layer, float]], layers: int) -> None:
    """Refuse a pass that was not heard whole, or that q and k do not explain."""
    architecture = type(model.network).__name__
    if len(heard) != layers:
        raise UnsupportedModelError(
            f"{model.name} ({architecture}) computes the attention of {layers - len(heard)} of "
            f"its {layers} layers outside of transformers' AttentionInterface, so what it "
            "looked at cannot be recorded. Choose a model of another family, such as LLaMA, "
            "Qwen, Mistral, GPT-2 or BERT."
        )
    if len({layer.heads for layer, _ in heard}) != 1:
        raise UnsupportedModelError(
            f"The layers of {model.name} ({architecture}) differ in their number of heads, "
            "which cannot be recorded yet. Choose a model of another family."
        )
    allowed = LARGEST_GAP.get(heard[0][0].query.dtype, LARGEST_GAP_HALF)
    worst = max(gap for _, gap in heard)
    if not worst <= allowed:  # also where it is not a number
        raise UnsupportedModelError(
            f"The attention of {model.name} ({architecture}) is made of more than queries and "
            f"keys: weights computed from them miss what it returned by {worst:.1%}. They "
            "would mislead, so they are refused. Choose a model of another family."
        )
