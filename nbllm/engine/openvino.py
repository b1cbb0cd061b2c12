"""Texts from OpenVINO GenAI: prompts as tokens in, the likeliest tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.token_events import token_generated
from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.models.openvino import Pipeline

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["PipelineDecoder", "refuse_rules"]

_TOKENS = 2048  # of prompts, read between two moments at which a run can be interrupted

_numbers = count()  # of requests; runs that alternate share a pipeline


def refuse_rules(*, schema: bool, grounded: bool) -> None:
    """Refuse what OpenVINO would have to be held to while it writes.

    Args:
        schema: Whether the text has to be JSON of a schema.
        grounded: Whether names and numbers have to be those of the source.

    Raises:
        UnsupportedModelError: Either is the case.
    """
    if schema or grounded:
        rule, instead = (
            ("fields of a schema", "Load the model")
            if schema
            else ("names and numbers of the text alone", "Pass grounded=False, or load the model")
        )
        raise UnsupportedModelError(
            f"this model was loaded with text_engine='openvino', which cannot be held to {rule}. "
            f"{instead} without text_engine=, so that torch writes."
        )


class PipelineDecoder:
    """Generates the likeliest tokens after prompts, each as it would alone.

    Args:
        pipeline: Of the model.
        config: Has the most tokens of a text, read for each batch.
        eos_token_ids: Tokens that finish a row.
        stop: A string that finishes a row too.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: GenerationConfig,
        *,
        eos_token_ids: Sequence[int],
        stop: str | None = None,
    ) -> None:
        self._batching = pipeline.batching
        self._config = config
        self._eos_token_ids = tuple(eos_token_ids)
        self._stop = stop

    def __call__(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the generated tokens of each prompt; the last ends the text unless it was cut.

        Args:
            prompts: The tokens of each.

        Raises:
            ModelError: There is no room for the keys and values of a prompt.
        """
        from openvino import Tensor

        options = self._options()
        handles: list[Any] = []
        try:
            while len(handles) < len(prompts) or self._batching.has_non_finished_requests():
                room = _TOKENS
                while room > 0 and len(handles) < len(prompts):
                    ids = np.array([prompts[len(handles)]], dtype=np.int64)
                    handles.append(self._batching.add_request(next(_numbers), Tensor(ids), options))
                    room -= ids.size
                self._batching.step()
                token_generated()
        except BaseException:  # an interrupt, after which nobody reads what is left
            for handle in handles:
                handle.cancel()
            # It gives the memory of cancelled requests back at its next step.
            while self._batching.has_non_finished_requests():
                self._batching.step()
            raise
        return [self._tokens(handle) for handle in handles]

    def _options(self) -> Any:
        from openvino_genai import GenerationConfig as Options

        return Options(
            max_new_tokens=self._config.max_new_tokens,
            do_sample=False,
            stop_token_ids=set(self._eos_token_ids),
            stop_strings=set() if self._stop is None else {self._stop},
            include_stop_str_in_output=True,
        )

    def _tokens(self, handle: Any) -> list[int]:
        from openvino_genai import GenerationFinishReason, GenerationStatus

        if handle.get_status() == GenerationStatus.IGNORED:
            raise ModelError("OpenVINO has no room for the keys and values of a text this long")
        [text] = handle.read_all()  # one sequence of each prompt
        tokens = list(text.generated_ids)
        # After a stop string there is no token that says so.
        if text.finish_reason == GenerationFinishReason.STOP:
            tokens += self._eos_token_ids[:1]
        return tokens
