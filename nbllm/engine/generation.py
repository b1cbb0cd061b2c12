"""Text generation: batches through transformers' greedy decoding, free or held to a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StopStringCriteria

from nbllm.engine.cpu.continuous import ContinuousDecoder
from nbllm.engine.cpu.ragged_attention import RaggedNetwork
from nbllm.engine.decoding import Decoder
from nbllm.engine.openvino import PipelineDecoder, refuse_rules
from nbllm.engine.padding import pad_rows
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.prompt import Prompt
from nbllm.engine.sharing import (
    Batching,
    batching,
    groups,
    refuse_unless_written,
    shares_prefix,
    trial_text,
)
from nbllm.engine.structured.constraint import Constraint
from nbllm.engine.structured.grammar import JsonGrammar
from nbllm.engine.structured.prose import Prose, ProseConstraint
from nbllm.engine.structured.sentences import whole_sentences
from nbllm.engine.token_events import TokenEvents
from nbllm.engine.tokenization import eos_token_ids, special_token_id
from nbllm.errors import ModelError
from nbllm.models.model import Model

__all__ = ["TextGenerator", "configuration"]

# Fields of a generation configuration by which `generate` changes logits of greedy decoding.
_RULES = (
    "bad_words_ids", "begin_suppress_tokens", "encoder_repetition_penalty",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
    "guidance_scale", "min_length", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty",
    "sequence_bias", "suppress_tokens", "watermarking_config",
)  # fmt: skip


def configuration(model: Model, max_new_tokens: int, temperature: float = 0.0) -> GenerationConfig:
    """Return how a model generates, without beams and with its own tokens for end and padding.

    What is not named here, such as the token that a decoder starts with, `generate` takes from the
    model's own configuration.

    Args:
        model: The model that generates.
        max_new_tokens: The most tokens of a text.
        temperature: The temperature of sampling; at 0 it is always the likeliest token.
    """
    ends = eos_token_ids(model)
    # Whatever fills a finished row is dropped afterwards, so any id does.
    pad = special_token_id(model.tokenizer, "pad")
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        num_beams=1,
        eos_token_id=list(ends) or None,
        pad_token_id=next((i for i in (pad, *ends) if i is not None), 0),
        bos_token_id=model.network.generation_config.bos_token_id,
        **({"temperature": temperature} if temperature > 0 else {}),
    )


def _only_likeliest(model: Model) -> bool:
    """Return whether nothing in a model's configuration changes what greedy decoding writes."""
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
        prose: rules for a text about the row's own texts, which then ends in a whole sentence.

    Raises:
        FrameError: the schema cannot be used, or no answer fits max_new_tokens.
        UnsupportedModelError: the model cannot be held to a schema, or OpenVINO writes its texts
            and cannot be held to one, or to the words of a source.
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
        prose: Prose | None = None,
    ) -> None:
        self.model = model
        if model.pipeline is not None:
            refuse_rules(schema=schema is not None, grounded=prose is not None and prose.grounded)
        self._continues = model.kind == "causal"
        self.grammar: JsonGrammar | None = None
        if schema is not None:
            self.grammar = JsonGrammar(schema, model.tokenizer, max_new_tokens=max_new_tokens)
        self._shares = self._continues and shares_prefix(model.network)
        self.stop = stop
        self._stopping = None if stop is None else StopStringCriteria(model.tokenizer, stop)
        self.whole_sentences = whole_sentences
        self.prose = prose
        self._eos_token_ids = eos_token_ids(model)
        self.config: GenerationConfig = configuration(model, max_new_tokens)
        self._pad: int = self.config.pad_token_id
        self._how: Batching = self._batching()
        ends: dict[str, Any] = {"eos_token_ids": self._eos_token_ids, "stop": self._stopping}
        self._continuous: ContinuousDecoder | None = None
        self._decoder: Decoder | None = None
        self._pipeline: PipelineDecoder | None = None
        self.prefix: RaggedNetwork | SharedPrefix
        ragged = None
        if model.pipeline is None and self._shares and _only_likeliest(model):
            ragged = RaggedNetwork.of(model, prefix_ids)
        if model.pipeline is not None:
            self.prefix = SharedPrefix(model, ())  # each prompt is read whole
            self._pipeline = PipelineDecoder(
                model.pipeline, self.config, eos_token_ids=self._eos_token_ids, stop=stop
            )
        elif ragged is not None:
            self.prefix = ragged
            self._continuous = ContinuousDecoder(ragged, self.config, **ends)
        else:
            self.prefix = held = SharedPrefix(model, prefix_ids if self._shares else ())
            if self._shares:
                self._decoder = Decoder(model, held, self.config, **ends)

    def __call__(self, prompts: Sequence[Prompt]) -> list[str | Exception]:
        """Return one text per prompt, stripped; where the model writes nothing, an error."""
        if self._continuous is not None or self._pipeline is not None:
            return self._write(prompts)
        answers: dict[int, str | Exception] = {}
        for group in groups([len(prompt.ids) for prompt in prompts], self._how):
            for part in [group] if self._decoder is None else self._decoder.parts(group):
                answers.update(zip(part, self._write([prompts[n] for n in part]), strict=True))
        return [answers[n] for n in range(len(prompts))]

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
            ids, seen = pad_rows(rows, self._pad)
            mask = seen.long().to(self.model.device)
            out = read(input_ids=ids.to(self.model.device), attention_mask=mask)
            made: torch.Tensor = out.last_hidden_state
            return made[0, : short.shape[1]]

        return batching(
            self.model,
            lambda: states(short.tolist()),
            lambda: states([*short.tolist(), *ids.tolist()]),
        )

    def _constraint(self, prompts: Sequence[Prompt]) -> Constraint | None:
        filler = next(iter(self._eos_token_ids), self._pad)
        if self.grammar is not None:
            return self.grammar.constraint(len(prompts), filler=filler)
        if self.prose is None:
            return None
        return ProseConstraint(
            self.prose,
            self.model.tokenizer,
            [prompt.row_text for prompt in prompts],
            eos_token_ids=self._eos_token_ids,
            filler=filler,
            stop=self.stop,
        )

    def _write(self, prompts: Sequence[Prompt]) -> list[str | Exception]:
        rows = [prompt.ids for prompt in prompts]
        constraint = self._constraint(prompts)
        if self._pipeline is not None:
            written = self._pipeline(rows)
            if isinstance(constraint, ProseConstraint):
                constraint.follow(written)
            return self._texts(written, constraint)
        if self._continuous is not None:
            return self._texts(self._continuous(rows, constraint), constraint)
        ids, seen = pad_rows(rows, self._pad, left=self._continues)
        mask = seen.long()
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
        self, written: list[list[int]], constraint: Constraint | None
    ) -> list[str | Exception]:
        if constraint:
            return [text or ModelError("the model wrote nothing") for text in constraint.texts()]
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
            text = whole_sentences(text).strip() or text
        return text or ModelError("the model wrote nothing")
