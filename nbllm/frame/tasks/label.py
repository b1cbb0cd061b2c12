"""Tasks whose answer is one of a set of labels, with its probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import torch

from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import CompiledTemplate, Prompt, Template, answer_ids
from nbllm.engine.runner import run
from nbllm.engine.scoring import LabelScorer, calibration_offset, probabilities
from nbllm.errors import LabelError, ModelError
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compiled
from nbllm.models.fetch.training_record import prompt_digest, trained_on

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.models.model import Model

# By how many nats rounding moves one label against another when a row lies in another batch. In
# bf16 the default model's moved by 0.039 (standard deviation over reviews of SST-2), 0.13 at most,
# with the processor's AMX units, and by 0.026 and 0.12 without.
_NOISE = {torch.bfloat16: 0.16, torch.float16: 0.016}

__all__ = ["CalibratedPromptTask", "Choice", "HeadTask", "LabelTask", "are_scores", "label_ids"]


@dataclass(frozen=True)
class Choice:
    """One of some labels; an answer is the log-likelihood of each."""

    verb: str
    labels: tuple[str, ...]

    decodes = False
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The label, its probability, and that of every label."""
        chances = (Output("probability", f"_{label}", nw.Float64) for label in self.labels)
        return (Output("value", "", nw.String), Output("score", "_score", nw.Float64), *chances)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`."""
        return are_numbers(value, len(self.labels))

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`."""
        scores = np.array(answers, dtype=float).reshape(-1, len(self.labels))
        chance = probabilities(scores, np.array([0.0] if offset is None else offset))
        best = [self.labels[n] for n in chance.argmax(axis=1)]
        return [best, chance.max(axis=1).tolist(), *chance.T.tolist()]


@dataclass(frozen=True)
class LabelTask(Choice):
    """Choose a label by its likelihood after the prompt of a causal model."""

    template: Template
    answers: tuple[str, ...]  # each label as the text that would continue the prompt
    calibration: tuple[str, ...]  # unlabelled texts on which the offset is fitted

    @property
    def offset_length(self) -> int:  # type: ignore[override]
        """As `Task.offset_length`."""
        return len(self.labels)

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        # The offset is fitted on the texts; a digest keeps them out of every row's record.
        texts = sha256("\0".join(self.calibration).encode()).hexdigest()
        return {"labels": self.labels, "answers": self.answers, "calibration": texts}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return max(map(len, self._tokens(model)))

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        """As `Task.bind`."""
        template = compiled(self.template, model, limit)
        scorer = LabelScorer(model, template.prefix_ids, self._tokens(model))
        # One that was trained on this very question has learned how often each label is right.
        trained = trained_on(
            model.adapter_folder or model.folder, prompt_digest(self.template, self.answers)
        )
        return _BatchInvariantTask(template, scorer, limit, () if trained else self.calibration)

    def _tokens(self, model: Model) -> list[list[int]]:
        return label_ids(model, self.labels, self.answers)


def label_ids(model: Model, labels: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """The tokens of each label, as its answer would continue the prompt; no label begins another.

    Raises:
        LabelError: the model reads two labels as the same tokens.
    """

    def tokens(end: str) -> list[list[int]]:
        ended = [answer + end for answer in answers]
        return answer_ids(model.tokenizer, ended)

    # "card" is the beginning of "card arrival": only its end tells it from the longer one.
    for found in (tokens(""), tokens("\n")):
        if not any(a is not b and b[: len(a)] == a for a in found for b in found):
            return found
    raise LabelError(
        f"{model.name} reads some of the labels {', '.join(labels)} as the same tokens. "
        "Give them names that differ in more than case or accents."
    )


def are_scores(value: Any, heads: Sequence[int]) -> bool:
    """Whether a value is a list of numbers, those of these heads among them."""
    return isinstance(value, list) and are_numbers(value, len(value)) and len(value) > max(heads)


class CalibratedPromptTask(BoundPromptTask):
    """Rows to a scorer, whose offset is fitted on texts of the task's own."""

    def __init__(
        self,
        template: CompiledTemplate,
        scorer: LabelScorer,
        limit: int,
        calibration: Sequence[str],
        *,
        offset: Callable[[NDArray[np.float64]], NDArray[np.float64]] = calibration_offset,
    ) -> None:
        super().__init__(template, scorer, limit)
        self.scorer = scorer
        self.calibration = calibration
        self.offset = offset
        self.settled: list[float] | None = None

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        self.settled = self._fit(step) if known is None else known
        return self.settled

    def _fit(self, step: Callable[[], None]) -> list[float]:
        if not self.calibration:
            return [0.0] * len(self.scorer.trie.steps)
        encoded = self.encode([(text,) for text in self.calibration], truncate=True)
        prompts = [prompt for prompt in encoded if isinstance(prompt, Prompt)]
        scores: dict[int, Any] = {}
        budget = TokenBudget.of(
            self.scorer.model, decodes=False, label_tokens=self.scorer.label_tokens
        )
        for done in run(prompts, self.scorer, budget=budget):
            if done.errors:
                why = next(iter(done.errors.values()))
                raise ModelError(f"the texts that calibration reads fail: {why}")
            self.setup_tokens += done.read
            scores.update(done.answers)
            step()
        return [float(x) for x in self.offset(np.array(list(scores.values())))]


class _BatchInvariantTask(CalibratedPromptTask):
    """As calibrated, but a row's label is the same whatever batch it lies in.

    Where rows come out the same to the last bit in a batch and alone, nothing is left to do.
    Where they do not, a row whose best two labels lie closer than rounding can move them is
    scored again, in a batch whose shape is always the same.
    """

    exact: bool | None = None  # not known before the first batch of two rows or more
    seen = 1  # rows of the largest batch that was looked at

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers = list(super().__call__(prompts))
        noise = _NOISE.get(self.scorer.model.dtype, 0.0)
        # A kernel may choose another way for larger batches.
        if noise and self.exact is not False and len(prompts) >= 2 * self.seen:
            self.seen = len(prompts)
            self.exact = all(self.scorer([prompts[n]]) == [answers[n]] for n in (0, -1))
        if not noise or self.exact:
            return answers
        close = [
            n
            for n, scores in enumerate(answers)
            if not isinstance(scores, Exception) and self._margin(scores) < noise
        ]
        again = self.scorer.score_fixed_shape([prompts[n] for n in close])
        for n, scores in zip(close, again, strict=True):
            answers[n] = scores
        return answers

    def _margin(self, scores: Sequence[float]) -> float:
        """By how much the best label is ahead of the second, in nats."""
        second, best = np.sort(np.array(scores) - np.array(self.settled or 0.0))[-2:]
        return float(best - second)


@dataclass(frozen=True)
class HeadTask(Choice):
    """Choose a label by the head of a classifier that was trained to give it."""

    heads: tuple[int, ...]  # where in the classifier's own labels each is

    @property
    def template(self) -> Template:
        """None: the model reads the text as it is."""
        return ()

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        return {"labels": self.labels, "heads": self.heads}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return 0

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        """As `Task.bind`."""
        from nbllm.engine.encoding import HeadScorer

        return BoundEncoderTask(HeadScorer(model), limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the scores of all labels of the classifier."""
        return are_scores(value, self.heads)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`."""
        return super().decode([[row[head] for head in self.heads] for row in answers], offset)
