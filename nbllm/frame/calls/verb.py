"""What a verb is. All that differs from verb to verb is in its file; what is here is for all.

A verb that asks one question of each row says which columns it reads and which task it sets a
model (`columns`, `task`). Running, previewing, estimating, comparing and answering files follow
from these. A verb that asks several questions, or none, says itself how it is run, previewed
and estimated.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from nbllm.engine.encoding import framed
from nbllm.errors import FrameError, ModelError
from nbllm.frame import KEEP
from nbllm.frame.calls.options import Settings, arguments_of, read_options
from nbllm.frame.checks import check_names, read_argument
from nbllm.frame.columns import check_columns, row_position, row_values
from nbllm.frame.evaluation.request import evaluate_answers
from nbllm.frame.new_columns import refuse_taken
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Fields, examples_of
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate, estimate_run
from nbllm.frame.running.execute import ExecutionOptions, Question
from nbllm.frame.running.preview import Preview, StepsPreview
from nbllm.frame.running.run import added_columns, answer_frame
from nbllm.frame.tasks.bound_prompt import compiled
from nbllm.frame.tasks.extractive_qa import ExtractiveQATask
from nbllm.models.in_memory import loaded
from nbllm.models.loader import choose, resolve

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.frame.tasks.base import Task
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["Call", "Verb", "choose_encoder", "placeholder_model", "preview_of"]

O = TypeVar("O")  # noqa: E741


@dataclass(frozen=True)
class Call(Generic[O]):
    """One call of a verb: what it asks, and how it is run."""

    verb: Verb[O]
    subject: str  # its first argument: a column, or a prompt
    options: O
    settings: Settings

    @property
    def output(self) -> str:
        """The column of the answers, and the beginning of the others' names."""
        return self.settings.into or self.verb.output(self.subject)

    @property
    def execution(self) -> ExecutionOptions:
        """How its questions are run."""
        settings = self.settings
        return ExecutionOptions(
            settings.ledger, settings.truncate, settings.engine, settings.workers
        )

    @property
    def columns(self) -> dict[str, str]:
        """Field of the task's template to column of the frame."""
        return self.verb.columns(self.subject, self.options)

    @property
    def added(self) -> dict[str, Any]:
        """Which columns are added, as `answer_frame` has it."""
        return self.verb.added(self)

    def model(self) -> Model:
        """The model that is asked; it may be loaded for this."""
        return self.verb.choose_model(self.settings.model)

    def task(self, model: Model) -> Task:
        """What the model is asked."""
        verb = self.verb
        fields = verb.example_fields(self.options)
        examples = getattr(self.options, "examples", None)
        options = self.options
        if fields is not None and examples is not None:
            # Only here is known what the columns are called.
            named = list(self.columns.values()) if verb.subject == "column" else []
            read = examples_of(examples, fields, columns=named, verb=verb.answers_as)
            options = replace(cast("Any", options), examples=read)
        return verb.task(model, self.subject, options)

    @property
    def any_type(self) -> bool:
        """Whether its columns may hold what is no text, and blanks beside other values."""
        return self.verb.any_type

    def question(self, model: Model) -> Question:
        """What the model is asked, and of which columns."""
        return Question(self.task(model), model, self.columns, self.output, self.verb.format)


class Verb(ABC, Generic[O]):
    """A language model's work on each row of a frame, as a method of `df.llm`.

    Its docstring is that of the method, which adds the arguments from the fields of its options.
    """

    name: ClassVar[str]
    options: ClassVar[type[Any]]
    # What its first argument is called: "column", or "template" for a prompt of several columns.
    subject: ClassVar[str] = "column"
    subject_doc: ClassVar[str] = "the texts."
    # The kind of model that is looked for where none is named.
    kind: ClassVar[Kind] = "causal"
    # Which settings it takes, and what they are where they are not passed.
    settings: ClassVar[tuple[str, ...]] = tuple(arguments_of(Settings))
    required_settings: ClassVar[tuple[str, ...]] = ()
    setting_docs: ClassVar[Mapping[str, str]] = {}
    keep: ClassVar[tuple[str, ...]] = KEEP
    # Whether it asks one question of each row, so that rows of a file and two models can be.
    one_question_per_row: ClassVar[bool] = True
    # Whether its columns may hold what is no text, and blanks beside other values.
    any_type: ClassVar[bool] = False
    # What else than the truth its answers are judged by: "corpus", "history", "key", "k".
    evaluation_arguments: ClassVar[tuple[str, ...]] = ()
    # Raised when the same options shall be answered otherwise: answers on file are not used then.
    format: ClassVar[int] = 0

    @abstractmethod
    def task(self, model: Model, subject: str, options: O) -> Task:
        """Return what a model is asked about each row.

        Raises:
            NbllmError: arguments that this model cannot take.
        """

    def columns(self, subject: str, options: O) -> dict[str, str]:
        """Return the columns that are read, by the field of the task's template."""
        return {TEXT: subject}

    def output(self, subject: str) -> str:
        """Return what the column of the answers is called where `into=` does not say it."""
        return f"{subject}_{self.name}"

    def example_fields(self, options: O) -> Fields | None:
        """Return what one of its solved examples is made of, the answer last; None without any."""
        return None

    @property
    def answers_as(self) -> str:
        """How a column of its answers ends, which may be the answer of a solved example."""
        return self.name

    def gives_probabilities(self, options: O) -> bool:
        """Return whether one column a label is added."""
        return bool(getattr(options, "probabilities", False))

    def added(self, call: Call[O]) -> dict[str, Any]:
        """Return which columns a run adds, as `answer_frame` has it."""
        return {
            "keep": call.settings.keep,
            "probabilities_too": self.gives_probabilities(call.options),
        }

    def can_check(self, options: O) -> bool:
        """Return whether its arguments can be checked before a model is there."""
        return True

    def choose_model(self, model: Any) -> Model:
        """Return the model given or named, else the one loaded last of a kind that it can ask.

        It may be loaded now: what can be refused without it is refused before.
        """
        return choose_encoder(model, self.name) if self.kind == "encoder" else choose(model)

    def frame_of(self, frame: Any, call: Call[O]) -> Any:
        """Return the frame whose rows are asked."""
        return frame

    def texts_read(
        self, record: Mapping[str, Any], texts: tuple[str, ...], model: Model
    ) -> tuple[str, ...]:
        """Return what a run read of a row: its texts, or what stood for them."""
        return texts

    def model_of(self, call: Call[O]) -> Model | None:
        """Return the model that a call asks; None where it asks none."""
        return call.model()

    def finish(self, answered: Any, call: Call[O]) -> Any:
        """Return what the caller gets, from the answered frame."""
        return answered

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        """Measure answers of its runs against the right ones."""
        return evaluate_answers(judged)

    def recognizes(self, frame: Any, name: str) -> bool:
        """Return whether a column holds its answers, where no run says so."""
        return False

    # -- the same for all that ask one question of a row -----------------------------------------

    def check(self, frame: Any, call: Call[O], *, adds: bool = True) -> None:
        """Refuse columns and arguments that no model could take, before one is loaded.

        Args:
            adds: whether columns are added, which may be in the way.

        Raises:
            ColumnError: a column is missing or not text, or a new one is in the way.
            FrameError: an argument that the verb refuses.
            LabelError: labels or examples that cannot be read.
        """
        if adds:
            self.refuse_nameless(call)
        check_columns(frame, list(call.columns.values()), any_type=self.any_type)
        task = self.task_without_model(call)
        if adds:
            names = [call.output]
            if task is not None:
                names = list(added_columns(task, call.output, **call.added))
            refuse_taken(frame, names, ours=f"{call.output}_run")

    def refuse_nameless(self, call: Call[O]) -> None:
        """Refuse a call that does not name its column where nothing else does.

        Raises:
            FrameError: `into` is missing.
        """
        if "into" in self.required_settings and call.settings.into is None:
            raise FrameError(f"{self.name} wants a name for its answers. Pass one: into=.")

    def task_without_model(self, call: Call[O]) -> Task | None:
        """Return the task as a model of the usual kind has it; None where only a model can say."""
        return call.task(placeholder_model(self.kind)) if self.can_check(call.options) else None

    def run(self, frame: Any, call: Call[O], model: Model | None, monitor: RunMonitor) -> Any:
        """Return the frame with its answers."""
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
        """Return what a model would be given for one row.

        Args:
            row: its label in the index (position in polars); by default the first.
        """
        self.check(frame, call, adds=False)
        texts = row_values(
            frame, list(call.columns.values()), row_position(frame, row), any_type=self.any_type
        )
        model = call.model()
        return preview_of(call.task(model), model, texts, truncate=call.settings.truncate)

    def estimate(self, frame: Any, call: Call[O]) -> RunEstimate | StepsEstimate:
        """Return what a run would take."""
        self.check(frame, call, adds=False)
        return estimate_run(
            frame,
            call.question(call.model()),
            any_type=self.any_type,
            truncate=call.settings.truncate,
        )

    # -- calls as the user writes them -----------------------------------------------------------

    def call(
        self, subject: Any, options: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Call[O]:
        """Read the arguments of a call.

        Args:
            options, settings: by name; of the settings, those that the verb does not take are
                left out.

        Raises:
            FrameError: there is no such argument, it cannot take its value, or one is missing.
        """
        ours = {name: value for name, value in settings.items() if name in self.settings}
        read = read_options(self.name, Settings, {"keep": self.keep, **ours})
        check_names("keep", read.keep, self.keep)
        return Call(
            self,
            read_argument(self.subject, subject),
            read_options(self.name, self.options, options),
            read,
        )

    def positional(self) -> list[str]:
        """Return the names of the arguments that may be passed without them, in order."""
        options = arguments_of(self.options)
        return [self.subject, *(n for n, one in options.items() if one.metadata.get("positional"))]

    def documentation(self) -> str:
        """Return its docstring, without the indentation of its class."""
        return inspect.cleandoc(type(self).__doc__ or "")


def choose_encoder(model: Any, verb: str) -> Model:
    """Return the sentence encoder given, also by its name, else the one loaded last.

    Raises:
        ModelError: none is given and none is loaded.
        UnsupportedModelError: the one given is of another kind.
    """
    if model is None:
        model = next((known for known in reversed(loaded()) if known.kind == "encoder"), None)
    if model is None:
        raise ModelError(
            f"{verb} asks a sentence encoder, and none is loaded. Pass one: model='minilm'."
        )
    found = resolve(model)
    require(found, verb, "encoder")
    return found


def preview_of(task: Task, model: Model, texts: tuple[str, ...], *, truncate: bool) -> Preview:
    """Return the prompt that a model would be given for a row.

    Raises:
        TextTooLongError: it does not fit.
    """
    limit = model.context_length - task.answer_tokens(model)
    if isinstance(task, ExtractiveQATask):  # which reads a long text in pieces
        [prompt] = task.bind(model, limit).encode([texts], truncate=truncate)
    else:
        template = task.template
        ready = compiled(template, model, limit) if template else framed(model)
        [prompt] = ready.encode([texts], limit=limit, truncate=truncate)
    if isinstance(prompt, Exception):
        raise prompt
    # No encoder shares its first special token, which is read anew in each row.
    return Preview(prompt if task.template else replace(prompt, prefix_length=0))


def placeholder_model(kind: Kind) -> Model:
    """Return what a task asks of a model while it reads its arguments."""
    return cast("Model", _PlaceholderModel(kind))


class _BareTokenizer:
    """That of a model that is continued, whose prompts begin with nothing of its own."""

    bos_token = chat_template = None


@dataclass(frozen=True)
class _PlaceholderModel:
    kind: str
    name: str = "the model"
    context_length: int = 2048
    tokenizer: _BareTokenizer = field(default_factory=_BareTokenizer)
