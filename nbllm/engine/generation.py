"""Text generation: batches through transformers' greedy decoding, free or held to a schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StopStringCriteria

from nbllm.engine.decoding import Decoder
from nbllm.engine.prompt import Prompt
from nbllm.engine.sharing import (
    Batching,
    batching,
    groups,
    refuse_unless_written,
    shares_prefix,
    trial_text,
)
from nbllm.engine.structured.grammar import JsonConstraint, JsonGrammar
from nbllm.engine.token_events import TokenEvents
from nbllm.engine.tokenization import special_token_id
from nbllm.errors import ModelError
from nbllm.models.model import Model

__all__ = ["TextGenerator"]

# Fields of a generation configuration by which `generate` changes logits, whatever else is asked.
# A penalty of 1 changes nothing, but is written nowhere.
_RULES = (
    "bad_words_ids", "begin_suppress_tokens", "encoder_repetition_penalty",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
    "guidance_scale", "min_length", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty",
    "sequence_bias", "suppress_tokens", "watermarking_config",
)  # fmt: skip

# As many whole sentences as there are, ended by Western or Chinese punctuation.
_SENTENCES = re.compile(r"(?:.*[.!?…](?=\s|$|[\"'”’)])[\"'”’)]*|.*[。！？])?", re.DOTALL)


def only_likeliest(model: Model) -> bool:
    """Return whether a model's configuration leaves greedy decoding as it is.

    Some models name penalties, or tokens that are forced or suppressed, which `generate` applies.

    Args:
        model: the model that generates.
    """
    return not any(getattr(model.network.generation_config, name, None) for name in _RULES)


class TextGenerator:
    """Greedy continuations of prompts, or the outputs of an encoder-decoder model.

    Args:
        model: a causal or a seq2seq model.
        prefix_ids: tokens that every prompt starts with; their KV cache is computed here, once. An
            encoder reads each prompt as a whole, so there they save nothing.
        max_new_tokens: where a text is cut if the model does not end it.
        stop: a string that ends a text, for models that were never taught to end a turn.
        whole_sentences: where a text is cut, drop the sentence that was not finished.
        schema: a JSON schema; then each text is JSON that is valid against it, never cut.

    Raises:
        FrameError: the schema cannot be used, or no answer fits max_new_tokens.
        UnsupportedModelError: the model cannot be held to a schema.
    """

    def __init__(
        self,
        model: Model,
        prefix_ids: tuple[int, ...],
        *,
        max_new_tokens: int,
        stop: str | None = None,
        whole_sentences: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._continues = model.kind == "causal"
        self.grammar: JsonGrammar | None = (
            None
            if schema is None
            else JsonGrammar(schema, model.tokenizer, max_new_tokens=max_new_tokens)
        )
        self._shares = self._continues and shares_prefix(model.network)
        self.stop = stop
        self._stopping = None if stop is None else StopStringCriteria(model.tokenizer, stop)
        self.whole_sentences = whole_sentences
        own = model.network.generation_config
        end: Any = own.eos_token_id
        if end is None:
            end = special_token_id(model.tokenizer, "eos")
        ends = end if isinstance(end, list) else [end]
        self._eos_token_ids: list[int] = [i for i in ends if i is not None]
        # Whatever fills a finished row is dropped afterwards, so any id does.
        pad = special_token_id(model.tokenizer, "pad")
        self._pad = next((i for i in (pad, *self._eos_token_ids) if i is not None), 0)
        # What is not named here, such as the token that a decoder starts with, `generate`
        # takes from the model's own configuration.
        self.config: GenerationConfig = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=end,
            pad_token_id=self._pad,
            bos_token_id=own.bos_token_id,
        )
        self._how: Batching = self._batching()
        self._decoder = (
            Decoder(
                model,
                self.prefix,
                self.config,
                eos_token_ids=self._eos_token_ids,
                stop=self._stopping,
            )
            if self._shares
            else None
        )

    def __call__(self, prompts: Sequence[Prompt]) -> list[str | Exception]:
        """Return one text per prompt, stripped; where the model writes nothing, an error."""
        rows = [prompt.ids for prompt in prompts]
        if self._continuous is not None:
            return self._write(rows)
        answers: dict[int, str | Exception] = {}
        for group in groups([len(row) for row in rows], self._how):
            for part in [group] if self._decoder is None else self._decoder.parts(group):
                answers.update(zip(part, self._write([rows[n] for n in part]), strict=True))
        return [answers[n] for n in range(len(rows))]

    def _batching(self) -> Batching:
        """Return which prompts may share a batch."""
        if self._shares:
            return "padded"
        refuse_unless_written(self.model, self.config)
        if self._continues:
            return "same length"
        read: Any = self.model.network.get_encoder()
        ids = trial_text(self.model)
        short = ids[:, : ids.shape[1] // 4]

        def states(rows: Sequence[Sequence[int]]) -> torch.Tensor:
            ids, mask = _padded(rows, self._pad, left=False)
            made: torch.Tensor = read(
                input_ids=ids.to(self.model.device), attention_mask=mask.to(self.model.device)
            ).last_hidden_state
            return made[0, : short.shape[1]]

        return batching(
            self.model,
            lambda: states(short.tolist()),
            lambda: states([*short.tolist(), *ids.tolist()]),
        )

    def _write(self, rows: Sequence[Sequence[int]]) -> list[str | Exception]:
        ids, mask = _padded(rows, self._pad, left=self._continues)
        constraint = (
            None
            if self.grammar is None
            else self.grammar.constraint(
                len(rows), filler=self._eos_token_ids[0] if self._eos_token_ids else self._pad
            )
        )
        with torch.inference_mode():
            if self._decoder is not None:
                written = self._decoder(ids, mask, constraint)
            else:
                ids, mask = ids.to(self.model.device), mask.to(self.model.device)
                out = self.model.network.generate(  # type: ignore[operator]
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=self.config,
                    logits_processor=[constraint] if constraint else [],
                    stopping_criteria=[
                        TokenEvents(),
                        *([self._stopping] if self._stopping else []),
                    ],
                )
                # A decoder's own sequence holds nothing of the prompt; its first token starts it.
                written = out[:, ids.shape[1] if self._continues else 1 :].tolist()
        return self._texts(written, constraint)

    def _texts(
        self, written: Sequence[Sequence[int]], constraint: JsonConstraint | None
    ) -> list[str | Exception]:
        if constraint:
            return list(constraint.texts())
        texts = self.model.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [
            self._finish(text, ended=not set(self._eos_token_ids).isdisjoint(tokens))
            for text, tokens in zip(texts, written, strict=True)
        ]

    def _finish(self, text: str, *, ended: bool) -> str | Exception:
        if self.stop and self.stop in text:
            text, ended = text.split(self.stop)[0], True
        text = text.strip()
        if self.whole_sentences and not ended:
            text = _SENTENCES.match(text).group().strip() or text  # type: ignore[union-attr]
        return text or ModelError("the model wrote nothing")


def _padded(
    rows: Sequence[Sequence[int]], filler: int, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (row, token), padded on one side."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for n, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(0, len(row))
        ids[n, place] = torch.tensor(row, dtype=torch.long)
        mask[n, place] = 1
    return ids, mask
