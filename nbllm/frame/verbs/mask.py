"""The verb `mask`: replaces personal data by placeholders, with patterns instead of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import row_text
from nbllm.frame.evaluation.masks import evaluate_spans
from nbllm.frame.masking.masker import Masker, mask_frame, mask_text
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
    """The options of `Mask`."""

    entities: Sequence[str] | None = option(
        "The entities to mask; by default EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD, IBAN_CODE, "
        "IP_ADDRESS, MAC_ADDRESS, CRYPTO and US_SSN. URL, DATE_TIME and US_DRIVER_LICENSE are also "
        "supported, and with a spaCy model (`python -m spacy download en_core_web_sm`) PERSON, "
        "LOCATION, ORGANIZATION and NRP.",
        None,
        positional=True,
    )
    language: str = option("The language of the texts, as an ISO 639 code.", "en")


class Mask(Verb[Options]):
    """Replace personal data by placeholders such as `<EMAIL_ADDRESS>`.

    presidio (`pip install 'nbllm[privacy]'`) finds the data by patterns and checksums: no
    language model runs, nothing is stored in the ledger, and there is no `_run` column. The
    column `_entities` lists what was masked, as JSON: entity, start and end as character
    offsets in the original text, and presidio's score.

    By default **names, places, organizations and dates are not masked**, and street addresses
    are never found. Each call prints which entities it did not look for, and how to include
    them. Inspect samples before you share masked texts. A text with more than 10,000 pieces of
    personal data, or more than 1,500 numbers as long as telephone numbers, gets an error.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        FrameError: An entity is unknown, or presidio or its spaCy model is not installed.

    Example:
        >>> df.llm.mask("message")  # doctest: +SKIP
        >>> df.llm.mask("message", ["EMAIL_ADDRESS", "PERSON"])  # doctest: +SKIP
    """

    name = "mask"
    options = Options
    one_question_per_row = False
    settings: ClassVar[tuple[str, ...]] = ("into", "keep")
    setting_docs: ClassVar[Mapping[str, str]] = {
        "keep": "The new columns to add, of 'value' and 'error'."
    }
    keep: ClassVar[tuple[str, ...]] = ("value", "error")
    marker = "_entities"

    def task(self, model: Model, subject: str, options: Options) -> NoReturn:
        raise NotImplementedError("mask runs no model")

    def model_of(self, call: Call[Options]) -> None:
        return None

    def check_options(self, frame: Any, call: Call[Options]) -> None:
        Masker(call.options.entities, call.options.language)

    def new_columns(self, call: Call[Options]) -> list[str]:
        return [call.output, f"{call.output}_entities", f"{call.output}_error"]

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
                PreviewStep("masked", mask_text(text, found), note="No model is run."),
                PreviewStep("what stays as it is", masker.coverage_note),
            ),
        )

    def estimate(self, frame: Any, call: Call[Options]) -> RunEstimate:
        masker = Masker(call.options.entities, call.options.language)
        masker.find("")  # loads the recognizers before the measurement

        def find(texts: Sequence[str]) -> None:
            for text in texts:
                masker.find(text)

        return estimate_without_model(self.name, frame, call.subject, find)

    def recognizes(self, frame: Any, name: str) -> bool:
        # An extraction may have a field "entities", but it has a run.
        columns = frame.columns
        return f"{name}_entities" in columns and f"{name}_run" not in columns

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_spans(request)


VERB = Mask()
