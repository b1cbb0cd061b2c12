"""Direct logit attribution: what each part of a causal model adds to the logit of a next token.

The last residual stream is a sum, and so is a logit, once the scale of the final norm is held
at what it was. Attention and MLP are the two parts of a layer that hold matrices. A layer that
does more than add their output to the stream is refused.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import nn

from nbllm.attention.analysis.frozen_norm import frozen_norm
from nbllm.attention.recording.hooks import hooked
from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.residual import (
    FAMILIES,
    architecture,
    check_causal,
    from_start,
    layers_of,
    residual_stream,
)
from nbllm.attention.recording.rounding import rounding_tolerance
from nbllm.attention.recording.text import encode_prompt, token_id
from nbllm.checks import check_integer, check_token, reads
from nbllm.engine.logits import onloaded, output_matrix
from nbllm.engine.prompt import Prompt
from nbllm.errors import UnsupportedModelError
from nbllm.models.loader import resolve
from nbllm.models.model import Model, ModelLike

__all__ = ["direct_logit_attribution"]


@reads(token=check_token, against=check_token, position=check_integer)
def direct_logit_attribution(
    model: ModelLike,
    text: str | Prompt,
    token: int | str,
    against: int | str | None = None,
    *,
    position: int = -1,
) -> pd.DataFrame:
    """Return how much each part of a causal model adds to the logit of a token.

    The last residual stream is the sum of the embeddings and of the outputs of all attention heads
    and MLPs. Each goes through the final norm, its scale held at what it was, and the output
    matrix (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). It is
    the direct effect only: what later layers make of it counts as theirs.

    Args:
        model: A causal model, or what `nbllm.load` takes.
        text: The text to read, or a Prompt.
        token: The id of the token, or a text that is one token.
        against: A second token, whose logit is subtracted; that is a log-odds.
        position: The position of the token whose next token it is, from the end where negative.

    Returns:
        A frame with one row per part and the columns layer, component ("embedding", "attention",
        "mlp" or "bias"), head and contribution (in logits, as float64). Layer and head are missing
        where a part has none; the biases of a layer's output projection and of the end have
        rows of their own. `attrs["logit"]` is the model's own logit, `attrs["gap"]` how
        far the sum of all contributions is from it, as a share.

    Raises:
        UnsupportedModelError: The model is not causal, or its layers are not such sums:
            norms after attention or MLP (Gemma), scaled or capped logits.
        SelectionError: There is no such token or position.
        TextError: The text has no tokens, or too many.

    Example:
        >>> parts = direct_logit_attribution(llm, text, " good", " bad")  # doctest: +SKIP
        >>> parts.nlargest(5, "contribution")  # doctest: +SKIP
    """
    model = resolve(model)
    check_causal(model, "direct_logit_attribution")
    wanted = token_id(model, token)
    other = None if against is None else token_id(model, against)
    prompt = encode_prompt(model, text)
    (place,) = from_start([position], len(prompt.ids))
    blocks = _blocks(model)
    captured = _Writes(place)
    matrices = [part for attention, _ in blocks for part in attention.modules() if _matrix(part)]
    outputs = [part for block in blocks for part in block]
    with hooked(after=[(part, captured) for part in dict.fromkeys([*matrices, *outputs])]):
        ending = residual_stream(model, prompt.ids, [place])
    frozen = frozen_norm(model, ending.norm, ending.states[-1][place].float())
    direction, offset = _direction(model, wanted, other)
    device = frozen.factor.device
    direction = direction.to(device)
    stream = [state[place].float() for state in ending.states]
    names: list[tuple[int | None, str, int | None]] = [(None, "embedding", None)]
    written = [stream[0].to(device)]  # what each part added to the stream
    for layer, (attention, mlp) in enumerate(blocks):
        _check_sum(model, layer, stream, [captured.outputs.get(part) for part in (attention, mlp)])
        heads, bias = _split(model, attention, captured)
        names += [(layer, "attention", head) for head in range(len(heads))]
        names += [(layer, "bias", None), (layer, "mlp", None)]
        parts = (*heads, bias, captured.outputs[mlp].float())
        written += [part.to(device) for part in parts]
    values = (frozen(torch.stack(written)) @ direction).tolist()
    rows = [(*name, value) for name, value in zip(names, values, strict=True)]
    rows.append((None, "bias", None, float(frozen.bias @ direction) + offset))
    # A layer or norm without a bias adds nothing, to the last bit.
    rows = [row for row in rows if row[1] != "bias" or row[-1]]
    frame = pd.DataFrame(rows, columns=["layer", "component", "head", "contribution"])
    frame = frame.astype({"layer": "Int64", "head": "Int64"})
    said = float(ending.logits[0, wanted] - (0 if other is None else ending.logits[0, other]))
    _attest(model, frame, said)
    return frame


class _Writes:
    """A hook that keeps the input and the output of modules at one position."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.inputs: dict[nn.Module, torch.Tensor] = {}  # (width,) of each part
        self.outputs: dict[nn.Module, torch.Tensor] = {}  # in the order in which parts ended

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        # Copies: Falcon adds what its attention wrote to what its MLP returned, in place.
        if inputs and _has_positions(inputs[0]):
            self.inputs[module] = inputs[0][0, self.place].clone()
        if _has_positions(output):
            self.outputs[module] = output[0, self.place].clone()


def _has_positions(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 3


def _blocks(model: Model) -> list[tuple[nn.Module, nn.Module]]:
    """Attention and MLP of each layer: the two parts of a layer that hold matrices."""
    count = model.network.config.get_text_config().num_hidden_layers
    blocks = []
    for layer in layers_of(model.network, count):
        parts = {name: part for name, part in layer.named_children() if _matrix(part)}
        attention = [part for name, part in parts.items() if "attn" in name or "attention" in name]
        others = [part for part in parts.values() if part not in attention]
        if len(attention) != 1 or len(others) != 1:
            break
        blocks.append((attention[0], others[0]))
    if len(blocks) != count:
        raise UnsupportedModelError(
            f"The layers of {model.name} ({architecture(model)}) are not one attention and one "
            f"MLP each, so their parts cannot be told apart. {FAMILIES}"
        )
    return blocks


def _matrix(part: nn.Module) -> bool:
    return any(weight.ndim > 1 for weight in part.parameters())


def _check_sum(
    model: Model, layer: int, stream: list[torch.Tensor], added: list[torch.Tensor | None]
) -> None:
    """Refuse a layer that does more than add its attention and its MLP to the stream."""
    after = stream[layer + 1]
    explained = stream[layer].to(after.device)
    for part in added:
        if part is not None:
            explained = explained + part.to(after.device).float()
    gap = float((explained - after).norm() / after.norm())
    if not gap <= rounding_tolerance(model.dtype, model.device):
        raise UnsupportedModelError(
            f"Layer {layer} of {model.name} ({architecture(model)}) is not the sum of what it "
            f"was given, its attention and its MLP: they miss it by {gap:.1%}. {FAMILIES}"
        )


def _split(
    model: Model, attention: nn.Module, captured: _Writes
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of each head, (heads, width), and the bias of the output projection, (width,).

    The projection itself is run on one head at a time, the others being zero: the weights it
    does that with may be quantized, transposed or adapted.
    """
    wrote = captured.outputs[attention]
    inside = set(attention.modules()) - {attention}
    candidates = [
        module
        for module, output in captured.outputs.items()
        if module in captured.inputs and module in inside and output.shape == wrote.shape
    ]
    alike = [(captured.outputs[part].to(wrote.device) == wrote).all() for part in candidates]
    same = torch.stack(alike).tolist() if alike else []
    # Of an adapted projection the outermost: the sum of the projection and its adapter.
    found = [part for part, is_same in zip(candidates, same, strict=True) if is_same]
    count = model.network.config.get_text_config().num_attention_heads
    given = captured.inputs[found[-1]] if found else wrote[:0]
    if not found or len(given) % count:
        raise UnsupportedModelError(
            f"The attention of {model.name} ({architecture(model)}) does not end in one matrix "
            f"over its heads, so they cannot be told apart. {FAMILIES}"
        )
    alone = given.new_zeros(count + 1, count, len(given) // count)
    every = torch.arange(count, device=given.device)
    alone[every, every] = given.view(count, -1)
    with torch.inference_mode():
        written = found[-1](alone.flatten(1)[:, None])[:, 0].float()
    return written[:-1] - written[-1], written[-1]


def _direction(model: Model, token: int, against: int | None) -> tuple[torch.Tensor, float]:
    """The vector that maps the state to a logit, or the difference of two; and its bias."""
    head: Any = output_matrix(model.network)
    rows = [token] if against is None else [token, against]
    with torch.inference_mode(), onloaded(head) as there:
        plain = isinstance(head, nn.Linear) and head.weight.is_floating_point()
        if not plain or not there:
            raise UnsupportedModelError(
                f"The output matrix of {model.name} ({type(head).__name__}) cannot be read row by "
                "row. Load the model with quantize='none'."
            )
        signs = torch.tensor([1.0, -1.0][: len(rows)], device=head.weight.device)
        direction = signs @ taken(head.weight, 0, rows).float()
        offset = 0.0 if head.bias is None else float(signs @ taken(head.bias, 0, rows).float())
    return direction, offset


def _attest(model: Model, frame: pd.DataFrame, said: float) -> None:
    """Note how far the contributions miss the logit; refuse what rounding does not explain."""
    contributions = frame["contribution"]
    missing = abs(contributions.sum() - said)
    # The parts may cancel to a difference near zero: rounding is measured by their size.
    if not missing <= rounding_tolerance(model.dtype, model.device) * contributions.abs().sum():
        raise UnsupportedModelError(
            f"The parts of {model.name} ({architecture(model)}) add up to "
            f"{contributions.sum():.4g}, and it said {said:.4g}: something is done to its logits "
            f"after the output matrix. {FAMILIES}"
        )
    frame.attrs["logit"] = said
    frame.attrs["gap"] = float(missing / abs(said)) if said else float("nan")
