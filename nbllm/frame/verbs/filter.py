"""Filtering: does what the caller says hold of a text?

The form of the prompt was chosen on the reviews and messages that come with nbllm. Asked for yes
or no, SmolLM2-135M answered by chance; the likelihood of the statement told the texts apart.
"""

from __future__ import annotations

from collections import Counter
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
from nbllm.frame.evaluation.predicates import of_filter
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.predicate import PredicateTask

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.models.model import Model

__all__ = ["VERB", "Filter", "Options"]

_FIELDS = ("text", "predicate")  # of an example

_EXAMPLES = (
    ("The tram was late again, and nobody told us why.", "is about public transport"),
    ("Many thanks for the quick repair, the oven works perfectly.", "is friendly"),
    ("How many eggs do I need for the cake?", "asks for advice on cooking"),
    ("Our keeper saved a penalty in the last minute.", "mentions a match"),
)

# What is an answer to a predicate, and none itself.
_ANSWERS = frozenset({"yes", "no", "true", "false", "0", "1"})

# On many subjects and of many kinds, so that most statements hold of few of them.
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
    """What should hold of a text."""

    predicate: str = option(
        'what should hold, as it goes on after "The text": "asks for a refund".', positional=True
    )
    threshold: float = option("the probability from which a row is taken.", 0.5)
    instruction: str | None = option("what to say above the examples.", None)
    examples: Examples | None = option(
        "(text, predicate that holds of it) pairs instead of the built-in ones; as dicts or a "
        'frame, by the names "text" and "predicate".',
        None,
    )


class Filter(Verb[Options]):
    """Take the rows of which something holds, under their own index.

    The score is the probability of yes: how much more likely the text makes the statement
    than other texts do, where one in five is taken to be a yes. It ranks rows better than
    it is calibrated, so look at some and move the threshold, which costs no new answers.
    A row that is blank or failed is left out, with a warning.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: a predicate without words, or a threshold that is no probability.
        LabelError: an example that says yes or no instead of a predicate.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> df.llm.filter("message", "asks for a refund")  # doctest: +SKIP
    """

    name = "filter"
    options = Options
    evaluation_arguments: ClassVar[tuple[str, ...]] = ("corpus",)

    def example_fields(self, options: Options) -> Fields:
        return _FIELDS

    def task(self, model: Model, subject: str, options: Options) -> PredicateTask:
        require(model, self.name, "causal")
        examples = options.examples
        head = f"{options.instruction}\n\n" if options.instruction else ""
        for text, holds in _EXAMPLES if examples is None else read_examples(examples, _FIELDS):
            if _phrase(holds).lower() in _ANSWERS:
                raise LabelError(
                    f"the example {text[:40]!r} says {holds!r}, and not what holds of the text. "
                    "Write that, as it goes on after 'The text': 'asks for a refund'."
                )
            head += f"Text: {text}\nThe text {_phrase(holds)}.\n\n"
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
        # Which rows are taken is read from all of them.
        return {"keep": KEEP, "probabilities_too": False}

    def finish(self, answered: Any, call: Call[Options]) -> Any:
        """Return the rows whose answer is yes; warn of rows without an answer."""
        column, output, keep = call.subject, call.output, call.settings.keep
        data = nw.from_native(answered, eager_only=True)
        answers = data[output].to_list()
        unknown = Counter(
            _why(text, error)
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

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        return of_filter(judged.frame, judged.truth, judged.output, judged.records, judged.corpus)


VERB = Filter()


def _phrase(predicate: str) -> str:
    """What goes on after "The text", however it was written."""
    words = predicate.strip().rstrip(".")
    return words[len("the text ") :] if words.lower().startswith("the text ") else words


def _why(text: Any, error: Any) -> str:
    """Why nothing is known of a row."""
    if isinstance(error, str):
        return "failed"
    # Only a run that was stopped leaves a text without an answer and without an error.
    return "blank" if is_missing(text) or is_blank(text) else "unreached"
