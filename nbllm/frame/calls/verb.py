"""The base class of verbs; what differs between verbs is in `nbllm.frame.verbs`.

A verb with one question per row defines which columns it reads and the model's task (`columns`,
`task`). Runs, previews, estimates, comparisons and the processing of files are derived from them.
A verb with several questions per row, or without a model, overrides `run`, `preview` and
`estimate`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from nbllm.checks import shown
from nbllm.errors import FrameError
from nbllm.frame import KEEP
from nbllm.frame.calls.models import choose_encoder, placeholder_model, preview_of
from nbllm.frame.calls.options import Settings, arguments_of, read_options
from nbllm.frame.checks import check_names, read_argument
from nbllm.frame.columns import check_columns, row_position, row_values
from nbllm.frame.evaluation.request import evaluate_answers
from nbllm.frame.new_columns import refuse_taken
from nbllm.frame.prompts.examples import Fields, examples_of
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate, estimate_run
from nbllm.frame.running.execute import ExecutionOptions, Question
from nbllm.frame.running.preview import Preview, StepsPreview
from nbllm.frame.running.run import added_columns, answer_frame
from nbllm.models.loader import choose

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.frame.tasks.base import Task
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["Call", "Verb"]

O = TypeVar("O")  # noqa: E741


@dataclass(frozen=True)
class Call(Generic[O]):
    """A call of a verb, with validated arguments."""

    verb: Verb[O]
    subject: str  # the first argument: a column, or a prompt
    options: O
    settings: Settings

    @property
    def output(self) -> str:
        """The column of the answers, which is also the prefix of the other new columns."""
        return self.settings.into or self.verb.output(self.subject)

    @property
    def execution(self) -> ExecutionOptions:
        """The options of its runs."""
        settings = self.settings
        return ExecutionOptions(
            settings.ledger, settings.truncate, settings.engine, settings.workers
        )

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the frame, by the field of the task's template."""
        return self.verb.columns(self.subject, self.options)

    @property
    def added(self) -> dict[str, Any]:
        """The arguments of `answer_frame` for the columns to add."""
        return self.verb.added(self)

    def model(self) -> Model:
        """Return the model, which may be loaded now."""
        return self.verb.choose_model(self.settings.model)

    def task(self, model: Model) -> Task:
        """Return the task of the verb.

        Args:
            model: The model, or for validation a stand-in of the same kind.

        Raises:
            FrameError: A verb of the user's returned something else.
        """
        verb = self.verb
        fields = verb.example_fields(self.options)
        examples = getattr(self.options, "examples", None)
        options = self.options
        if fields is not None and examples is not None:
            # The examples may be a frame with the same columns as the texts.
            columns = list(self.columns.values()) if verb.subject == "column" else []
            examples = examples_of(examples, fields, columns=columns, verb=verb.answers_as)
            options = replace(cast("Any", options), examples=examples)
        task = verb.task(model, self.subject, options)
        if verb.one_question_per_row and getattr(task, "verb", None) != verb.name:
            raise FrameError(
                f"{verb.name}.task returned {shown(task)}, which is no task of {verb.name}. Return "
                "one that is made with self.name."
            )
        return task

    @property
    def any_type(self) -> bool:
        """As `Verb.any_type`."""
        return self.verb.any_type

    def question(self, model: Model) -> Question:
        """Return the task for a model, with the columns that it reads and adds.

        Args:
            model: The model.
        """
        return Question(self.task(model), model, self.columns, self.output, self.verb.format)


class Verb(ABC, Generic[O]):
    """A method of `df.llm`, which runs a language model on each row of a frame.

    The class's docstring becomes that of the method. The arguments are documented by the fields
    of `options`.
    """

    name: ClassVar[str]
    options: ClassVar[type[Any]]
    # The name of the first argument: "column", or "template" for a prompt with several columns.
    subject: ClassVar[str] = "column"
    subject_doc: ClassVar[str] = "The column of the texts."
    # The kind of model to use if the user names none.
    kind: ClassVar[Kind] = "causal"
    # The settings that it accepts, and what differs from `Settings` for them.
    settings: ClassVar[tuple[str, ...]] = tuple(arguments_of(Settings))
    required_settings: ClassVar[tuple[str, ...]] = ()
    setting_docs: ClassVar[Mapping[str, str]] = {}
    keep: ClassVar[tuple[str, ...]] = KEEP
    # Whether it has one question per row, which files and comparisons of models require.
    one_question_per_row: ClassVar[bool] = True
    # Whether its columns may hold other types than text, and a blank value in one of several
    # columns counts as an empty text.
    any_type: ClassVar[bool] = False
    # The arguments of `df.llm.evaluate` that it supports, of "corpus", "history", "key", "k".
    evaluation_arguments: ClassVar[tuple[str, ...]] = ()
    # Sets of labels that it chooses among, each with the options for exactly this set.
    fixed_labels: ClassVar[Mapping[frozenset[str], Mapping[str, Any]]] = {}
    # Increase it when the answers to the same prompts change, so that the ledger's are not reused.
    format: ClassVar[int] = 0
    # The suffix of a column that only this verb writes: where a frame has it, the verb's other
    # columns are those of an earlier run and may be replaced.
    marker: ClassVar[str] = "_run"

    @abstractmethod
    def task(self, model: Model, subject: str, options: O) -> Task:
        """Return the task of the model for each row.

        Args:
            model: The model, or for validation a stand-in of the same kind without a network.
            subject: The first argument: a column, or a prompt.
            options: The options.

        Raises:
            NbllmError: The model does not support the arguments.
        """

    def columns(self, subject: str, options: O) -> dict[str, str]:
        """Return the columns to read, by the field of the task's template."""
        return {TEXT: subject}

    def output(self, subject: str) -> str:
        """Return the default name of the column of the answers."""
        return f"{subject}_{self.name}"

    def example_fields(self, options: O) -> Fields | None:
        """Return the names of an example's parts, the answer last; None without examples."""
        return None

    @property
    def answers_as(self) -> str:
        """The suffix of a column whose values may be the answers of examples."""
        return self.name

    def gives_probabilities(self, options: O) -> bool:
        """Return whether a run adds one column per label with its probability."""
        return bool(getattr(options, "probabilities", False))

    def added(self, call: Call[O]) -> dict[str, Any]:
        """Return the arguments of `answer_frame` for the columns to add."""
        return {
            "keep": call.settings.keep,
            "probabilities_too": self.gives_probabilities(call.options),
        }

    def can_check(self, options: O) -> bool:
        """Return whether the options can be validated without a model."""
        return True

    def choose_model(self, model: Any) -> Model:
        """Return the model given by object or name, else the last loaded one of a suitable kind.

        Args:
            model: The argument of the call.
        """
        return choose_encoder(model, self.name) if self.kind == "encoder" else choose(model)

    def frame_of(self, frame: Any, call: Call[O]) -> Any:
        """Return the frame that the task reads, such as one with a row per group."""
        return frame

    def not_by_file(self, options: O) -> str | None:
        """Return the name of a given option that needs more than a row's answer; None if none is.

        `answer_folder` refuses it, since it writes the answers of rows.

        Args:
            options: The options of the call.
        """
        return None

    def texts_read(
        self, record: Mapping[str, Any], texts: tuple[str, ...], model: Model
    ) -> tuple[str, ...]:
        """Return the texts that a run read for a row, where they replace the row's own.

        Args:
            record: The record of the run.
            texts: The texts of the row.
            model: The model of the run.
        """
        return texts

    def model_of(self, call: Call[O]) -> Model | None:
        """Return the model of a call; None if it runs without a model."""
        return call.model()

    def finish(self, answered: Any, call: Call[O]) -> Any:
        """Return the result of a call, from the frame with answers."""
        return answered

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Return the evaluation of its answers."""
        return evaluate_answers(request)

    def quotes(self, record: Mapping[str, Any], answer: str) -> Mapping[str, str]:
        """Return what an answer quotes from its text, by name.

        Args:
            record: The record of the run.
            answer: The answer of a row, as it is in the frame.
        """
        return {}

    def can_read(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record, which may have been modified, has what the verb requires."""
        return True

    def recognizes(self, frame: Any, name: str) -> bool:
        """Return whether a column holds answers of this verb that no run records."""
        return False

    def check_options(self, frame: Any, call: Call[O]) -> None:
        """Validate the options of a call, as far as that requires no model.

        Args:
            frame: The frame of the call.
            call: The call.

        Raises:
            FrameError: An option is invalid.
            LabelError: Labels or examples are invalid.
        """
        self.task_without_model(call)

    def new_columns(self, call: Call[O]) -> list[str]:
        """Return the names of the columns that a run adds.

        Raises:
            LabelError: Two columns would have the same name.
        """
        task = self.task_without_model(call)
        return [call.output] if task is None else [*added_columns(task, call.output, **call.added)]

    def check(self, frame: Any, call: Call[O], *, adds: bool = True) -> None:
        """Validate the columns and arguments of a call, before a model is loaded.

        Args:
            frame: The frame of the call.
            call: The call.
            adds: Whether the call adds columns.

        Raises:
            ColumnError: A column is missing or not text, or a new column would overwrite one.
            FrameError: An option is invalid, or `into` is missing.
            LabelError: Labels or examples are invalid.
        """
        if adds and "into" in self.required_settings and call.settings.into is None:
            raise FrameError(f"{self.name} requires a name for its answers. Pass one: into=.")
        check_columns(frame, list(call.columns.values()), any_type=self.any_type)
        self.check_options(frame, call)
        if adds:
            refuse_taken(frame, self.new_columns(call), marker=call.output + self.marker)

    def task_without_model(self, call: Call[O]) -> Task | None:
        """Return the task for a model of `kind`; None if it depends on the model itself."""
        if not self.can_check(call.options):
            return None
        return call.task(placeholder_model(self.kind))

    def run(self, frame: Any, call: Call[O], model: Model | None, monitor: RunMonitor) -> Any:
        """Return the frame with answers.

        Args:
            frame: The frame, as `frame_of` returns it.
            call: The call.
            model: The model, as `model_of` returns it.
            monitor: Reports the progress, and whether to stop.
        """
        assert model is not None
        answered = answer_frame(
            frame,
            call.question(model),
            any_type=self.any_type,
            **call.added,
            execution=call.execution,
            monitor=monitor,
        )
        return self.finish(answered, call)

    def preview(self, frame: Any, call: Call[O], row: Any) -> Preview | StepsPreview:
        """Return the exact prompt of one row.

        Args:
            frame: The frame of the call.
            call: The call.
            row: The row's label in the index (position in polars); None for the first row.
        """
        self.check(frame, call, adds=False)
        texts = row_values(
            frame, list(call.columns.values()), row_position(frame, row), any_type=self.any_type
        )
        model = call.model()
        return preview_of(call.task(model), model, texts, truncate=call.settings.truncate)

    def estimate(self, frame: Any, call: Call[O]) -> RunEstimate | StepsEstimate:
        """Return the tokens, time and memory that a run would take."""
        self.check(frame, call, adds=False)
        return estimate_run(
            frame,
            call.question(call.model()),
            any_type=self.any_type,
            truncate=call.settings.truncate,
        )

    def call(
        self, subject: Any, options: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Call[O]:
        """Return a call with validated arguments.

        Args:
            subject: The first argument: a column, or a prompt.
            options: The options by name.
            settings: The settings by name; settings that the verb does not accept are ignored.

        Raises:
            FrameError: An argument is unknown or missing, or its value is invalid.
        """
        accepted = {name: value for name, value in settings.items() if name in self.settings}
        read = read_options(self.name, Settings, {"keep": self.keep, **accepted})
        check_names("keep", read.keep, self.keep)
        return Call(
            self,
            read_argument(self.subject, subject),
            read_options(self.name, self.options, options),
            read,
        )

    def positional(self) -> list[str]:
        """Return the names of the arguments that may be passed by position, in order."""
        options = arguments_of(self.options).items()
        return [self.subject, *(n for n, each in options if each.metadata.get("positional"))]

    def documentation(self) -> str:
        """Return the class's docstring without indentation."""
        return inspect.cleandoc(type(self).__doc__ or "")
