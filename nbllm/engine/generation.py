"""Text: static batches through transformers' own greedy generation."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from transformers import GenerationConfig

from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.prompt import Prompt
from nbllm.errors import ModelError
from nbllm.models.model import Model

__all__ = ["TextGenerator"]

# As many whole sentences as there are, ended by Western or Chinese punctuation.
_SENTENCES = re.compile(r"(?:.*[.!?…](?=\s|$|[\"'”’)])[\"'”’)]*|.*[。！？])?", re.DOTALL)


class TextGenerator:
    """Greedy continuations of prompts.

    Args:
        model: a causal model.
        prefix_ids: tokens that every prompt starts with; their KV is computed here, once.
        max_new_tokens: where a text is cut if the model does not end it.
        stop: a string that ends a text, for models that were never taught to end a turn.
        whole_sentences: where a text is cut, drop the sentence that was not finished.
    """

    def __init__(
        self,
        model: Model,
        prefix_ids: tuple[int, ...],
        *,
        max_new_tokens: int,
        stop: str | None = None,
        whole_sentences: bool = False,
    ) -> None:
        self.model = model
        self.prefix = SharedPrefix(model, prefix_ids)
        self.stop = stop
        self.whole_sentences = whole_sentences
        own = model.network.generation_config
        self._end = (
            own.eos_token_id if own.eos_token_id is not None else model.tokenizer.eos_token_id
        )
        ends = self._end if isinstance(self._end, list) else [self._end]
        self._ends = {i for i in ends if i is not None}
        # Whatever fills a finished row is dropped afterwards, so any id does.
        self._pad = next(
            (i for i in (model.tokenizer.pad_token_id, *self._ends) if i is not None), 0
        )
        self._config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self._end,
            pad_token_id=self._pad,
            bos_token_id=own.bos_token_id,
        )

    def __call__(self, prompts: Sequence[Prompt]) -> list[str | Exception]:
        """One text a prompt, stripped; a model that writes nothing is an error of its row."""
        past = self.prefix.length
        suffixes = [prompt.ids[past:] for prompt in prompts]
        longest = max(map(len, suffixes))
        ids = torch.full((len(prompts), past + longest), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        ids[:, :past] = torch.tensor(prompts[0].ids[:past], dtype=torch.long)
        mask[:, :past] = 1
        for row, suffix in enumerate(suffixes):
            ids[row, ids.shape[1] - len(suffix) :] = torch.tensor(suffix)
            mask[row, ids.shape[1] - len(suffix) :] = 1
        stopping = (
            {"stop_strings": [self.stop], "tokenizer": self.model.tokenizer} if self.stop else {}
        )
        with torch.inference_mode():
            out = self.model.network.generate(  # type: ignore[operator]
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                past_key_values=self.prefix.expand(len(prompts)),
                generation_config=self._config,
                **stopping,
            )
        written = out[:, ids.shape[1] :].tolist()
        texts = self.model.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [
            self._finish(text, ended=not self._ends.isdisjoint(tokens))
            for text, tokens in zip(texts, written, strict=True)
        ]

    def _finish(self, text: str, *, ended: bool) -> str | Exception:
        if self.stop and self.stop in text:
            text, ended = text.split(self.stop)[0], True
        text = text.strip()
        if self.whole_sentences and not ended:
            text = _SENTENCES.match(text).group().strip() or text  # type: ignore[union-attr]
        return text or ModelError("the model wrote nothing")
