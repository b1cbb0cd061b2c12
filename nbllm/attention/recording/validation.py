"""Validates captured attention calls and builds the Recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nbllm.attention.recording.indexing import gathered
from nbllm.attention.recording.interception import AttentionRecorder
from nbllm.attention.recording.recording import Recording, RecordingKind, TokenRow
from nbllm.attention.recording.residual import architecture
from nbllm.attention.recording.rounding import rounding_tolerance
from nbllm.attention.recording.text import is_special, token_texts
from nbllm.engine.prompt import Prompt
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.models.model import Model

__all__ = ["build_recording", "check_layer_calls", "depths_of", "token_row", "wanted_layers"]

_FAMILIES = "Choose a model of another family, such as LLaMA, Qwen, Mistral, GPT-2 or BERT."

Depths = Mapping[RecordingKind, int]


def depths_of(model: Model) -> Depths:
    """The number of attention layers of each stack of a model."""
    config = model.network.config
    if not config.is_encoder_decoder:
        kind: RecordingKind = "causal" if model.kind == "causal" else "encoder"
        return {kind: config.get_text_config().num_hidden_layers}
    # T5 names the depth of its decoder by itself, and T5Gemma has a configuration for each half.
    decoder = getattr(config, "num_decoder_layers", None)
    if decoder is None:
        decoder = _half(config, "decoder").num_hidden_layers
    encoder = _half(config, "encoder").num_hidden_layers
    return {"encoder": encoder, "decoder": decoder, "cross": decoder}


def _half(config: Any, name: Literal["encoder", "decoder"]) -> Any:
    own = getattr(config, name, None)
    return own if hasattr(own, "num_hidden_layers") else config.get_text_config(**{name: True})


def wanted_layers(
    model: Model, layers: Sequence[int] | None, depths: Depths
) -> dict[RecordingKind, tuple[int, ...]]:
    """The numbers of the layers to keep of each stack, ascending and from 0.

    Args:
        model: The model, for the messages.
        layers: The numbers that the user gave; negative ones count from the end of their stack,
            and None stands for all.
        depths: The number of layers of each stack.

    Raises:
        SelectionError: No stack has one of the layers, or a stack would keep none.
    """
    if layers is None:
        return {kind: tuple(range(depth)) for kind, depth in depths.items()}
    deepest = max(depths.values())
    for number in layers:
        if not -deepest <= number < deepest:
            raise SelectionError(
                f"layer {number} is not in {model.name}, which has layers 0 to {deepest - 1}. "
                "Choose some of those; -1 is the last."
            )
    wanted: dict[RecordingKind, tuple[int, ...]] = {
        kind: tuple(sorted({n % depth for n in layers if -depth <= n < depth}))
        for kind, depth in depths.items()
    }
    empty: list[RecordingKind] = [kind for kind, numbers in wanted.items() if not numbers]
    if empty:
        raise SelectionError(
            f"None of the layers {list(layers)} is in the {empty[0]} of {model.name}, which has "
            f"layers 0 to {depths[empty[0]] - 1}. Name at least one of them."
        )
    return wanted


def check_layer_calls(model: Model, calls: Mapping[RecordingKind, int], depths: Depths) -> None:
    """Check that a pass made one attention call for each layer.

    Args:
        model: The model, for the messages.
        calls: The calls that were intercepted, of each stack.
        depths: The number of layers of each stack.

    Raises:
        UnsupportedModelError: It made fewer calls, or more.
    """
    if all(calls.get(kind, 0) == depth for kind, depth in depths.items()):
        return
    config = model.network.config.get_text_config()
    if not calls and not hasattr(config, "num_attention_heads"):
        raise UnsupportedModelError(
            f"{model.name} ({architecture(model)}) has no attention: its layers mix tokens in "
            f"another way, so there is nothing to record. {_FAMILIES}"
        )
    expected, intercepted = (
        ", ".join(f"{count} of the {kind}" for kind, count in sorted(counted.items()) if count)
        for counted in (depths, calls)
    )
    raise UnsupportedModelError(
        f"{model.name} ({architecture(model)}) does not compute the attention of each layer by "
        f"one call of transformers' AttentionInterface (layers: {expected}; calls: "
        f"{intercepted or 'none'}), so what it looked at cannot be recorded. {_FAMILIES}"
    )


def token_row(model: Model, prompt: Prompt) -> TokenRow:
    """The tokens of a prompt, as the rows or columns of attention matrices."""
    return TokenRow(
        text=prompt.text,
        ids=prompt.ids,
        tokens=token_texts(model, prompt),
        spans=prompt.spans,
        special=is_special(model, prompt),
        field_spans=prompt.field_spans,
    )


def build_recording(
    model: Model,
    recorder: AttentionRecorder,
    kind: RecordingKind,
    queries: TokenRow,
    keys: TokenRow,
    *,
    text: int = 0,
    prompt_length: int | None = None,
) -> Recording:
    """Build the recording of one stack of layers over one text.

    Args:
        model: The model that ran.
        recorder: What captured its passes.
        kind: The stack.
        queries: The tokens of the rows.
        keys: The tokens of the columns.
        text: The number of the text in the batch.
        prompt_length: The number of tokens before those that the model wrote, if it wrote any.

    Raises:
        UnsupportedModelError: Queries and keys do not explain the output of the layers.
    """
    captured = recorder.accumulators(text, kind)
    layers = tuple(layer.layer() for layer in captured.values())
    if kind == "encoder" and all(layer.causal for layer in layers):
        kind = "causal"  # a classifier that was made from a language model
    recording = Recording(
        model=model.name,
        kind=kind,
        queries=queries,
        keys=keys,
        layer_numbers=tuple(captured),
        layers=layers,
        reconstruction_errors=tuple(
            gathered([layer.reconstruction_error() for layer in captured.values()]).tolist()
        ),
        prompt_length=prompt_length,
        storage=recorder.storage,
    )
    if len({layer.heads for layer in recording.layers}) != 1:
        raise UnsupportedModelError(
            f"The layers of {model.name} ({architecture(model)}) differ in their number of "
            "heads, which cannot be recorded yet. Choose a model of another family."
        )
    dtype, worst = recording.layers[0].query.dtype, recording.reconstruction_error()
    # Rounding alone is far below that: about 1e-6 in fp32, 4e-3 in bf16.
    if not worst <= rounding_tolerance(dtype, model.device):  # also where it is not a number
        raise UnsupportedModelError(
            f"The attention of {model.name} ({architecture(model)}) is made of more than queries "
            f"and keys: weights computed from them miss what it returned by {worst:.1%}. They "
            "would mislead, so they are refused. Choose a model of another family."
        )
    return recording
