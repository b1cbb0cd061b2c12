"""Scores the spans of a row's text, and the values of choices, as statements about fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbllm.engine.batching import TokenBudget
from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.prompt import CompiledTemplate, Prompt, answer_ids
from nbllm.engine.scoring import calibration_offset
from nbllm.errors import ModelError
from nbllm.frame.tasks.grounded_fields import NONE, READERS, GroundedField
from nbllm.frame.tasks.label import ROUNDING_ERROR, calibration_scores
from nbllm.frame.tasks.span_candidates import is_allowed, spans_of
from nbllm.models.flops import TokenCounts

__all__ = [
    "CALIBRATION", "MARGIN", "MOST_STARTS", "SHARE", "BoundGroundedTask", "quoted", "statement",
]  # fmt: skip

# How much of a span's likelihood as any detail is taken off. Of 0, 0.3, 0.5 and 0.7, this is the
# one with which one margin suits all fields best.
SHARE = 0.3
_DETAIL = "detail"  # the field that stands for any
MARGIN = 3.75  # nats by which a value exceeds the best span of a text that states no details

MOST_STARTS = 24  # first tokens of spans that are scored to their end

# How much further rounding shifts a span, of several tokens, than a label. In bf16 the standard
# deviation is 0.18 nats over messages of Bitext, and the maximum 0.60.
_LONGER = 5

# Texts without names, numbers, places, things or dates: the best span of each is a wrong one.
_WITHOUT_DETAILS = (
    "where is my parcel",
    "I would like to speak to somebody about my contract.",
    "please stop sending me e-mails",
    "I have trouble logging in and the page only shows an error.",
    "do you also ship abroad?",
    "Thanks a lot, everything went well this time!",
    "How long does it take until a complaint is answered?",
    "what ways to pay are there",
    "I forgot my password and the link does not work.",
    "We moved house, so the old address is not right any more.",
)

# For values that are chosen from a set: other tones and subjects.
_WITH_OPINIONS = (
    "This is the third time that you got it wrong, I am furious.",
    "Great service, many thanks to your team!",
    "The soup was cold and the waiter did not care.",
    "We had a wonderful evening and will come again.",
    "Can you tell me when you open on Sunday?",
    "The lamp for 89 euros is too bright, may I send it back?",
    "I love the new colours, well done.",
    "Nobody answers the phone. What a useless company.",
    "The meeting was moved to Thursday.",
    "need to change the order, wrong size of shoes",
)


CALIBRATION = (*_WITHOUT_DETAILS, *_WITH_OPINIONS)


def statement(label: str) -> str:
    """Return what stands between a text and the value of a field."""
    return f"\nThe {label} is"


def quoted(value: str) -> str:
    """Return a value as it ends a statement."""
    # The quotation mark tells the end of one value from the middle of a longer one.
    return f' "{value}".'


@dataclass(frozen=True)
class _SourcePrompt(Prompt):
    source: str = ""  # the row's text as it was read


class BoundGroundedTask:
    """A grounded task bound to a model.

    Args:
        template: The tokenized prompt up to the row's text.
        scorer: The engine that scores each row's candidates.
        limit: The maximum number of tokens of a prompt.
        fields: The fields, in the order of the schema.
    """

    def __init__(
        self,
        template: CompiledTemplate,
        scorer: CandidateScorer,
        limit: int,
        fields: Sequence[GroundedField],
    ) -> None:
        self.template = template
        self.scorer = scorer
        self.limit = limit
        self.fields = fields
        self.setup_tokens: TokenCounts = TokenCounts.text(scorer.prefix.length)
        tokenizer = scorer.model.tokenizer
        statements = [statement(field.label) for field in self.fields]
        *self._heads, self._detail = answer_ids(tokenizer, [*statements, statement(_DETAIL)])
        self._choices = {
            field.name: answer_ids(tokenizer, [quoted(words) for words in field.spelled])
            for field in self.fields
            if field.kind == "choice"
        }
        quote, self._none = answer_ids(tokenizer, [' "', quoted(NONE)])
        self._start = len(quote) + 1  # tokens up to the first one of a span
        self._offset: list[float] = [0.0] * sum(field.numbers for field in fields)

    @property
    def prefix_tokens(self) -> int:
        return self.scorer.prefix.length

    @property
    def label_tokens(self) -> int:
        return sum(len(head) + 24 for head in self._heads)  # of a short text

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        shared = self.scorer.prefix.length
        encoded = self.template.encode(texts, limit=self.limit, truncate=truncate)
        return [
            _SourcePrompt(**{**vars(prompt), "prefix_length": shared}, source=_source(prompt, text))
            if isinstance(prompt, Prompt)
            else prompt
            for prompt, (text,) in zip(encoded, texts, strict=True)
        ]

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float]:
        self._offset = self._fit(step) if known is None else known
        return self._offset

    def _fit(self, step: Callable[[], None]) -> list[float]:
        texts = [(text,) for text in CALIBRATION]
        if not self._choices:
            texts = texts[: len(_WITHOUT_DETAILS)]
        prompts = [p for p in self.encode(texts, truncate=True) if isinstance(p, Prompt)]
        budget = TokenBudget.of(self.scorer.model, decodes=False, label_tokens=self.label_tokens)

        def answer(some: Sequence[Prompt]) -> list[Any]:
            return self._answer(some, any_span=True)

        scores, tokens = calibration_scores(prompts, answer, budget, step)
        self.setup_tokens += tokens
        rows = [scores[n] for n in range(len(prompts))]
        offset: list[float] = []
        for n, field in enumerate(self.fields):
            if field.kind == "choice":
                found = calibration_offset(np.array([row[n] for row in rows]))
                offset += [float(x) for x in found]
            else:
                odds = [row[n][3] for row in rows[: len(_WITHOUT_DETAILS)] if row[n][0] is not None]
                offset.append(float(np.mean(odds)) + MARGIN)
        return offset

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers = self._answer(prompts)
        tolerance = ROUNDING_ERROR.get(self.scorer.model.dtype, 0.0)
        # Rounding depends on the batch. What it could decide is asked again, each row alone.
        return [
            self._answer([prompt])[0]
            if len(prompts) > 1 and tolerance and self._is_close(answer, tolerance)
            else answer
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def _is_close(self, answer: Any, tolerance: float) -> bool:
        """Return whether rounding could decide a field of an answer."""
        if isinstance(answer, Exception):
            return False
        position, wide = 0, _LONGER * tolerance
        for field, part in zip(self.fields, answer, strict=True):
            shift = np.array(self._offset[position : position + field.numbers])
            position += field.numbers
            if field.kind == "choice":
                second, best = np.sort([*(np.array(part) - shift), -np.inf])[-2:]
                if best - second < tolerance:
                    return True
            elif part[0] is not None:
                odds = part[3] - shift[0] if field.may_be_null else np.inf
                has_rival = part[4] < -np.log1p(np.exp(-wide))
                if abs(odds) < wide or (odds > 0 and has_rival):
                    return True
        return False

    def _answer(self, prompts: Sequence[Prompt], *, any_span: bool = False) -> list[Any]:
        rows = [self._candidates(prompt.source, any_span) for prompt in _with_source(prompts)]
        self._prune(prompts, rows)
        trees = []
        for row in rows:
            spans = list(dict.fromkeys(ids for own in row for ids in own if own is not None))
            parts: list[list[int]] = []
            for head, field, own in zip(self._heads, self.fields, row, strict=True):
                choices = self._choices.get(field.name)
                parts += [head + ids for ids in choices or [*map(list, own), self._none]]
            detail = [self._detail + ids for ids in [*map(list, spans), self._none]]
            trees.append((parts, detail if any(row) else [], spans))
        scores = self.scorer.score(prompts, [_distinct([*p, *d]) for p, d, _ in trees])
        return [
            self._read(row, tree, values)
            for row, tree, values in zip(rows, trees, scores, strict=True)
        ]

    def _candidates(self, text: str, any_span: bool) -> list[dict[tuple[int, ...], Any]]:
        """Return for each field the spans that may be its value, by their tokens."""
        places: dict[str, tuple[int, int]] = {}
        for start, end in spans_of(text):
            words = text[start:end]
            if words.lower() != NONE:
                places.setdefault(words, (start, end))
        ids = answer_ids(self.scorer.model.tokenizer, [quoted(w) for w in places] or ["a"])
        tokens = dict(zip(places, map(tuple, ids), strict=False))
        found: list[dict[tuple[int, ...], Any]] = []
        for field in self.fields:
            own: dict[tuple[int, ...], Any] = {}
            if field.kind != "choice":
                for words, (start, end) in places.items():
                    value = words if any_span else READERS[field.kind](words)
                    if value is not None and (any_span or is_allowed(value, field.part)):
                        own.setdefault(tokens[words], (words, start, end))
            own.pop(tuple(self._none), None)
            found.append(own)
        return found

    def _prune(
        self, prompts: Sequence[Prompt], rows: Sequence[list[dict[tuple[int, ...], Any]]]
    ) -> None:
        """Drop spans that begin unlikely, where a text has many.

        One pass that reads the statements alone gives the likelihood of every first token.
        """
        long = [
            n
            for n, row in enumerate(rows)
            if any(len(self._starts(own)) > MOST_STARTS for own in row)
        ]
        if not long:
            return
        asked = [
            [head + list(start) for head, own in zip(self._heads, rows[n], strict=True)
             for start in self._starts(own)]
            for n in long
        ]  # fmt: skip
        scores = self.scorer.score([prompts[n] for n in long], asked)
        for n, values in zip(long, scores, strict=True):
            chance = iter(values)
            for own in rows[n]:
                starts = {start: next(chance) for start in self._starts(own)}
                kept = set(sorted(starts, key=lambda s: -starts[s])[:MOST_STARTS])
                for ids in [ids for ids in own if ids[: self._start] not in kept]:
                    del own[ids]

    def _starts(self, spans: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return the distinct first tokens of spans."""
        return list(dict.fromkeys(ids[: self._start] for ids in spans))

    def _read(
        self,
        row: list[dict[tuple[int, ...], Any]],
        tree: tuple[list[list[int]], list[list[int]], list[tuple[int, ...]]],
        values: Any,
    ) -> Any:
        if not np.isfinite(values).all():
            return ModelError("the model's output is not a finite number")
        parts, detail, spans = tree
        known = dict(zip(map(tuple, _distinct([*parts, *detail])), values.tolist(), strict=True))
        any_detail = dict(
            zip([*spans, None], (known.get(tuple(ids), 0.0) for ids in detail), strict=False)
        )
        answer: list[Any] = []
        for head, field, own in zip(self._heads, self.fields, row, strict=True):
            if field.kind == "choice":
                answer.append([known[tuple(head + ids)] for ids in self._choices[field.name]])
                continue
            if not own:
                answer.append([None] * 5)
                continue
            logp = np.array([known[tuple(head) + ids] - SHARE * any_detail[ids] for ids in own])
            none = known[tuple(head + self._none)] - SHARE * any_detail[None]
            best = int(logp.argmax())
            share = float(logp[best] - np.logaddexp.reduce(logp))
            answer.append([*list(own.values())[best], float(logp[best] - none), min(0.0, share)])
        return answer


def _distinct(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(ids) for ids in dict.fromkeys(map(tuple, sequences))]


def _source(prompt: Prompt, text: str) -> str:
    """Return a row's text as far as its prompt holds it: a text that is too long may be cut."""
    read = prompt.row_text.strip()
    if not read:
        return ""
    place = text.find(read)
    return text if place < 0 else text[: place + len(read)]


def _with_source(prompts: Sequence[Prompt]) -> Iterator[_SourcePrompt]:
    for prompt in prompts:
        assert isinstance(prompt, _SourcePrompt)
        yield prompt
