"""Recording a model that reads one text and writes another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import GenerationConfig

from nbllm.attention.recording.generated import append_tokens
from nbllm.attention.recording.interception import AttentionRecorder
from nbllm.attention.recording.padding import Padded
from nbllm.attention.recording.recording import EncoderDecoderRecording, RecordingKind
from nbllm.attention.recording.storage import Storage
from nbllm.attention.recording.text import encode_prompt
from nbllm.attention.recording.validation import (
    build_recording,
    check_layer_calls,
    depths_of,
    token_row,
    wanted_layers,
)
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.engine.tokenization import eos_token_ids
from nbllm.errors import TextTooLongError, UnsupportedModelError
from nbllm.models.model import Model
from nbllm.wording import counted

__all__ = ["record_pairs"]

_MOST_WRITTEN = 128  # tokens, where nobody says how many


def record_pairs(
    model: Model,
    pairs: Sequence[tuple[Prompt, str | Prompt | None]],
    layers: Sequence[int] | None,
    offload: bool | str | Path,
    generate: int,
) -> list[EncoderDecoderRecording]:
    """One pass of an encoder-decoder over texts and what it wrote or is to have written."""
    depths = depths_of(model)
    targets = [
        _given(model, target)
        if target is not None
        else _written(model, prompt, generate or _MOST_WRITTEN)
        for prompt, target in pairs
    ]
    source = Padded.of(model, [prompt.ids for prompt, _ in pairs])
    written = Padded.of(model, [target.ids for target in targets])
    recorder = AttentionRecorder(
        model.network,
        kind=_stacks(model),
        wanted=wanted_layers(model, layers, depths),
        places=[
            {"encoder": (read, read), "decoder": (wrote, wrote), "cross": (wrote, read)}
            for read, wrote in zip(source.places, written.places, strict=True)
        ],
        room=[
            {"encoder": (read, read), "decoder": (wrote, wrote), "cross": (wrote, read)}
            for read, wrote in (
                (len(prompt.ids), len(target.ids))
                for (prompt, _), target in zip(pairs, targets, strict=True)
            )
        ],
        storage=Storage(offload),
    )
    with torch.inference_mode(), recorder.forward_pass():
        model.network.base_model(
            input_ids=source.ids,
            attention_mask=source.mask,
            decoder_input_ids=written.ids,
            decoder_attention_mask=written.mask,
            use_cache=False,
        )
    check_layer_calls(model, recorder.layer_calls, depths)
    recordings = []
    for text, ((prompt, _), target) in enumerate(zip(pairs, targets, strict=True)):
        reads, writes = token_row(model, prompt), token_row(model, target)
        recordings.append(
            EncoderDecoderRecording(
                encoder=build_recording(model, recorder, "encoder", reads, reads, text=text),
                decoder=build_recording(
                    model, recorder, "decoder", writes, writes, text=text, prompt_length=1
                ),
                cross=build_recording(
                    model, recorder, "cross", writes, reads, text=text, prompt_length=1
                ),
            )
        )
    return recordings


def _given(model: Model, target: str | Prompt) -> Prompt:
    """A target as the decoder reads it: behind the token that starts it, and without its end."""
    text = encode_prompt(model, target, as_target=True)
    ends = text.ids[-1] in eos_token_ids(model)
    count = len(text.ids) - ends
    start = _start(model)
    if count >= model.context_length:
        raise TextTooLongError(
            f"The target has {counted(count, 'token')}, and the decoder of {model.name} reads at "
            f"most {model.context_length - 1:,} and the one that starts it. Shorten it."
        )
    return Prompt(
        ids=(*start.ids, *text.ids[:count]),
        text=text.text,
        spans=(*start.spans, *text.spans[:count]),
        field_spans=tuple(
            FieldSpan(span.field, span.start + 1, span.stop + 1) for span in text.field_spans
        ),
    )


def _written(model: Model, prompt: Prompt, most: int) -> Prompt:
    """What the model writes itself, always the likeliest token, as its decoder reads it."""
    ids = torch.tensor([prompt.ids], device=model.device)
    # What is not named here, such as a token that it has to begin with, `generate` takes from
    # the model's own configuration.
    config = GenerationConfig(
        max_new_tokens=min(most, model.context_length - 1), do_sample=False, num_beams=1
    )
    with torch.inference_mode():
        out = model.network.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
    written = out[0, 1:].tolist()
    if written and written[-1] in eos_token_ids(model):
        del written[-1]
    return append_tokens(_start(model), written, model.tokenizer)


def _start(model: Model) -> Prompt:
    """The token that a decoder starts with, which is no text."""
    settings = (model.network.generation_config, model.network.config.get_text_config())
    stated = (getattr(setting, "decoder_start_token_id", None) for setting in settings)
    start = next((token for token in stated if token is not None), None)
    if start is None:
        raise UnsupportedModelError(
            f"The configuration of {model.name} names no token for its decoder to start with "
            "(decoder_start_token_id). Set it in model.network.config."
        )
    return Prompt(ids=(start,), text="", spans=((0, 0),), field_spans=())


def _stacks(model: Model) -> Callable[[nn.Module], RecordingKind]:
    """Of an attention module, whether it is of the encoder, the decoder or between them."""
    encoder = set(map(id, model.network.get_encoder().modules()))

    def kind(module: nn.Module) -> RecordingKind:
        if id(module) in encoder:
            return "encoder"
        return "decoder" if getattr(module, "is_causal", True) else "cross"

    return kind
