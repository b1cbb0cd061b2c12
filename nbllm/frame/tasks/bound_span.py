"""Generates answers from texts, and scores how well each text supports its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbllm.engine.batching import TokenBudget
from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Prompt, answer_ids
from nbllm.engine.structured.sentences import sentence_spans
from nbllm.errors import ModelError
from nbllm.frame.tasks.bound_prompt import BoundPromptTask
from nbllm.frame.tasks.label import ROUNDING_ERROR, calibration_scores
from nbllm.frame.tasks.support import CALIBRATION, Support, fit_presence, is_kept

__all__ = ["BoundSpanTask", "locate"]

# A letter or digit of a script that separates words, unlike Chinese and Japanese.
_WORD_CHARACTER = r"[^\W_\u2e80-\u9fff]"

_NO_TEXT = "…"  # stands where the text would

_SCORED = 48  # tokens of a question and its answer

# How much further rounding shifts the likelihood of an answer, of several tokens, than a label's.
_LONGER = 5

_Tokens = tuple[int, ...]


@dataclass(frozen=True)
class _RowPrompt(Prompt):
    row: tuple[str, ...] = ()  # the row's texts, before tokenization


class BoundSpanTask(BoundPromptTask):
    """A span task bound to a model.

    Args:
        template: The tokenized template, whose first field is the text.
        question_template: The same with a second field for the question, for calibration.
        generator: Writes the answers.
        scorer: Scores questions and answers.
        limit: The maximum number of tokens of a prompt.
        refusal: What the model writes where the text holds no answer.
        stop: The string that ends an answer.
        threshold: The minimum score of an answer, as in `SpanTask`.
    """

    def __init__(
        self,
        template: CompiledTemplate,
        question_template: CompiledTemplate,
        generator: TextGenerator,
        scorer: CandidateScorer,
        limit: int,
        *,
        refusal: str,
        stop: str,
        threshold: float | None,
    ) -> None:
        super().__init__(template, generator, limit)
        self.question_template = question_template
        self.generator = generator
        self.scorer = scorer
        self.refusal = refusal
        self.stop = stop
        self.threshold = threshold
        self._fitted: list[float] = [0.0, 0.0]

    @property
    def label_tokens(self) -> int:
        return _SCORED

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        return [
            _RowPrompt(**vars(prompt), row=row) if isinstance(prompt, Prompt) else prompt
            for prompt, row in zip(super().encode(texts, truncate=truncate), texts, strict=True)
        ]

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float]:
        self._fitted = self._fit(step) if known is None else known
        return self._fitted

    def _fit(self, step: Callable[[], None]) -> list[float]:
        """Fit the log-odds that a text holds an answer, on texts and questions of our own.

        Each text is read once, with its own questions and those of other texts behind it.
        """
        own = [questions for _, questions in CALIBRATION]
        others = [
            [own[(n + 1 + k) % len(own)][k] for k in range(len(questions))]
            for n, questions in enumerate(own)
        ]
        asked = [[*mine, *other] for mine, other in zip(own, others, strict=True)]
        heads, tails = [], []
        for (text, _), questions in zip(CALIBRATION, asked, strict=True):
            parts = [self._split(self._filled((text, q))) for q in questions]
            heads.append(parts[0][0])
            tails.append([tail for _, tail in parts])
        every = list(dict.fromkeys(tail for row in tails for tail in row))
        blank, _ = self._split(self._filled((_NO_TEXT, own[0][0])))
        candidates = dict(zip([head.ids for head in (blank, *heads)], [every, *tails], strict=True))

        def score(prompts: Sequence[Prompt]) -> list[Any]:
            found = self.scorer.score_tokens(prompts, [candidates[p.ids] for p in prompts])
            return [_or_error([float(tokens.mean()) for tokens in row]) for row in found]

        budget = TokenBudget.of(self.scorer.model, decodes=False, label_tokens=_SCORED)
        scores, tokens = calibration_scores([blank, *heads], score, budget, step)
        self.setup_tokens += tokens
        without = dict(zip(every, scores[0], strict=True))
        lifts = [
            [value - without[tail] for value, tail in zip(scores[1 + n], row, strict=True)]
            for n, row in enumerate(tails)
        ]
        pairs = list(zip(own, lifts, strict=True))
        return fit_presence(
            [lift for mine, row in pairs for lift in row[: len(mine)]],
            [lift for mine, row in pairs for lift in row[len(mine) :]],
        )

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers: list[Any] = []
        for prompt, words in zip(_rows(prompts), self.generator(prompts), strict=True):
            if isinstance(words, Exception):
                answers.append(words)
            else:
                span = locate(words, prompt.row[0]) or (None, None)
                answers.append([words, *span, None])
        asked = [
            n
            for n, answer in enumerate(answers)
            if isinstance(answer, list) and answer[0].strip(" .").lower() != self.refusal
        ]
        supports = self._supports([prompts[n] for n in asked], [answers[n] for n in asked])
        for n, support in zip(asked, supports, strict=True):
            # Rounding depends on the batch. What it could decide is scored again, each row alone.
            if len(asked) > 1 and isinstance(support, Support) and self._is_close(support):
                [support] = self._supports([prompts[n]], [answers[n]])
            answers[n] = (
                [*answers[n][:3], support.numbers] if isinstance(support, Support) else support
            )
        return answers

    def _is_close(self, support: Support) -> bool:
        """Return whether rounding could decide if an answer is given."""
        error = ROUNDING_ERROR.get(self.scorer.model.dtype, 0.0)
        if not error:
            return False
        decisions = {
            is_kept(
                replace(
                    support,
                    lift=support.lift + sign * error,
                    likelihood=support.likelihood + sign * _LONGER * error,
                ),
                self._fitted,
                self.threshold,
            )
            for sign in (-1, 1)
        }
        return len(decisions) > 1

    def _supports(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[Any]]
    ) -> list[Support | Exception]:
        """Return the support of each answer, from one run of the scorer."""
        if not prompts:
            return []
        rows = list(_rows(prompts))
        heads, tails = zip(*map(self._split, rows), strict=True)
        written = answer_ids(
            self.scorer.model.tokenizer, [f" {words}{self.stop}" for words, *_ in answers]
        )
        whole = [
            (head, (*tail, *ids)) for head, tail, ids in zip(heads, tails, written, strict=True)
        ]
        sentences = [
            _sentence(prompt.row[0], *span)
            for prompt, (_, *span, _) in zip(rows, answers, strict=True)
        ]
        parts = {
            (n, text): (self._split(self._with_text(prompt, text))[0], tail)
            for n, (prompt, tail) in enumerate(zip(rows, tails, strict=True))
            for text in (_NO_TEXT, sentences[n])
            if text
        }
        # Rows that share a question share its likelihood without a text.
        asked = list(dict.fromkeys([*whole, *parts.values()]))
        scores = self.scorer.score_tokens(
            [head for head, _ in asked], [[list(tail)] for _, tail in asked]
        )
        known = {key: row[0] for key, row in zip(asked, scores, strict=True)}
        found: list[Support | Exception] = []
        for n, (tail, sentence) in enumerate(zip(tails, sentences, strict=True)):
            likelihoods = known[whole[n]]
            question, blank = likelihoods[: len(tail)], known[parts[n, _NO_TEXT]]
            support = Support(
                lift=_lift(question, blank),
                sentence_lift=_lift(known[parts[n, sentence]], blank) if sentence else 0.0,
                likelihood=float(likelihoods[len(tail) :].sum()),
                repeated=float(locate(answers[n][0], self._question(rows[n])) is not None),
            )
            numbers = _or_error(support.numbers)
            found.append(numbers if isinstance(numbers, Exception) else support)
        return found

    def _filled(self, texts: tuple[str, str]) -> Prompt:
        """Return the prompt of a text and a question of calibration."""
        [prompt] = self.question_template.encode([texts], limit=self.limit, truncate=True)
        if isinstance(prompt, Exception):
            raise prompt
        return prompt

    def _with_text(self, prompt: _RowPrompt, text: str) -> Prompt:
        """Return a row's prompt with another text."""
        [found] = self.template.encode([(text, *prompt.row[1:])], limit=self.limit, truncate=True)
        if isinstance(found, Exception):
            raise found
        return found

    def _split(self, prompt: Prompt) -> tuple[Prompt, _Tokens]:
        """Return a prompt up to the end of its text, and the tokens behind that: the question."""
        end = prompt.field_spans[0].stop
        head = Prompt(prompt.ids[:end], "", (), (), self.scorer.prefix.length)
        return head, prompt.ids[end:]

    def _question(self, prompt: Prompt) -> str:
        """Return what stands behind the text of a prompt."""
        end = prompt.field_spans[0].stop
        return prompt.text[prompt.spans[end - 1][1] :]


def locate(answer: str, text: str) -> tuple[int, int] | None:
    """Return the character offsets of an answer's first occurrence in a text, or None.

    Only whole words match. Case is ignored where no match has the same case. Any whitespace
    matches any other.

    Args:
        answer: The words to find.
        text: The text that is searched.

    Example:
        >>> locate("art", "The party sold art."), locate("cat", "The party sold art.")
        ((15, 18), None)
    """
    words = answer.split()
    if not words:
        return None
    pattern = (
        rf"(?<!{_WORD_CHARACTER})" * bool(re.match(_WORD_CHARACTER, words[0]))
        + r"\s+".join(map(re.escape, words))
        + rf"(?!{_WORD_CHARACTER})" * bool(re.match(_WORD_CHARACTER, words[-1][-1]))
    )
    found = re.search(pattern, text) or re.search(pattern, text, re.IGNORECASE)
    return found.span() if found else None


def _rows(prompts: Sequence[Prompt]) -> Iterator[_RowPrompt]:
    for prompt in prompts:
        assert isinstance(prompt, _RowPrompt)
        yield prompt


def _or_error(numbers: list[float]) -> list[float] | ModelError:
    finite = np.isfinite(numbers).all()
    return numbers if finite else ModelError("the model's output is not a finite number")


def _lift(likelihoods: NDArray[np.float64], without: NDArray[np.float64]) -> float:
    """Return how much likelier a question's tokens are with a text, in nats per token."""
    return float(likelihoods.mean() - without.mean())


def _sentence(text: str, start: int | None, end: int | None) -> str:
    """Return the sentence of a span, or the sentences if it has several; empty without a span."""
    if start is None or end is None:
        return ""
    held = [span for span in sentence_spans(text) if span[0] < end and span[1] > start]
    return text[held[0][0] : held[-1][1]] if held else text[start:end]
