"""One text, streamed while it is generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TextStreamer

from nbllm.engine.generation import configuration
from nbllm.engine.locks import FORWARD_LOCK, named_work
from nbllm.engine.prompt import Prompt
from nbllm.engine.token_events import token_generated
from nbllm.engine.tokenization import eos_token_ids
from nbllm.errors import UnsupportedModelError
from nbllm.models.kind import CALLED
from nbllm.models.model import Model

__all__ = ["StreamedText", "write"]


@dataclass
class StreamedText:
    """The text that a model generated."""

    text: str = ""
    tokens: int = 0
    cut: bool = False  # at the number of tokens that was allowed
    interrupted: bool = False


def write(
    model: Model,
    prompt: Prompt,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    on_text: Callable[[str], None] = lambda text: None,
) -> StreamedText:
    """Continue a prompt, and report the text as it grows; an interrupt keeps what there is.

    Args:
        model: a causal model or an encoder-decoder.
        prompt: the text to continue, or the encoder's input.
        max_new_tokens: where the text is cut.
        temperature: of sampling; at 0 it is always the likeliest token.
        on_text: called with the whole text so far, whenever a word is finished.

    Returns:
        The text, and how it ended.

    Raises:
        UnsupportedModelError: the model generates no text.
    """
    if model.kind not in ("causal", "seq2seq"):
        raise UnsupportedModelError(
            f"{model.name} is {CALLED[model.kind]}, which writes no text. Pass a causal "
            "language model, or an encoder-decoder."
        )
    ids = torch.tensor([prompt.ids], device=model.device)
    streamer = _TextStreamer(model.tokenizer, on_text)
    try:
        with named_work("a text being written"), FORWARD_LOCK, torch.inference_mode():
            network: Any = model.network
            network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=configuration(model, max_new_tokens, temperature),
                streamer=streamer,
            )
    except KeyboardInterrupt:
        streamer.end()  # type: ignore[no-untyped-call]
        streamer.written.interrupted = True
    written = streamer.written
    ended = streamer.last in eos_token_ids(model)
    written.cut = written.tokens >= max_new_tokens and not ended and not written.interrupted
    written.tokens -= ended
    written.text = written.text.strip()
    return written


class _TextStreamer(TextStreamer):
    """Reports each word, as soon as its last token is there."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.written = StreamedText()
        self.last: int | None = None
        self._on_text = on_text

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate`: first with the prompt, then with a token at a time."""
        if not self.next_tokens_are_prompt:
            self.last = int(value.reshape(-1)[-1])
            self.written.tokens += value.numel()
        super().put(value)  # type: ignore[no-untyped-call]
        token_generated()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.written.text += text
        if text:
            self._on_text(self.written.text)
