"""Recording attention inside the function that really computes it.

Attention kernels (sdpa, flash) never write the weights down. But softmax(q·kᵀ) can be
computed again for any part of a head from the q and k that the kernel was given, after
RoPE and before the grouped key heads are repeated. So a recording keeps those, and a
tile of 256 by 256 weights costs a product of that size, whatever the length of the text.

Every layer is checked against what the kernel returned, while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from nbllm.attention.recording.generated import append_tokens
from nbllm.attention.recording.interception import AttentionRecorder
from nbllm.attention.recording.padding import Padded
from nbllm.attention.recording.pairs import record_pairs
from nbllm.attention.recording.recording import EncoderDecoderRecording, Recording, RecordingKind
from nbllm.attention.recording.storage import Storage
from nbllm.attention.recording.text import encode_prompt
from nbllm.attention.recording.validation import (
    build_recording,
    check_layer_calls,
    depths_of,
    token_row,
    wanted_layers,
)
from nbllm.checks import check_integers, check_listed, check_place, check_whole, reads
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import is_out_of_memory
from nbllm.engine.tokenization import eos_token_ids
from nbllm.errors import ArgumentError, NbllmError, TextTooLongError, UnsupportedModelError
from nbllm.models.kind import CALLED
from nbllm.models.loader import resolve
from nbllm.models.model import Model, ModelLike
from nbllm.wording import counted

__all__ = ["Recording", "record", "record_batch"]


@reads(layers=check_integers, offload=check_place)
def record(
    model: ModelLike,
    text: str | Prompt,
    *,
    layers: Sequence[int] | None = None,
    offload: bool | str | Path = False,
    target: str | Prompt | None = None,
    generate: int = 0,
) -> Recording | EncoderDecoderRecording:
    """Run one forward pass and keep what its attention weights are computed from.

    The model runs as it is: quantized or not, with its own attention function. A string
    is tokenized as it stands, with the tokenizer's special tokens and no chat template; a
    Prompt is taken token by token, with its field spans.

    Args:
        model: A loaded model, or what `nbllm.load` takes.
        text: The text to read, or a Prompt.
        layers: Numbers of the layers to keep, from 0, or from -1 for the last; all by default.
            Of an encoder-decoder each stack keeps those that it has.
        offload: Keep the tensors in files that are deleted with the recording: True for the
            system's folder for temporary files (in some systems that is memory), or a folder.
        target: The text that an encoder-decoder is to have written; by default what it generates.
        generate: Tokens that a causal model generates at most, each the likeliest. Every step is
            recorded, with the cache that it ran with. The last token is read as well, so that all
            tokens have a row. Of an encoder-decoder without `target`: 128 by default.

    Returns:
        A Recording; of a model of kind seq2seq an EncoderDecoderRecording. Its decoder's rows are
        the tokens that the decoder reads, from the one that starts it to the last before the end
        of text: each row predicts the token that follows.

    Raises:
        UnsupportedModelError: The model's attention does not go through transformers'
            AttentionInterface, or it has none.
        TextError: The text has no tokens.
        TextTooLongError: It does not fit the model's context.
        SelectionError: The model has no such layer.

    Example:
        >>> recording = nbllm.record(model, "The plot was thin, but I loved it.")  # doctest: +SKIP
        >>> recording.weights(layer=5, head=2)  # (tokens, tokens)  # doctest: +SKIP
    """
    model = resolve(model)
    _check_options(model, target, generate)
    prompt = encode_prompt(model, text)
    if model.kind == "seq2seq":
        return record_pairs(model, [(prompt, target)], layers, offload, generate)[0]
    if generate:
        return _record_generation(model, prompt, layers, offload, generate)
    return _record_texts(model, [prompt], layers, offload)[0]


@reads(texts=check_listed, layers=check_integers, offload=check_place, targets=check_listed)
def record_batch(
    model: ModelLike,
    texts: Sequence[str | Prompt],
    *,
    layers: Sequence[int] | None = None,
    offload: bool | str | Path = False,
    targets: Sequence[str | Prompt | None] | None = None,
) -> list[Recording] | list[EncoderDecoderRecording]:
    """Record several texts in one forward pass.

    Shorter texts are padded on the right, and the padding is cut off.

    Args:
        model: A loaded model, or what `nbllm.load` takes.
        texts: The texts to read, or Prompts.
        layers: Numbers of the layers to keep, as for `record`.
        offload: Keep the tensors in files, as for `record`.
        targets: Of an encoder-decoder, the text that it is to have written for each text.

    Returns:
        A recording of each text, as `record` returns it.

    Raises:
        ArgumentError: There are not as many targets as texts.
        NbllmError: As `record` raises it.

    Example:
        >>> short, long = record_batch(model, ["Too loud.", "I loved it."])  # doctest: +SKIP
    """
    model = resolve(model)
    given = list(targets) if targets is not None else [None] * len(texts)
    if len(given) != len(texts):
        raise ArgumentError(
            f"there are {counted(len(texts), 'text')} and {counted(len(given), 'target')}. Give "
            "one each."
        )
    for target in given:
        _check_options(model, target, 0)
    prompts = [encode_prompt(model, text) for text in texts]
    if not prompts:
        return []
    if model.kind == "seq2seq":
        return record_pairs(model, list(zip(prompts, given, strict=True)), layers, offload, 0)
    return _record_texts(model, prompts, layers, offload)


def _check_options(model: Model, target: str | Prompt | None, generate: int) -> None:
    check_whole("generate", generate, least=0)
    if target is not None and model.kind != "seq2seq":
        raise UnsupportedModelError(
            f"{model.name} is of kind {model.kind}, and only an encoder-decoder (seq2seq) writes "
            "a target. Give the whole text, or generate= to let a causal model write on."
        )
    if generate and target is not None:
        raise ArgumentError("target= and generate= are both given. Pass one of them.")
    if generate and model.kind not in ("causal", "seq2seq"):
        raise UnsupportedModelError(
            f"{model.name} is of kind {model.kind}, which writes nothing. Leave generate= away, "
            "or load a causal model, such as nbllm.load()."
        )


def _record_texts(
    model: Model,
    prompts: Sequence[Prompt],
    layers: Sequence[int] | None,
    offload: bool | str | Path,
) -> list[Recording]:
    """One pass of a model with one stack of layers."""
    kind: RecordingKind = "causal" if model.kind == "causal" else "encoder"
    if model.network.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{model.name}, {CALLED[model.kind]}, has an encoder and a decoder. Of such, only what "
            "writes can be recorded: load one of kind seq2seq, or choose another."
        )
    depths = depths_of(model)
    padded = Padded.of(model, [prompt.ids for prompt in prompts])
    recorder = AttentionRecorder(
        model.network,
        kind=lambda _: kind,
        wanted=wanted_layers(model, layers, depths),
        places=[{kind: (place, place)} for place in padded.places],
        room=[{kind: (len(prompt.ids), len(prompt.ids))} for prompt in prompts],
        storage=Storage(offload),
    )
    # The body without its head: logits over a vocabulary would be the largest tensor.
    body = model.network.base_model
    options: dict[str, Any] = {}
    if kind == "causal":
        # Without a mask: no token sees the padding, which stands after it.
        options["use_cache"] = False
    elif padded.mask is not None:
        options["attention_mask"] = padded.mask
    with torch.inference_mode(), recorder.forward_pass():
        try:
            body(input_ids=padded.ids, **options)
        except Exception as error:
            if isinstance(error, NbllmError) or is_out_of_memory(error):
                raise
            raise UnsupportedModelError(
                f"transformers cannot run {model.name} ({type(model.network).__name__}) on a text "
                f"alone: {error}. Choose a model that reads text."
            ) from error
    check_layer_calls(model, recorder.layer_calls, depths)
    rows = [token_row(model, prompt) for prompt in prompts]
    return [
        build_recording(model, recorder, kind, row, row, text=text) for text, row in enumerate(rows)
    ]


def _record_generation(
    model: Model,
    prompt: Prompt,
    layers: Sequence[int] | None,
    offload: bool | str | Path,
    most: int,
) -> Recording:
    """The prompt in one pass, then a pass for each token that is written."""
    length = len(prompt.ids)
    if length + most > model.context_length:
        raise TextTooLongError(
            f"The text has {counted(length, 'token')} and is to have {most:,} more, and "
            f"{model.name} reads at most {model.context_length:,}. Shorten it, or generate fewer."
        )
    depths = depths_of(model)
    every = slice(None)
    recorder = AttentionRecorder(
        model.network,
        kind=lambda _: "causal",
        wanted=wanted_layers(model, layers, depths),
        places=[{"causal": (every, every)}],
        room=[{"causal": (length + most, length + most)}],
        storage=Storage(offload),
    )
    ends = eos_token_ids(model)
    # Without a config it keeps all keys, also those outside of a window.
    cache = DynamicCache()
    written: list[int] = []
    given = torch.tensor([prompt.ids], device=model.device)
    with torch.inference_mode():
        while True:
            with recorder.forward_pass():
                said = model.network(
                    input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
            check_layer_calls(model, recorder.layer_calls, depths)
            if len(written) == most or (written and written[-1] in ends):
                break
            likeliest = said.logits[0, -1].argmax()
            written.append(int(likeliest))
            given = likeliest[None, None].to(model.device)
    row = token_row(model, append_tokens(prompt, written, model.tokenizer))
    return build_recording(model, recorder, "causal", row, row, prompt_length=length)
