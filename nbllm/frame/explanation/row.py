"""Rebuilds from its run's record how a row was answered: model, prompt and label contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.checks import shown
from nbllm.engine.prompt import Prompt, with_answer
from nbllm.errors import ProvenanceError
from nbllm.frame.calls.registry import verb_of
from nbllm.frame.columns import index_labels, is_missing, row_key, row_values
from nbllm.frame.explanation.contrast import Contrast, contrast
from nbllm.frame.explanation.quotes import Quote, quotes
from nbllm.frame.running.provenance import (
    find_record,
    has_answers,
    is_own_run,
    known_answers,
    row_run,
)
from nbllm.frame.running.run_record import recorded_prompt
from nbllm.models.fetch.at_hand import is_at_hand
from nbllm.models.loader import held_as, reload, resolve

if TYPE_CHECKING:
    from nbllm.models.model import Model, ModelLike

__all__ = ["ExplainedRow", "explained_row"]

# Tolerated difference of probabilities, since rounding in quantized models depends on the batch.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class ExplainedRow:
    """The model and the prompt of an answered row, and the contrast of its label."""

    model: Model
    prompt: Prompt  # followed by the answer if the model generated it
    contrast: Contrast | None  # None if the answer is not a label
    quotes: Sequence[Quote] = ()  # what the answer quotes from its text


def explained_row(
    frame: Any, output: str, row: int, model: ModelLike | None, *, trust_record: bool = False
) -> ExplainedRow:
    """Return the model and the prompt of an answered row, rebuilt from the record of its run.

    The answer is checked against the row's current text. If it is in the ledger or was given by
    this process, the text is known to be unchanged. Otherwise a label is compared with the
    model's label for the current text, and a different one is an error. A warning is issued if the
    ledger has answers of the run but none to this text, or if the answer was generated.

    Args:
        frame: The frame with the answers.
        output: The column of the answers.
        row: The position of the row in the frame.
        model: The model that answered; by default the one in the record, loaded if necessary.
        trust_record: Whether to load the model that the record names from any source, even if
            the run is neither of this process nor in the user's ledger.

    Raises:
        ColumnError: A column of the prompt is not in the frame.
        FrameError: The row has no answer.
        LabelError: The answer is not a label of the run.
        ProvenanceError: No run answered the row, the run is not on record, the text is not the
            one that got the answer, or the model is not local and the record is not trusted.
        UnsupportedModelError: The model extracts answers and has no prompt.
    """
    run = row_run(frame, f"{output}_run", row)
    record = find_record(run, frame)
    if model is None:
        model = _named_model(record, trust_record or is_own_run(run))
    else:
        model = resolve(model)
    verb = verb_of(record)
    any_type = verb is not None and verb.any_type
    texts = row_values(frame, list(record["columns"].values()), row, any_type=any_type)
    # An answer is filed under the texts that the run was given: the row's, or parts of them.
    keys = {row_key(texts)}
    if verb is not None:
        texts = verb.texts_read(record, texts, model)
        keys.add(row_key(texts))
    prompt = recorded_prompt(record, texts, model)
    is_verified = bool(known_answers(record["question"], keys))
    if record["writes"]:
        [answer] = row_values(frame, [output], row)
        found, prompt = None, with_answer(prompt, answer, model.tokenizer)
        if "text_engine" in record["model"]:
            warn_user(
                f"explain: {record['model']['text_engine']} wrote this text. The attention shown "
                "is that of the same model in torch, as it reads the text."
            )
    else:
        found = contrast(record, frame, output, row, prompt, model)
    if not is_verified:
        _check_answer(record, frame, output, row, found)
    answer = nw.from_native(frame, eager_only=True)[output][row]
    named = verb.quotes(record, answer) if verb is not None and isinstance(answer, str) else {}
    return ExplainedRow(model, prompt, found, quotes(named, prompt))


def _named_model(record: Mapping[str, Any], trusted: bool) -> Model:
    """Return the model in a record; if the record is not trusted, only if the model is local."""
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
    """Raise if the label differs from the text's current one; warn if that cannot be checked."""
    label = index_labels(frame)[row]
    if found is None:
        warn_user(
            f"explain: nothing on record says that the text of row {label!r} is the one that run "
            f"{record['id']!r} answered: it may have been changed since, or answered without this "
            "ledger. What is shown is of the text that is there now.",
        )
        return
    current, probability = found.label, found.probability
    if found.other_probability > probability + _TOLERANCE:
        current, probability = found.other, found.other_probability
    data = nw.from_native(frame, eager_only=True)
    score: Any = data[f"{output}_score"][row] if f"{output}_score" in data.columns else None
    expected = probability if is_missing(score) else float(score)
    if current != found.label or abs(probability - expected) > _TOLERANCE:
        answer = f"{found.label!r}" + ("" if is_missing(score) else f" with {expected:.2f}")
        raise ProvenanceError(
            f"the text of row {label!r} gets {current!r} with {probability:.2f}, and its answer is "
            f"{answer}: the text was changed since, or another model answered it. Ask it again."
        )
    if has_answers(record["question"]):
        warn_user(
            f"explain: answers of run {record['id']!r} are on record, and none to the text that "
            f"row {label!r} has now. It may have been changed since; the text that is there now "
            "gets the same label, and is what is explained."
        )
