"""The verb `verify`: checks each sentence of a text against another text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import CompiledTemplate, Part, plain
from nbllm.frame.calls.models import preview_of
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import row_position, row_values
from nbllm.frame.evaluation.labels import LabelEvaluation
from nbllm.frame.evaluation.request import evaluate_answers
from nbllm.frame.prompts.arguments import require
from nbllm.frame.tasks.bound_evidence import readable_source
from nbllm.frame.tasks.evidence import EvidenceTask

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.running.preview import Preview
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Verify"]

_SOURCE, _CLAIMS = "source", "claims"  # fields of the template


@dataclass(frozen=True)
class Options:
    """The options of `Verify`."""

    against: str = option("The column of the texts that should support it.", positional=True)
    threshold: float = option("The minimum score of a sentence that is called supported.", 0.5)


class Verify(Verb[Options]):
    """Check each sentence of a text against another text: supported, or not, and by what.

    A sentence is "supported", "contradicted" (the text has its subject, but a name, a number
    or a negation is another one) or "not in the text". `<column>_verify` has the verdict of
    the worst sentence, and `_score` the lowest probability of one to be supported. One with a
    misquoted word is never called supported, and one that the text has word for word always.
    `_sentences` has all of them, as a JSON list of objects: `sentence`, `verdict`, `score`;
    `evidence`, the nearest sentence of the text by BM25, with its character offsets `start`
    and `end`; and `misquoted`, the names and numbers that the text lacks or that are unlikely
    there.

    The verdict is by the model's likelihoods of a sentence after the text and without it,
    and by the words of both. It tells another subject, name or number well, one that is taken
    from elsewhere in the text less well, and no wrong conclusion. Negations are compared in
    English only, and texts in a script without spaces between words, such as Chinese, are an
    error of their row. Of a text that does not fit the context, the model reads the sentences
    nearest to those that are checked.

    Raises:
        ColumnError: A column is missing or not text, or a new column would overwrite one.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.verify("summary", against="article")  # doctest: +SKIP
    """

    name = "verify"
    options = Options
    subject_doc = "The column of the texts to check, such as summaries."

    def columns(self, subject: str, options: Options) -> dict[str, str]:
        return {_SOURCE: options.against, _CLAIMS: subject}

    def task(self, model: Model, subject: str, options: Options) -> EvidenceTask:
        require(model, self.name, "causal")
        parts = [
            Part("text", "Text: "),
            Part("field", _SOURCE),
            Part("text", "\nSummary: "),
            Part("field", _CLAIMS),
        ]
        return EvidenceTask(self.name, plain(model.tokenizer, parts), options.threshold)

    def preview(self, frame: Any, call: Call[Options], row: Any) -> Preview:
        self.check(frame, call, adds=False)
        source, claims = row_values(
            frame, list(call.columns.values()), row_position(frame, row), any_type=self.any_type
        )
        model = call.model()
        question = call.question(model)
        template = CompiledTemplate(question.task.template, model.tokenizer)
        source = readable_source(template, source, claims, question.limit)
        return preview_of(question.task, model, (source, claims), truncate=call.settings.truncate)

    def texts_read(
        self, record: Mapping[str, Any], texts: tuple[str, ...], model: Model
    ) -> tuple[str, ...]:
        template = tuple(Part(kind, value) for kind, value in record["template"])
        compiled = CompiledTemplate(template, model.tokenizer)
        source, claims = texts
        return readable_source(compiled, source, claims, record["limit"]), claims

    def can_read(self, record: Mapping[str, Any]) -> bool:
        return list(record["columns"]) == [_SOURCE, _CLAIMS]

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        found = evaluate_answers(request)
        # The score is the probability of one label, not of the verdict.
        return replace(found, score=None) if isinstance(found, LabelEvaluation) else found


VERB = Verify()
