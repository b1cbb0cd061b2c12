"""Masking: personal data replaced by placeholders, by patterns and not by a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import check_columns, row_text
from nbllm.frame.evaluation.masks import of_spans
from nbllm.frame.masking.masker import Masker, mask_frame, masked
from nbllm.frame.new_columns import refuse_taken
from nbllm.frame.running.estimate import RunEstimate, estimate_without_model
from nbllm.frame.running.preview import PreviewStep, StepsPreview

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.model import Model

__all__ = ["VERB", "Mask", "Options"]


@dataclass(frozen=True)
class Options:
    """What is masked, and in which language the texts are."""

    entities: Sequence[str] | None = option(
        "what to mask; by default EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD, IBAN_CODE, "
        "IP_ADDRESS, MAC_ADDRESS, CRYPTO and US_SSN. URL, DATE_TIME and US_DRIVER_LICENSE are "
        "known too, and PERSON, LOCATION, ORGANIZATION and NRP where a spaCy model is installed "
        "(`python -m spacy download en_core_web_sm`).",
        None,
        positional=True,
    )
    language: str = option("of the texts, as a code of ISO 639.", "en")


class Mask(Verb[Options]):
    """Replace personal data by placeholders such as `<EMAIL_ADDRESS>`.

    By patterns and check sums, with presidio (`pip install 'nbllm[privacy]'`): no model is
    asked, nothing is kept in the ledger, and there is no `_run`. Beside the masked text,
    `_entities` lists as JSON what was masked: entity, start and end as character offsets in
    the text as it was, and presidio's score. By default **names, places, organizations and
    dates stay as they are**, and street addresses are never found: each call says what it
    did not look for, and how to. Look at samples before you hand a text on. A text with more
    than 10,000 pieces of personal data, or more than 1,500 numbers as long as telephone
    numbers, has an error instead.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: an unknown entity, presidio is not installed, or no spaCy model for it.

    Example:
        >>> df.llm.mask("message")  # doctest: +SKIP
        >>> df.llm.mask("message", ["EMAIL_ADDRESS", "PERSON"])  # doctest: +SKIP
    """

    name = "mask"
    options = Options
    one_question_per_row = False
    settings: ClassVar[tuple[str, ...]] = ("into", "keep")
    setting_docs: ClassVar[Mapping[str, str]] = {
        "keep": "which new columns to add, of 'value' and 'error'."
    }
    keep: ClassVar[tuple[str, ...]] = ("value", "error")

    def task(self, model: Model, subject: str, options: Options) -> NoReturn:
        raise NotImplementedError("mask asks no model")

    def model_of(self, call: Call[Options]) -> None:
        return None

    def check(self, frame: Any, call: Call[Options], *, adds: bool = True) -> None:
        check_columns(frame, [call.subject])
        Masker(call.options.entities, call.options.language)
        if adds:
            names = [call.output, f"{call.output}_entities", f"{call.output}_error"]
            refuse_taken(frame, names, ours=f"{call.output}_entities")

    def run(self, frame: Any, call: Call[Options], model: Model | None, monitor: RunMonitor) -> Any:
        masker = Masker(call.options.entities, call.options.language)
        return mask_frame(frame, call.subject, masker, output=call.output, keep=call.settings.keep)

    def preview(self, frame: Any, call: Call[Options], row: Any) -> StepsPreview:
        text = row_text(frame, call.subject, row)
        masker = Masker(call.options.entities, call.options.language)
        found = masker.find(text)
        by = [f"{entity}: {', '.join(names)}" for entity, names in masker.recognizers().items()]
        seen = [(item.start, item.end) for item in found]
        listed = ", ".join(f"{item.entity} {item.score:.2f}" for item in found)
        return StepsPreview(
            self.name,
            (
                PreviewStep("entities, and presidio's recognizers of each", "\n".join(by)),
                PreviewStep(
                    "the row; what would be masked is marked", text, seen, listed or "nothing"
                ),
                PreviewStep("masked", masked(text, found), note="No model is asked."),
                PreviewStep("what stays as it is", masker.not_looked_for),
            ),
        )

    def estimate(self, frame: Any, call: Call[Options]) -> RunEstimate:
        masker = Masker(call.options.entities, call.options.language)
        masker.find("")  # what is loaded once

        def find(texts: Sequence[str]) -> None:
            for text in texts:
                masker.find(text)

        return estimate_without_model(self.name, frame, call.subject, find)

    def recognizes(self, frame: Any, name: str) -> bool:
        # An extraction may have a field of this name, but it has a run.
        columns = frame.columns
        return f"{name}_entities" in columns and f"{name}_run" not in columns

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        return of_spans(judged.frame, judged.truth, judged.output, self.name)


VERB = Mask()
