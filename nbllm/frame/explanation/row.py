"""What answered one row of a frame: the model, its prompt, and the label that came second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.checks import shown
from nbllm.engine.prompt import Prompt, with_answer
from nbllm.errors import ProvenanceError
from nbllm.frame.calls.registry import find_verb, is_verb
from nbllm.frame.columns import index_labels, is_missing, row_key, row_values
from nbllm.frame.explanation.contrast import Contrast, contrast
from nbllm.frame.running.provenance import (
    find_record,
    is_own_run,
    keeps_answers,
    known_answers,
    recorded_prompt,
    row_run,
)
from nbllm.models.fetch.at_hand import is_at_hand
from nbllm.models.loader import held_as, reload, resolve

if TYPE_CHECKING:
    from nbllm.models.model import Model, ModelLike

__all__ = ["ExplainedRow", "explained_row"]

# By how much probabilities of the same text may differ: quantized models round by batch.
_ROUNDING = 0.05


@dataclass(frozen=True)
class ExplainedRow:
    """What a row was answered by, and with."""

    model: Model
    prompt: Prompt  # with the answer behind it, where that was written
    contrast: Contrast | None  # None where the answer is no choice between labels


def explained_row(
    frame: Any, output: str, row: int, model: ModelLike | None, *, trust_record: bool = False
) -> ExplainedRow:
    """Rebuild from the record of its run what a row was asked.

    Whether the row's text is still the one that was answered is known where the answer is in
    the ledger or was given by this process. Elsewhere a label is held against what the model
    says to the text now, and refused where that is another; where the run is on record and the
    text is not, or the answer was written, a warning says that it may have been changed.

    Args:
        output: the column of the answers.
        row: position in the frame.
        model: by default the one that the record names, loaded again if need be.
        trust_record: whether a record that is neither this process's nor in the user's ledger may
            have its model fetched from the hub, or read from wherever it says.

    Raises:
        ColumnError: a column that the prompt was made of is not in the frame.
        FrameError: the row has no answer.
        LabelError: its answer is none of the run's labels.
        ProvenanceError: no run answered the row, its run is not on record, its text is not the
            one that got the answer, or its model is not here and the record not trusted.
        UnsupportedModelError: the model points at its answer, and has no prompt like others.
    """
    run = row_run(frame, f"{output}_run", row)
    record = find_record(run, frame)
    if model is None:
        model = _named_model(record, trust_record or is_own_run(run))
    else:
        model = resolve(model)
    # A verb of the user's own may not be registered any more.
    verb = find_verb(record["verb"]) if is_verb(record["verb"]) else None
    any_type = verb is not None and verb.any_type
    texts = row_values(frame, list(record["columns"].values()), row, any_type=any_type)
    if verb is not None:
        texts = verb.texts_read(record, texts, model)
    prompt = recorded_prompt(record, texts, model)
    key = row_key(texts)
    on_record = key in known_answers(record["question"], [key])
    if record["writes"]:
        [answer] = row_values(frame, [output], row)
        found, prompt = None, with_answer(prompt, answer, model.tokenizer)
    else:
        found = contrast(record, frame, output, row, prompt, model)
    if not on_record:
        _check_answer(record, frame, output, row, found)
    return ExplainedRow(model, prompt, found)


def _named_model(record: Mapping[str, Any], trusted: bool) -> Model:
    """The model that a record names: of one that is not trusted, only if it is here already."""
    named = record["model"]
    if trusted:
        return reload(named)
    if held_as(named) is None and not is_at_hand(named):
        adapter = f" with the adapter {shown(named['adapter'])}" if "adapter" in named else ""
        raise ProvenanceError(
            f"the record of run {record['id']!r} came with the frame, and this user's ledger does "
            f"not know the run. It names the model {shown(named['name'])}, from "
            f"{shown(named['source'])}{adapter}, which is not in memory and not on the shelf, so "
            "it was not loaded. Pass the model that you hold to be that one (model=...), or "
            "trust_record=True to load what the record names from wherever it says."
        )
    from nbllm.models.fetch.hub import from_cache_alone

    with from_cache_alone():
        return reload(named)


def _check_answer(
    record: Mapping[str, Any], frame: Any, output: str, row: int, found: Contrast | None
) -> None:
    """Refuse a label that the text does not get; warn where an answer cannot be checked so."""
    label = index_labels(frame)[row]
    if found is None:
        warn_user(
            f"explain: nothing on record says that the text of row {label!r} is the one that run "
            f"{record['id']!r} answered: it may have been changed since, or answered without this "
            "ledger. What is shown is of the text that is there now.",
        )
        return
    gets, chance = found.label, found.probability
    if found.other_probability > chance + _ROUNDING:
        gets, chance = found.other, found.other_probability
    data = nw.from_native(frame, eager_only=True)
    score: Any = data[f"{output}_score"][row] if f"{output}_score" in data.columns else None
    expected = chance if is_missing(score) else float(score)
    if gets != found.label or abs(chance - expected) > _ROUNDING:
        answer = f"{found.label!r}" + ("" if is_missing(score) else f" with {expected:.2f}")
        raise ProvenanceError(
            f"the text of row {label!r} gets {gets!r} with {chance:.2f}, and its answer is "
            f"{answer}: the text was changed since, or another model answered it. Ask it again."
        )
    if keeps_answers(record["question"]):
        warn_user(
            f"explain: answers of run {record['id']!r} are on record, and none to the text that "
            f"row {label!r} has now. It may have been changed since; the text that is there now "
            "gets the same label, and is what is explained."
        )
