"""The record of a run: made when it begins, and read to build a row's prompt again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nbllm import __version__
from nbllm.engine.encoding import framed
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt
from nbllm.errors import UnsupportedModelError
from nbllm.frame.tasks.base import Task
from nbllm.models.model import Model
from nbllm.versions import versions

__all__ = ["ANSWER_FORMAT", "recorded_prompt", "run_record"]

# Increased when a release changes the answers to the same question by the same model: answers of an
# earlier number are not reused. 2: the rows of a batch do not affect each other. 3: labels are
# right where the model's output matrix is offloaded.
ANSWER_FORMAT = 3

# The fields of a model's provenance that determine its answers. Devices round differently, so a
# GPU's answers are not reused on a CPU.
_DETERMINING = (
    "revision", "quantization", "dtype", "device", "device_map", "adapter_revision",
    "adapter_merged", "text_engine",
)  # fmt: skip


def run_record(
    task: Task,
    model: Model,
    columns: Mapping[str, str],
    output: str,
    *,
    limit: int,
    truncate: bool,
    verb_format: int = 0,
) -> dict[str, Any]:
    """Return the record of a run, which suffices to run any of its rows again.

    `question` is a hash of everything that determines an answer, apart from the text, so that
    equal texts in other columns share their answers. `id` also depends on the column names.

    Args:
        task: The task.
        model: The model.
        columns: The column of the frame for each field of the task's template.
        output: The column of the answers.
        limit: The maximal number of tokens of a prompt.
        truncate: Whether longer texts are cut.
        verb_format: The version of the verb's prompts, from 0.
    """
    provenance = model.provenance()
    determining = {
        "verb": task.verb,
        "model": {key: provenance[key] for key in _DETERMINING if key in provenance},
        "template": [[part.kind, part.value] for part in task.template],
        "parameters": task.parameters(),
        "limit": limit,
        "truncate": truncate,
        "format": [ANSWER_FORMAT, verb_format] if verb_format else ANSWER_FORMAT,
    }
    question = _digest(determining)
    return {
        **determining,
        "question": question,
        "id": f"{task.verb}-{_digest([question, columns, output])[:12]}",
        "model": provenance,
        "columns": dict(columns),
        "output": output,
        "outputs": [column.suffix for column in task.outputs],
        "writes": task.decodes,
        "nbllm": __version__,
        "versions": versions(),
    }


def recorded_prompt(record: Mapping[str, Any], texts: tuple[str, ...], model: Model) -> Prompt:
    """Return the prompt of a row, rebuilt from the record of its run.

    Args:
        record: The record of the run.
        texts: The texts of the columns that the record names.
        model: The model to build the prompt for.

    Raises:
        TextError: The texts make no prompt; `TextTooLongError` where they do not fit.
        UnsupportedModelError: It is an extractive question answering model, which has no prompt.
    """
    if model.kind == "extractive_qa":
        raise UnsupportedModelError(
            f"{model.name} points at its answer, which its columns _start and _end say, and reads "
            "a question and a text in a way that is not explained yet. To see what a model looks "
            "at while it answers, ask a causal one."
        )
    template = tuple(Part(kind, value) for kind, value in record["template"])
    compiled = CompiledTemplate(template, model.tokenizer) if template else framed(model)
    # The model may be another than the run's, with a shorter context.
    limit = min(record["limit"], model.context_length)
    prompt = compiled.encode([texts], limit=limit, truncate=record["truncate"])[0]
    if isinstance(prompt, Exception):
        raise prompt
    return prompt


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
