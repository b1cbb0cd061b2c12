"""Answers that are JSON of a schema: each token is one that the grammar allows.

The grammar is llguidance's. What is added here is an end: from the first token on, each row
knows tokens that would complete its answer, and a token of the model's that would leave too
little room for any completion is replaced by the next one of the completion known. So an answer
is valid JSON whatever the model generates and however few tokens it has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from nbllm.engine.structured.constraint import Constraint
from nbllm.errors import FrameError, UnsupportedModelError
from nbllm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["JsonConstraint", "JsonGrammar", "accepts", "check_schema"]

# Compact, so that a small model does not fill its answer with spaces; no escapes for control
# characters, which no text needs and some file formats refuse.
_OPTIONS: Any = {
    "whitespace_flexible": False,
    "coerce_one_of": True,
    "json_allowed_escapes": 'nrt\\"',
}

# What a frame's columns hold: floats are exact up to 2^53, and a model that has lost its way
# writes digits to the end of its budget.
_LARGEST = 10**15
_SMALLEST_STEP = 1e-6
_LONGEST_LIST = 16
_CHARACTERS_PER_TOKEN = 4

# What ends an answer soonest, in the order to try. Of the two brackets only one can close
# anything; where both are allowed, or a letter that no JSON has, they are text inside a string.
# Of the others, one that was not tried yet comes first: where a format or a pattern takes digits
# of any number, what ends them is another character.
_QUOTE, _BRACKETS, _SEPARATORS, _LETTER = '"', "}]", ",:", "k"
_OTHERS = '@TZDHMSWY1023456789ntf-."{[' + "abcdefghijklmopqrsuvwxyzABCEFGIJKLNOPQRUVX /_+"


class JsonGrammar:
    """A JSON schema compiled for one tokenizer and a number of tokens.

    Strings, lists and numbers that the schema leaves open are bounded, so that one field
    cannot take the room of all others.

    Args:
        schema: a JSON schema whose top is an object.
        tokenizer: of the model.
        max_new_tokens: tokens that an answer may take.

    Raises:
        FrameError: the schema cannot be used, or no answer is short enough.
        UnsupportedModelError: the tokenizer has no fast form.
    """

    def __init__(
        self, schema: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, *, max_new_tokens: int
    ) -> None:
        self.tokenizer: Any = _byte_tokens(tokenizer)
        self.max_new_tokens = max_new_tokens
        self.start: Any = _matcher(_bounded(schema, max_new_tokens), self.tokenizer)
        self.closers: _Completions = _Completions(self.tokenizer)
        completion = self.closers.shortest_completion(self.start, limit=4096)
        if completion is None:
            raise FrameError(
                "no end was found for an answer of the schema, whose formats and patterns leave "
                "open how long a text is. Leave the pattern or format out, and say in the "
                "description what to write."
            )
        if len(completion) > max_new_tokens:
            raise FrameError(
                f"the shortest answer of the schema takes {counted(len(completion), 'token')}, and "
                f"max_new_tokens={max_new_tokens}. Raise it to {4 * len(completion)} or so."
            )
        self.shortest_completion = completion

    def constraint(self, rows: int, *, filler: int) -> JsonConstraint:
        """Return the constraint of one batch.

        Args:
            rows: how many prompts the batch has.
            filler: the token that follows a complete answer: the end of text where there is one.
        """
        return JsonConstraint(self, rows, filler)


class JsonConstraint(Constraint):
    """Leaves one token to each row of a batch: the likeliest that the grammar allows.

    It holds the state of a batch, so it serves one only.
    """

    def __init__(self, grammar: JsonGrammar, rows: int, filler: int) -> None:
        self.grammar = grammar
        self.filler = filler
        self._all = [_Row(grammar) for _ in range(rows)]
        self._rows = list(self._all)  # of the batch as it is now
        self._mask = allocate_token_bitmask(rows, grammar.tokenizer.vocab_size)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (row, token): zero for the next token, else minus infinity."""
        for n, row in enumerate(self._rows):
            if not row.finished:
                # 10 to 20 microseconds here; handing them to threads takes longer.
                fill_next_token_bitmask(row.matcher, self._mask, n)
        allowed = _unpacked(self._mask, scores.device)[:, : scores.shape[1]]
        # The vocabulary of a network is often padded beyond the tokenizer's.
        seen = scores[:, : allowed.shape[1]]
        likeliest = seen.masked_fill(~allowed, -torch.inf).argmax(dim=1).tolist()
        written = [
            self.filler if row.finished else row.write(token)
            for row, token in zip(self._rows, likeliest, strict=True)
        ]
        column = torch.tensor(written, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, column, 0.0)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with some of the first rows, in the order given.

        Args:
            rows: Their indices among all prompts.
        """
        self._rows = [self._all[n] for n in rows]
        if len(rows) != len(self._mask):
            self._mask = allocate_token_bitmask(len(rows), self.grammar.tokenizer.vocab_size)

    def texts(self) -> list[str]:
        """Return the answers of all rows, once generation has ended."""
        return [self.grammar.tokenizer.decode_str(row.written) for row in self._all]


class _Row:
    """The state of one answer, and the tokens that would complete it."""

    def __init__(self, grammar: JsonGrammar) -> None:
        self.matcher = grammar.start.deep_copy()
        self.written: list[int] = []
        self.finished = False
        self._grammar = grammar
        self._completion = grammar.shortest_completion

    def write(self, token: int) -> int:
        """Append the token, or one of the completion where nothing else fits; return which."""
        completion = None
        if self.matcher.try_consume_tokens([token]):
            completion = self._completion_after(token)
            if completion is None:
                self.matcher.rollback(1)
        if completion is None:
            token, *completion = self._completion
            self.matcher.consume_token(token)
        self.written.append(token)
        self._completion = completion
        self.finished = not completion and self.matcher.is_accepting()
        return token

    def _completion_after(self, token: int) -> list[int] | None:
        room = self._grammar.max_new_tokens - len(self.written) - 1
        # Inside a string the same tokens complete it, so most steps cost no search.
        known = self._completion[1:] if token == self._completion[0] else self._completion
        if len(known) <= room and _completes(self.matcher, known):
            return known
        return self._grammar.closers.shortest_completion(self.matcher, limit=room)


class _Completions:
    """Finds few tokens that complete an answer, by the characters that close JSON."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._quote = _single(tokenizer, _QUOTE)
        self._brackets = _single(tokenizer, _BRACKETS)
        self._letter = _single(tokenizer, _LETTER)
        self._separators = _single(tokenizer, _SEPARATORS)
        self._others = _single(tokenizer, _OTHERS)

    def shortest_completion(self, matcher: LLMatcher, *, limit: int) -> list[int] | None:
        """Return tokens that complete the answer, at most `limit`; None where none are found.

        The matcher is left as it was.

        Args:
            matcher: the state of the answer.
            limit: tokens.
        """
        written: list[int] = []
        while not matcher.is_accepting():
            # What can go on in one way only is known at once.
            step = matcher.compute_ff_tokens() or self._next(matcher, written)
            done = matcher.try_consume_tokens(step)
            written += step[:done]
            if not step or done < len(step) or len(written) > limit:
                break
        completes = matcher.is_accepting() and len(written) <= limit
        matcher.rollback(len(written))
        return written if completes else None

    def _next(self, matcher: LLMatcher, written: Sequence[int]) -> list[int]:
        closing = [bracket for bracket in self._brackets if matcher.validate_tokens([bracket])]
        in_text = any(matcher.validate_tokens([letter]) for letter in self._letter)
        first = closing if len(closing) == 1 and not in_text else []
        seen = set(written)
        others = sorted(self._others, key=lambda token: token in seen)
        order = [*first, *self._quote, *self._separators, *others]
        found = next((token for token in order if matcher.validate_tokens([token])), None)
        return _first_allowed(matcher) if found is None else [found]


# A tokenizer takes half a second to read, and one model answers many frames.
_known_tokenizers: WeakKeyDictionary[Any, LLTokenizer] = WeakKeyDictionary()


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a JSON schema that no grammar can be made of.

    Args:
        schema: a JSON schema.

    Raises:
        FrameError: it is wrong, contradicts itself, or uses a keyword that is not supported.

    Example:
        >>> check_schema({"type": "object", "properties": {"price": {"type": "number"}}})
    """
    _matcher(schema, LLTokenizer("byte"))


def accepts(schema: Mapping[str, Any], text: str) -> bool:
    """Return whether a text is JSON of the schema: compact, its fields in the schema's order.

    Args:
        schema: a JSON schema.
        text: any string.

    Example:
        >>> accepts({"type": "object", "properties": {"n": {"type": "integer"}}}, '{"n":1}')
        True
    """
    tokenizer = LLTokenizer("byte")
    return _completes(_matcher(schema, tokenizer), tokenizer.tokenize_str(text))


def _matcher(schema: Mapping[str, Any], tokenizer: LLTokenizer) -> LLMatcher:
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_OPTIONS)
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        raise FrameError(
            f"no grammar can be made of the schema: {matcher.get_error().splitlines()[0]}. "
            "Leave that out, or write the field as a plain string, number, boolean, list or object."
        )
    return matcher


def _byte_tokens(tokenizer: PreTrainedTokenizerBase) -> LLTokenizer:
    if tokenizer not in _known_tokenizers:
        try:
            _known_tokenizers[tokenizer] = from_tokenizer(tokenizer)  # type: ignore[arg-type]
        except ValueError as error:
            raise UnsupportedModelError(
                f"the tokenizer of this model cannot be held to a schema ({error}). "
                "Take another model."
            ) from error
    return _known_tokenizers[tokenizer]


def _single(tokenizer: LLTokenizer, characters: str) -> list[int]:
    """Return the tokens that are one of the characters and nothing else, in their order."""
    found = [tokenizer.greedy_tokenize(character) for character in characters]
    return [ids[0] for ids in found if len(ids) == 1]


def _first_allowed(matcher: LLMatcher) -> list[int]:
    packed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    ids: list[int] = np.unpackbits(packed, bitorder="little").nonzero()[0][:1].tolist()
    return ids


def _completes(matcher: LLMatcher, tokens: Sequence[int]) -> bool:
    """Return whether the tokens complete the answer; the matcher is left as it was."""
    done = matcher.try_consume_tokens(list(tokens))
    complete = done == len(tokens) and matcher.is_accepting()
    matcher.rollback(done)
    return complete


def _unpacked(mask: np.ndarray[Any, np.dtype[np.int32]], device: torch.device) -> torch.Tensor:
    """Return one boolean per token, shape (row, token), from one bit per token."""
    packed = torch.from_numpy(mask.view(np.uint8)).to(device)
    bits = packed[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=device)
    return (bits & 1).flatten(1).bool()


def _bounded(schema: Mapping[str, Any], max_new_tokens: int) -> dict[str, Any]:
    """Return the schema with an end to every string, list and number that has none."""
    strings = max(1, _count_strings(schema))
    longest = max(16, _CHARACTERS_PER_TOKEN * max_new_tokens // strings)

    def bound(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        bounded = {key: _over(key, value, bound) for key, value in part.items()}
        kinds = _kinds(part)
        if "enum" in part or "const" in part:
            return bounded
        if "string" in kinds and not {"format", "pattern", "maxLength"} & part.keys():
            bounded["maxLength"] = max(longest, part.get("minLength", 0))
        if "array" in kinds and "maxItems" not in part:
            bounded["maxItems"] = max(_LONGEST_LIST, part.get("minItems", 0))
        return _bounded_number(bounded, kinds)

    return dict(bound(schema))


def _bounded_number(part: Mapping[str, Any], kinds: set[str]) -> dict[str, Any]:
    bounded = dict(part)
    if "number" in kinds:
        bounded.setdefault("multipleOf", _SMALLEST_STEP)
        # llguidance lets an excluded bound in where a number has bounds on both sides.
        if "exclusiveMinimum" in bounded:
            above = bounded.pop("exclusiveMinimum") + _SMALLEST_STEP
            bounded["minimum"] = max(above, bounded.get("minimum", above))
        if "exclusiveMaximum" in bounded:
            below = bounded.pop("exclusiveMaximum") - _SMALLEST_STEP
            bounded["maximum"] = min(below, bounded.get("maximum", below))
    if kinds & {"integer", "number"}:
        if "exclusiveMinimum" not in bounded:
            bounded["minimum"] = max(bounded.get("minimum", -_LARGEST), -_LARGEST)
        if "exclusiveMaximum" not in bounded:
            bounded["maximum"] = min(bounded.get("maximum", _LARGEST), _LARGEST)
    return bounded


def _count_strings(part: Any) -> int:
    if not isinstance(part, Mapping):
        return 0
    inside = 0

    def count(child: Any) -> None:
        nonlocal inside
        inside += _count_strings(child)

    for key, value in part.items():
        _over(key, value, count)
    return inside + ("string" in _kinds(part) and "enum" not in part)


def _kinds(part: Mapping[str, Any]) -> set[str]:
    kinds = part.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _over(key: str, value: Any, each: Any) -> Any:
    """Return the value of a keyword with `each` applied to the schemas that it holds."""
    if key in ("properties", "$defs", "definitions"):
        return {name: each(child) for name, child in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [each(child) for child in value]
    return each(value) if key in ("items", "additionalProperties") else value
