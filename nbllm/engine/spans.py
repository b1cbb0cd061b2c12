"""Extractive question answering: models that mark the answer in a text.

As BERT reads SQuAD: the question and a piece of the text in one sequence, a logit for each token
to be the answer's first and one to be its last. A text longer than a piece is read in pieces
that overlap, so that no answer is cut by an edge that is not also read from within.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nbllm.engine.batching import TokenBudget, batches
from nbllm.engine.encoding import fine_logits
from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.engine.padding import pad_rows
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, Template
from nbllm.engine.sharing import Batching, batching, groups
from nbllm.errors import ModelError, TextTooLongError, UnsupportedModelError
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["FoundSpan", "Pieces", "SpanExtractor", "pair_template"]

QUESTION, CONTEXT = "question", "context"

# Tokens of a sequence and of the overlap of two pieces, as Devlin et al. trained BERT on SQuAD
# (https://github.com/google-research/bert/blob/master/run_squad.py), and of an answer.
_LENGTH, _OVERLAP, _LONGEST = 384, 128, 30


@dataclass(frozen=True)
class FoundSpan:
    """The best answer in a text, and how it compares with there being none.

    `margin` is the sum of the logits of its ends, less that of the first token of the sequence,
    which stands for no answer: with it, SQuAD 2.0 decides (Rajpurkar et al. 2018,
    https://aclanthology.org/P18-2124).
    """

    start: int  # character offsets into the text
    end: int
    margin: float


@dataclass(frozen=True)
class Pieces(Prompt):
    """A question about a text, as the sequences that the network reads.

    `ids` are those of all sequences, which is what a row costs; `text` is the first one's.
    """

    sequences: tuple[tuple[int, ...], ...] = ()
    context: tuple[tuple[int, int], ...] = ()  # of each sequence, where the text's tokens lie
    offsets: tuple[tuple[tuple[int, int], ...], ...] = ()  # characters of each of those tokens
    source: str = ""  # the text


class SpanExtractor:
    """Answers questions with words of a text.

    Args:
        model: of kind "extractive_qa".

    Raises:
        UnsupportedModelError: the model is of another kind, its head works otherwise (XLNet's,
            XLM's), or its tokenizer joins no two texts.

    Example:
        >>> extractor = SpanExtractor(nbllm.load("owner/name"))  # doctest: +SKIP
        >>> rows = extractor.encode([("Who won?", "Ann won, and Bob lost.")])  # doctest: +SKIP
        >>> extractor(rows)  # doctest: +SKIP
        [FoundSpan(start=0, end=3, margin=7.9)]
    """

    def __init__(self, model: Model) -> None:
        if model.kind != "extractive_qa":
            raise UnsupportedModelError(
                f"{model.name} is of kind {model.kind}, and this needs a model that was trained to "
                "point at answers (…ForQuestionAnswering)."
            )
        self.model = model
        self.template: Template
        self.template, self._types = pair_template(model)
        self._ready = CompiledTemplate(self.template, model.tokenizer)
        self.limit: int = min(_LENGTH, model.context_length)
        place = self.template.index(Part("field", CONTEXT))
        self._tail = sum(len(part.value) for part in self.template[place + 1 :])
        self._budget = TokenBudget.of(model, decodes=False)
        self._padding: int = model.network.config.get_text_config().pad_token_id or 0
        self._takes_types = "token_type_ids" in inspect.signature(model.network.forward).parameters
        self._batching: Batching = self._try()

    def _try(self) -> Batching:
        """Return `sharing.batching` of this network, measured with the logits computed here."""
        words = "a short text"
        read = self.encode([("what", words), ("what", " ".join([words] * 5))])
        short, longer = ((prompt, 0) for prompt in read if isinstance(prompt, Pieces))
        length = len(short[0].sequences[0])

        def logits(pieces: Sequence[tuple[Pieces, int]]) -> torch.Tensor:
            return torch.stack(self._logits(pieces))[:, 0, :length]

        return batching(self.model, lambda: logits([short]), lambda: logits([short, longer]))

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Prompt | Exception]:
        """Tokenize questions about texts.

        Args:
            pairs: question and text. The text may have any length.

        Returns:
            As many as pairs: `Pieces`, or `TextTooLongError` where the question takes more than
            half of a sequence.
        """
        whole = self._ready.encode(pairs, limit=2**62)
        return [
            self._cut(prompt, text) if isinstance(prompt, Prompt) else prompt
            for prompt, (_, text) in zip(whole, pairs, strict=True)
        ]

    def __call__(self, prompts: Sequence[Prompt]) -> list[FoundSpan | Exception]:
        """Return the best span of each row; a row whose logits are not finite is its error."""
        rows = [prompt for prompt in prompts if isinstance(prompt, Pieces)]
        pieces = [(row, n) for row, prompt in enumerate(rows) for n in range(len(prompt.sequences))]
        found: list[list[FoundSpan | None]] = [[None] * len(prompt.sequences) for prompt in rows]
        empty = [0.0] * len(pieces)
        lengths = [len(rows[row].sequences[n]) for row, n in pieces]
        for batch in self._batches(lengths):
            some = [pieces[i] for i in batch]
            read = self._score_pieces([(rows[row], n) for row, n in some])
            for i, (row, n), (span, none) in zip(batch, some, read, strict=True):
                found[row][n], empty[i] = span, none
        nothing: dict[int, float] = {}
        for (row, _), none in zip(pieces, empty, strict=True):
            nothing[row] = min(nothing.get(row, np.inf), none)
        return [_best(spans, nothing[row]) for row, spans in enumerate(found)]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        for group in groups(lengths, self._batching):
            for batch in batches([lengths[n] for n in group], self._budget):
                yield [group[n] for n in batch]

    def _cut(self, prompt: Prompt, text: str) -> Pieces | TextTooLongError:
        asked, said = prompt.field_spans
        before, after = prompt.ids[: said.start], prompt.ids[said.stop :]
        room = self.limit - len(before) - len(after)
        if room < self.limit // 2:
            return TextTooLongError(
                f"the question has {counted(asked.stop - asked.start, 'token')}, and "
                f"{self.model.name} reads {self.limit:,} at once, the text included; shorten it"
            )
        tokens = prompt.ids[said.start : said.stop]
        # Of the text alone, which is the end of the prompt but for what closes it.
        begins = len(prompt.text) - self._tail - len(text)
        places = [(a - begins, b - begins) for a, b in prompt.spans[said.start : said.stop]]
        starts = _starts(len(tokens), room, min(_OVERLAP, room // 2))
        parts = [slice(start, start + room) for start in starts]
        sequences = tuple((*before, *tokens[part], *after) for part in parts)
        return Pieces(
            ids=tuple(token for sequence in sequences for token in sequence),
            text=prompt.text,
            spans=prompt.spans,
            field_spans=prompt.field_spans,
            sequences=sequences,
            context=tuple((len(before), len(before) + len(tokens[part])) for part in parts),
            offsets=tuple(tuple(places[part]) for part in parts),
            source=text,
        )

    def _score_pieces(
        self, pieces: Sequence[tuple[Pieces, int]]
    ) -> list[tuple[FoundSpan | None, float]]:
        """Return the best span of each piece by its logits, and the logits of there being none."""
        starts, ends = self._logits(pieces)
        of_text = np.zeros((len(pieces), starts.shape[1]), dtype=bool)
        for place, (row, n) in enumerate(pieces):
            start, stop = row.context[n]
            of_text[place, start:stop] = [a < b for a, b in row.offsets[n]]
        with torch.inference_mode():
            none = (starts[:, 0] + ends[:, 0]).tolist()
            best = _best_spans(starts, ends, torch.from_numpy(of_text).to(starts.device))
        return [
            (_span(row, n, first, last, score), nothing)
            for (row, n), (first, last, score), nothing in zip(pieces, best, none, strict=True)
        ]

    def _logits(self, pieces: Sequence[tuple[Pieces, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of each token to begin and to end the answer, both (pieces, tokens)."""
        ids, seen = pad_rows([row.sequences[n] for row, n in pieces], self._padding)
        given = {"input_ids": ids, "attention_mask": seen.long()}
        if self._takes_types:
            types = given["token_type_ids"] = torch.full_like(ids, self._types[0])
            for place, (row, n) in enumerate(pieces):
                types[place, row.context[n][0] : len(row.sequences[n])] = self._types[1]
        given = {name: tensor.to(self.model.device) for name, tensor in given.items()}
        with torch.inference_mode(), fine_logits(self.model.network):
            read: Any = self.model.network(**given)
            return read.start_logits.float(), read.end_logits.float()


def pair_template(model: Model) -> tuple[Template, tuple[int, int]]:
    """Return a template of a question and a text between the tokenizer's special tokens.

    With a template, special tokens spelled out in either stay text.

    Args:
        model: of kind "extractive_qa".

    Returns:
        The template, and the token types of question and text.

    Raises:
        UnsupportedModelError: the tokenizer joins them in another way, or nothing stands in front.
    """
    tokenizer = model.tokenizer
    with TOKENIZER_LOCK:
        both: Any = tokenizer("a", "b")
        first, second = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b")
        )
    ids = both["input_ids"]
    asks = _place(ids, first, 0)
    says = _place(ids, second, asks + len(first))
    if not 0 < asks < says:
        raise UnsupportedModelError(
            f"the tokenizer of {model.name} does not put a special token in front of a question "
            "and its text, by which such models say that there is no answer. Take another model, "
            "such as a BERT or RoBERTa that was trained on SQuAD 2.0."
        )

    def markup(some: list[int]) -> list[Part]:
        return [Part("markup", token) for token in tokenizer.convert_ids_to_tokens(some)]

    template = (
        *markup(ids[:asks]),
        Part("field", QUESTION),
        *markup(ids[asks + len(first) : says]),
        Part("field", CONTEXT),
        *markup(ids[says + len(second) :]),
    )
    [joined] = CompiledTemplate(template, tokenizer).encode([("a", "b")], limit=len(ids))
    if not isinstance(joined, Prompt) or list(joined.ids) != ids:
        raise UnsupportedModelError(
            f"the tokenizer of {model.name} does not simply write its special tokens around two "
            "texts, so nbllm cannot mark which tokens are the text's. Take another model."
        )
    types = both.get("token_type_ids") or [0] * len(ids)
    return template, (types[asks], types[says])


def _place(ids: list[int], some: list[int], after: int) -> int:
    """Return where some tokens stand among others; -1 where they do not."""
    places = range(max(0, after), len(ids) - len(some) + 1)
    return next((n for n in places if ids[n : n + len(some)] == some), -1)


def _starts(tokens: int, room: int, overlap: int) -> list[int]:
    """Return where pieces of `room` tokens begin, each of which repeats the end of the one before.

    Example:
        >>> _starts(10, 5, 2), _starts(5, 5, 2)
        ([0, 3, 6], [0])
    """
    starts = [0]
    while starts[-1] + room < tokens:
        starts.append(starts[-1] + room - overlap)
    return starts


def _best_spans(
    starts: torch.Tensor, ends: torch.Tensor, of_text: torch.Tensor
) -> list[tuple[int, int, float]]:
    """Return the first and last token of the best span of each row, and the sum of their logits.

    All shapes are (rows, tokens); `of_text` says which tokens may begin and end an answer.
    """
    starts = starts.masked_fill(~of_text, -torch.inf)
    ends = ends.masked_fill(~of_text, -torch.inf)
    tokens = starts.shape[1]
    # By the length of the answer: (lengths, rows, tokens), which is what fits in memory.
    sums = torch.stack(
        [
            torch.nn.functional.pad(starts[:, : tokens - n] + ends[:, n:], (0, n), value=-torch.inf)
            for n in range(min(_LONGEST, tokens))
        ]
    )
    flat = sums.permute(1, 2, 0).flatten(1)  # of equal ones the earliest, then the shortest
    score, place = flat.max(dim=1)
    lengths = sums.shape[0]
    return [
        (at // lengths, at // lengths + at % lengths, value)
        for at, value in zip(place.tolist(), score.tolist(), strict=True)
    ]


def _span(row: Pieces, n: int, first: int, last: int, score: float) -> FoundSpan | None:
    """Return a span of tokens as characters of the text; None where no token could be one."""
    if score == -np.inf:
        return None
    begin = row.context[n][0]
    start, end = row.offsets[n][first - begin][0], row.offsets[n][last - begin][1]
    # Some tokenizers count the space before a word to it.
    words = row.source[start:end]
    start += len(words) - len(words.lstrip())
    end -= len(words) - len(words.rstrip())
    return FoundSpan(start, end, score)


def _best(spans: Sequence[FoundSpan | None], nothing: float) -> FoundSpan | Exception:
    """Return the best span of all pieces, relative to the least likely "no answer" among them."""
    found = [span for span in spans if span is not None]
    if not found:
        return ModelError("the tokenizer leaves nothing of the text")
    best = max(found, key=lambda span: span.margin)
    if not np.isfinite(best.margin) or not np.isfinite(nothing):
        return ModelError("the model's output is not a finite number")
    return FoundSpan(best.start, best.end, best.margin - nothing)
