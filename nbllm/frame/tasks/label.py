"""Tasks that choose one of several labels, with its probability."""

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
from nbllm.engine.runner import Engine, run
from nbllm.engine.scoring import LabelScorer, calibration_offset, probabilities
from nbllm.errors import LabelError, ModelError
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask, PromptlessTask
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compile_template
from nbllm.models.fetch.training_record import prompt_digest, trained_on
from nbllm.models.flops import TokenCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.models.model import Model

# How far, in nats, rounding shifts the score difference of two labels when a row is in another
# batch. With the default model in bf16, over reviews of SST-2, the standard deviation is 0.039 and
# the maximum 0.13 with the processor's AMX units, 0.026 and 0.12 without.
ROUNDING_ERROR = {torch.bfloat16: 0.16, torch.float16: 0.016}

__all__ = [
    "ROUNDING_ERROR",
    "CalibratedPromptTask",
    "Choice",
    "HeadTask",
    "LabelTask",
    "are_head_scores",
    "calibration_digest",
    "calibration_scores",
    "is_prefix_free",
    "label_ids",
]


@dataclass(frozen=True)
class Choice:
    """Base class of tasks that choose one label. An answer is the log-likelihood of each label."""

    verb: str
    labels: tuple[str, ...]

    decodes = False
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The label, its probability, and the probability of every label."""
        chances = (Output("probability", f"_{label}", nw.Float64) for label in self.labels)
        return (Output("value", "", nw.String), Output("score", "_score", nw.Float64), *chances)

    def is_answer(self, value: Any) -> bool:
        return are_numbers(value, len(self.labels))

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        scores = np.array(answers, dtype=float).reshape(-1, len(self.labels))
        chance = probabilities(scores, np.array([0.0] if offset is None else offset))
        best = [self.labels[n] for n in chance.argmax(axis=1)]
        return [best, chance.max(axis=1).tolist(), *chance.T.tolist()]


@dataclass(frozen=True)
class LabelTask(Choice):
    """Choose the label that a causal model finds most likely after the prompt."""

    template: Template
    answers: tuple[str, ...]  # the text of each label as a continuation of the prompt
    calibration: tuple[str, ...]  # unlabelled texts for fitting the offset

    @property
    def offset_length(self) -> int:  # type: ignore[override]
        return len(self.labels)

    def parameters(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "answers": self.answers,
            "calibration": calibration_digest(self.calibration),
        }

    def answer_tokens(self, model: Model) -> int:
        return max(map(len, self._tokens(model)))

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compile_template(self.template, model, limit)
        scorer = LabelScorer(model, template.prefix_ids, self._tokens(model))
        # Training on this same question has taught the model how frequent each label is.
        trained = trained_on(
            model.adapter_folder or model.folder, prompt_digest(self.template, self.answers)
        )
        return _BatchInvariantTask(template, scorer, limit, () if trained else self.calibration)

    def _tokens(self, model: Model) -> list[list[int]]:
        return label_ids(model, self.labels, self.answers)


def label_ids(model: Model, labels: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each label, none of which is a prefix of another's.

    Args:
        model: The model whose tokenizer is used.
        labels: The labels, for the error message.
        answers: The text of each label as a continuation of the prompt.

    Raises:
        LabelError: Two labels have the same tokens.
    """
    # "card" is a prefix of "card arrival": a line break after both tells them apart.
    for end in ("", "\n"):
        ids = answer_ids(model.tokenizer, [answer + end for answer in answers])
        if is_prefix_free(ids):
            return ids
    raise LabelError(
        f"{model.name} reads some of the labels {', '.join(labels)} as the same tokens. "
        "Give them names that differ in more than case or accents."
    )


def is_prefix_free(sequences: Sequence[Sequence[int]]) -> bool:
    """Return whether no sequence begins with another one.

    Args:
        sequences: Token ids.

    Example:
        >>> is_prefix_free([[1, 2], [1, 3]]), is_prefix_free([[1], [1, 3]])
        (True, False)
    """
    return not any(a is not b and b[: len(a)] == a for a in sequences for b in sequences)


def calibration_digest(texts: Sequence[str]) -> str:
    """Return a hash of calibration texts, which keeps the texts out of every row's record.

    Args:
        texts: The calibration texts.
    """
    return sha256("\0".join(texts).encode()).hexdigest()


def are_head_scores(value: Any, heads: Sequence[int]) -> bool:
    """Return whether a value is a list of numbers long enough to index by label.

    Args:
        value: Any value that JSON can hold.
        heads: The indices of the labels in a classifier's output.
    """
    return isinstance(value, list) and are_numbers(value, len(value)) and len(value) > max(heads)


def calibration_scores(
    prompts: Sequence[Prompt], score: Engine, budget: TokenBudget, step: Callable[[], None]
) -> tuple[dict[int, Any], TokenCounts]:
    """Return the scores of the texts that calibration reads, by index, and the tokens they took.

    Args:
        prompts: The texts.
        score: Scores a batch of them.
        budget: The size of a batch.
        step: Called after each batch; an exception from it ends the fit.

    Raises:
        ModelError: The model fails on a text.
    """
    scores: dict[int, Any] = {}
    tokens = TokenCounts()
    for done in run(prompts, score, budget=budget):
        if done.errors:
            error = next(iter(done.errors.values()))
            raise ModelError(f"the texts that calibration reads fail: {error}")
        tokens += done.read
        scores.update(done.answers)
        step()
    return scores, tokens


class CalibratedPromptTask(BoundPromptTask):
    """Scores labels and fits the calibration offset on the task's own texts.

    Args:
        template: The tokenized template.
        scorer: The engine that scores the labels.
        limit: The maximum number of tokens of a prompt.
        calibration: The texts for fitting. Without any, the offset is 0.
        offset: The function from their scores, shape (texts, labels), to the offset, (labels,).
    """

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
        self.fitted_offset: list[float] | None = None

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        self.fitted_offset = self._fit(step) if known is None else known
        return self.fitted_offset

    def _fit(self, step: Callable[[], None]) -> list[float]:
        if not self.calibration:
            return [0.0] * len(self.scorer.trie.steps)
        encoded = self.encode([(text,) for text in self.calibration], truncate=True)
        prompts = [prompt for prompt in encoded if isinstance(prompt, Prompt)]
        budget = TokenBudget.of(
            self.scorer.model, decodes=False, label_tokens=self.scorer.label_tokens
        )
        scores, tokens = calibration_scores(prompts, self.scorer, budget, step)
        self.setup_tokens += tokens
        return [float(x) for x in self.offset(np.array(list(scores.values())))]


class _BatchInvariantTask(CalibratedPromptTask):
    """Gives a row the same label in every batch.

    Where scores are not bitwise batch-invariant, a row whose best two labels are closer than the
    rounding error is scored again, in a batch of fixed shape.
    """

    is_exact: bool | None = None  # bitwise batch-invariant; None until a batch was checked
    checked_rows = 1  # size of the largest batch that was checked

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers = list(super().__call__(prompts))
        tolerance = ROUNDING_ERROR.get(self.scorer.model.dtype, 0.0)
        # Checked again for larger batches, where a kernel may choose another algorithm.
        if tolerance and self.is_exact is not False and len(prompts) >= 2 * self.checked_rows:
            self.checked_rows = len(prompts)
            self.is_exact = all(self.scorer([prompts[n]]) == [answers[n]] for n in (0, -1))
        if not tolerance or self.is_exact:
            return answers
        close = [
            n
            for n, scores in enumerate(answers)
            if not isinstance(scores, Exception) and self._margin(scores) < tolerance
        ]
        rescored = self.scorer.score_fixed_shape([prompts[n] for n in close])
        for n, scores in zip(close, rescored, strict=True):
            answers[n] = scores
        return answers

    def _margin(self, scores: Sequence[float]) -> float:
        """Return the lead of the best label over the second, in nats."""
        second, best = np.sort(np.array(scores) - np.array(self.fitted_offset or 0.0))[-2:]
        return float(best - second)


@dataclass(frozen=True)
class HeadTask(PromptlessTask, Choice):
    """Choose a label from the output of a trained classifier."""

    heads: tuple[int, ...]  # index of each label in the classifier's output

    def parameters(self) -> dict[str, Any]:
        return {"labels": self.labels, "heads": self.heads}

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        from nbllm.engine.encoding import HeadScorer

        return BoundEncoderTask(HeadScorer(model), limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the scores of all labels of the classifier."""
        return are_head_scores(value, self.heads)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        return super().decode([[row[head] for head in self.heads] for row in answers], offset)
