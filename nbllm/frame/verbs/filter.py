"""The verb `filter`: keeps the rows whose text a statement is true of.

The form of the prompt was chosen on the reviews and messages that come with nbllm. With yes-or-no
questions, SmolLM2-135M answered at chance level; the likelihood of the statement separated the
texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.blank import is_blank
from nbllm.engine.prompt import Part, plain
from nbllm.errors import LabelError
from nbllm.frame import KEEP
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import is_missing
from nbllm.frame.evaluation.predicates import evaluate_filter
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.predicate import PredicateTask

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.models.model import Model

__all__ = ["VERB", "Filter", "Options"]

_EXAMPLE_FIELDS = ("text", "predicate")

_EXAMPLES = (
    ("The tram was late again, and nobody told us why.", "is about public transport"),
    ("Many thanks for the quick repair, the oven works perfectly.", "is friendly"),
    ("How many eggs do I need for the cake?", "asks for advice on cooking"),
    ("Our keeper saved a penalty in the last minute.", "mentions a match"),
)

# Answers, which a user may give by mistake in place of a predicate.
_ANSWERS = frozenset({"yes", "no", "true", "false", "0", "1"})

# Texts of many subjects and kinds, so that most statements are true of few of them.
_CALIBRATION = (
    "My parcel should have been here on Monday.",
    "Council votes to close the old swimming pool",
    "Do not forget to pay the window cleaner.",
    "The storm brought down several trees, and the road to the harbour is closed until tomorrow.",
    "How can I change my password? The link in your e-mail leads nowhere.",
    "Profits fell by three per cent, as fewer people bought new cars than a year ago.",
    "The curry was the best I have had in years, and the waiter was charming.",
    "Striker out for six weeks with a knee injury",
    "I would like my money back for the lamp, which arrived in pieces.",
    "Scientists have built a battery that can be charged in two minutes.",
    "The lecture starts at 9:15 in the large hall.",
    "Who wrote the first book about the history of chess?",
    "He put down the letter, looked out of the window, and began to laugh.",
    "Please cancel my subscription at the end of the month.",
    "Cloudy with some drizzle in the west, milder by the evening.",
    "Two hours of noise and not a single idea; I left before the end.",
    "I have attached the signed contract and the plan of the second floor.",
    "Chop the onions, fry them in butter until golden, and stir in the rice.",
    "The patient has slept badly since the operation, but has no pain.",
    "A charming novel about three generations of lighthouse keepers.",
    "Thank you so much for your help yesterday!",
    "Since the last update the app freezes whenever I open the camera.",
    "Is the tent waterproof, and does it fit into a rucksack?",
    "We stayed for three nights; the room was clean and the beds were comfortable.",
)


@dataclass(frozen=True)
class Options:
    """The options of `Filter`."""

    predicate: str = option(
        'The statement about a text, as a continuation of "The text": "asks for a refund".',
        positional=True,
    )
    threshold: float = option("The minimum probability of the rows to keep.", 0.5)
    instruction: str | None = option("The instruction in front of the examples.", None)
    examples: Examples | None = option(
        "(text, predicate) pairs in which the predicate is true of the text, for the prompt; or "
        'dicts or a frame with the names "text" and "predicate". They replace the built-in ones.',
        None,
    )


class Filter(Verb[Options]):
    """Keep the rows whose text a statement is true of, with their index.

    The score is the probability that the statement is true. It is computed from how much
    likelier the statement is after this text than after other texts, at a prior of one in
    five. It ranks rows better than it is calibrated, so inspect some rows and adjust the
    threshold, which computes no new answers. Blank and failed rows are left out, with a
    warning.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        FrameError: The predicate is blank, or the threshold is not a probability.
        LabelError: An example has yes or no in place of a predicate.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.filter("message", "asks for a refund")  # doctest: +SKIP
    """

    name = "filter"
    options = Options
    evaluation_arguments: ClassVar[tuple[str, ...]] = ("corpus",)

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def task(self, model: Model, subject: str, options: Options) -> PredicateTask:
        require(model, self.name, "causal")
        examples = options.examples
        head = f"{options.instruction}\n\n" if options.instruction else ""
        pairs = _EXAMPLES if examples is None else read_examples(examples, _EXAMPLE_FIELDS)
        for text, predicate in pairs:
            if _phrase(predicate).lower() in _ANSWERS:
                raise LabelError(
                    f"the example {text[:40]!r} says {predicate!r}, and not what holds of the "
                    "text. Write that, as it goes on after 'The text': 'asks for a refund'."
                )
            head += f"Text: {text}\nThe text {_phrase(predicate)}.\n\n"
        parts = [Part("text", f"{head}Text: "), Part("field", TEXT), Part("text", "\nThe text")]
        return PredicateTask(
            verb=self.name,
            labels=("yes", "no"),
            template=plain(model.tokenizer, parts),
            statement=f" {_phrase(options.predicate)}.",
            calibration=_CALIBRATION,
            threshold=options.threshold,
        )

    def added(self, call: Call[Options]) -> dict[str, Any]:
        # `finish` reads all columns, and drops those that the user does not keep.
        return {"keep": KEEP, "probabilities_too": False}

    def finish(self, answered: Any, call: Call[Options]) -> Any:
        """As `Verb.finish`: the rows whose answer is yes, with a warning about rows without one."""
        column, output, keep = call.subject, call.output, call.settings.keep
        data = nw.from_native(answered, eager_only=True)
        answers = data[output].to_list()
        unknown = Counter(
            _failure(text, error)
            for text, answer, error in zip(
                data[column].to_list(), answers, data[f"{output}_error"].to_list(), strict=True
            )
            if answer not in ("yes", "no")
        )
        if unknown:
            kinds = ["blank", "failed", *(["unreached"] if unknown["unreached"] else [])]
            *said, last = [f"{unknown[kind]:,} {kind}" for kind in kinds]
            warn_user(
                f"{self.name}: {', '.join(said)} and {last} rows of {len(answers):,} are left out, "
                "since nothing is known of them.",
            )
        dropped = [output if part == "value" else f"{output}_{part}" for part in KEEP]
        dropped = [name for name, part in zip(dropped, KEEP, strict=True) if part not in keep]
        chosen = [row for row, answer in enumerate(answers) if answer == "yes"]
        found = data[chosen].drop(dropped).to_native()
        if hasattr(answered, "attrs"):
            found.attrs = dict(answered.attrs)
        return found

    def can_read(self, record: Mapping[str, Any]) -> bool:
        return list(record["columns"]) == [TEXT]

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_filter(request)


VERB = Filter()


def _phrase(predicate: str) -> str:
    """Return a predicate as a continuation of "The text", without a full stop."""
    words = predicate.strip().rstrip(".")
    return words[len("the text ") :] if words.lower().startswith("the text ") else words


def _failure(text: Any, error: Any) -> str:
    """Return why a row has no answer."""
    if isinstance(error, str):
        return "failed"
    # Only a stopped run leaves a text with neither answer nor error.
    return "blank" if is_missing(text) or is_blank(text) else "unreached"
