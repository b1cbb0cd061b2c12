"""Masking: replacing personal data by placeholders, with patterns and not a language model.

The patterns, checksums and context words are presidio's. Nothing here connects to the internet.
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.errors import FrameError
from nbllm.escaping import say
from nbllm.frame.columns import Rows, read_rows
from nbllm.frame.new_columns import refuse_taken, write_columns
from nbllm.wording import counted

if TYPE_CHECKING:
    from presidio_analyzer import EntityRecognizer, RecognizerResult
    from presidio_analyzer.nlp_engine import NlpArtifacts

__all__ = ["EntityMatch", "Masker", "mask_frame", "mask_text"]

_BY_PATTERN = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "US_SSN",
    "URL",
    "DATE_TIME",
    "US_DRIVER_LICENSE",
)
_BY_MODEL = ("PERSON", "LOCATION", "ORGANIZATION", "NRP")

# A URL or a date seldom identifies a person, and a licence looks like any other number.
_OPT_IN = ("URL", "DATE_TIME", "US_DRIVER_LICENSE")
_DEFAULT = tuple(name for name in _BY_PATTERN if name not in _OPT_IN)
_UNDETECTABLE = (
    "street addresses, ages, titles, passwords, numbers whose check digit is wrong, and papers of "
    "other countries, such as passports and identity cards"
)

# The minimum score of a match, which is presidio's score of a telephone number without a context
# word such as "call".
_MIN_SCORE = 0.4

_PIECE_LENGTH = 4000  # characters that are analyzed at a time
_CONTEXT_LENGTH = 300  # more on each side, for context words and matches across the end
_WORD_BOUNDARY = re.compile(r"[\s，。！？；：、]+")
_MAX_MATCHES = 10_000  # per text; more take over a second of processor time
# Such a run holds no word, and spaCy's time is quadratic in its length.
_PUNCTUATION_RUN = re.compile(r"(?:[^\w\s]|_){16,}")


@dataclass(frozen=True)
class EntityMatch:
    """A match of personal data: `text[start:end]`."""

    entity: str
    start: int
    end: int
    score: float


class Masker:
    """Finds personal data in texts of one language.

    Args:
        entities: Presidio's names of the entities. By default those with a pattern, without URL,
            DATE_TIME and US_DRIVER_LICENSE.
        language: An ISO 639 code, such as "en".

    Raises:
        FrameError: An entity is unknown, presidio is not installed, or an entity requires a spaCy
            model that is not installed.
    """

    def __init__(self, entities: Sequence[str] | None = None, language: str = "en") -> None:
        self.entities: tuple[str, ...] = _DEFAULT if entities is None else tuple(entities)
        self.language = language
        known = (*_BY_PATTERN, *_BY_MODEL)
        unknown = [name for name in self.entities if name not in known]
        if unknown or not self.entities:
            raise FrameError(
                f"mask knows no entity {', '.join(map(repr, unknown)) or 'in the empty list'} of "
                f"entities=. Use some of {', '.join(known)}."
            )
        by_model = [name for name in self.entities if name in _BY_MODEL]
        self._analyzer = _analyzer(language, by_model[0] if by_model else None)

    @property
    def coverage_note(self) -> str:
        """The personal data that is left in the texts and how to mask it too, in sentences."""
        by_model = [name for name in _BY_MODEL if name not in self.entities]
        by_pattern = [name for name in _BY_PATTERN if name not in self.entities]
        ways = []
        if by_model:
            ways.append(f"{', '.join(by_model)} (by a spaCy model: {_install_hint(self.language)})")
        if by_pattern:
            ways.append(", ".join(by_pattern))
        said = f"Not looked for: {'; '.join(ways)}. Name those in entities=. " if ways else ""
        return f"{said}Never found: {_UNDETECTABLE}."

    def recognizers(self) -> dict[str, list[str]]:
        """Return the names of the recognizers of each entity."""
        known = self._analyzer.recognizers
        return {
            entity: sorted(type(r).__name__ for r in known if entity in r.supported_entities)
            for entity in self.entities
        }

    def find(self, text: str) -> list[EntityMatch]:
        """Return the personal data in a text, in order.

        Of overlapping matches, the one with the higher score is kept, or the longer one. A long
        text is analyzed in pieces, so that the time is linear in its length.

        Args:
            text: Any text.

        Raises:
            FrameError: The text has more than 10,000 matches or 1,500 possible telephone numbers.
        """
        if "PHONE_NUMBER" in self.entities:
            self._analyzer.refuse_many_numbers(text)
        pieces = [(0, len(text))] if self._analyzer.has_ner else _pieces(text)
        found: list[EntityMatch] = []
        for begin, end in pieces:
            low = max(0, begin - _CONTEXT_LENGTH)
            first = _next_word(text, low, begin) or low
            part = self._analyzer.find(text[first : end + _CONTEXT_LENGTH], self.entities)
            moved = (replace(f, start=f.start + first, end=f.end + first) for f in part)
            found += [item for item in moved if begin <= item.start < end]
            if len(found) > _MAX_MATCHES:
                raise FrameError(
                    f"One text is searched for {_MAX_MATCHES:,} pieces of personal data at most, "
                    "and this one has more. Split it into several rows."
                )
        return _without_overlaps(found)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield the bounds of pieces of a text. A match may continue in the next piece."""
    begin = 0
    while len(text) - begin > 2 * _PIECE_LENGTH:
        end = begin + _PIECE_LENGTH
        end = _next_word(text, end - _PIECE_LENGTH // 2, end) or end
        yield begin, end
        begin = end
    yield begin, len(text)


def _next_word(text: str, low: int, high: int) -> int | None:
    """Return the first index in a range where a word may begin, or None."""
    found = _WORD_BOUNDARY.search(text, low, high)
    return found.end() if found else None


def _without_overlaps(found: Sequence[EntityMatch]) -> list[EntityMatch]:
    """Return non-overlapping matches in order, preferring higher scores, then longer matches."""
    taken: list[tuple[int, int, EntityMatch]] = []
    for item in sorted(found, key=lambda f: (-f.score, f.start - f.end, f.entity, f.start)):
        index = bisect_left(taken, (item.start,))
        is_free = (index == 0 or taken[index - 1][1] <= item.start) and (
            index == len(taken) or item.end <= taken[index][0]
        )
        if is_free:
            taken.insert(index, (item.start, item.end, item))
    return [item for _, _, item in taken]


def mask_frame(frame: Any, column: str, masker: Masker, *, output: str, keep: Sequence[str]) -> Any:
    """Return a frame with masked texts, and the matches in each text as JSON.

    Args:
        frame: A pandas or polars DataFrame.
        column: The column of texts.
        masker: The masker.
        output: The name of the column of masked texts.
        keep: The columns to add: "value" (the text and `_entities`), "error".

    Raises:
        ColumnError: The column is missing or not text, or a new column's name is taken.
        FrameError: `keep` has another name.
    """
    unknown = [name for name in keep if name not in ("value", "error")]
    if unknown:
        raise FrameError(f"keep={unknown[0]!r} is neither value nor error. Choose among those.")
    rows = read_rows(frame, [column])
    made = _columns(rows, masker.find)
    added = {
        f"{output}{suffix}": (made[suffix], nw.String)
        for part, suffixes in (("value", ("", "_entities")), ("error", ("_error",)))
        if part in keep
        for suffix in suffixes
    }
    refuse_taken(frame, list(added), marker=f"{output}_entities")
    total = len(rows.text_indices)
    if failed := sum(error is not None for error in made["_error"]):
        warn_user(
            f"mask: {failed:,} of {counted(total, 'row has', 'rows have')} no answer: "
            f"{next(filter(None, made['_error']))} All are in {output}_error.",
        )
    touched = sum(entities not in (None, "[]") for entities in made["_entities"])
    say(
        f"nbllm: mask: {', '.join(masker.entities)} in {touched:,} of "
        f"{counted(total, 'row')}. {masker.coverage_note}"
    )
    return write_columns(frame, added)


def _columns(rows: Rows, find: Callable[[str], list[EntityMatch]]) -> dict[str, list[str | None]]:
    """Return masked texts, entities and errors by suffix, with one value for each row."""
    answers: list[tuple[str | None, str | None, str | None]] = []
    for (text,) in rows.texts:
        try:
            found = find(text)
            answers.append((mask_text(text, found), json.dumps([vars(f) for f in found]), None))
        except Exception as error:  # an error in one text must not stop the others
            answers.append((None, None, f"{type(error).__name__}: {error}"))
    columns: dict[str, list[str | None]] = {"": [], "_entities": [], "_error": []}
    for row, i in enumerate(rows.text_indices):
        answer = (None, None, rows.errors.get(row)) if i is None else answers[i]
        for suffix, value in zip(columns, answer, strict=True):
            columns[suffix].append(value)
    return columns


def mask_text(text: str, found: Sequence[EntityMatch]) -> str:
    """Return a text with a placeholder in place of each match.

    Args:
        text: The original text.
        found: The matches, in order and without overlaps.

    Example:
        >>> mask_text("Hello Ann!", [EntityMatch("PERSON", 6, 9, 0.9)])
        'Hello <PERSON>!'
    """
    pieces, position = [], 0
    for item in found:
        pieces += [text[position : item.start], f"<{item.entity}>"]
        position = item.end
    return "".join([*pieces, text[position:]])


@dataclass(frozen=True)
class _Analyzer:
    """Presidio's recognizers for one language, with the results of presidio's own engine.

    Faster than that engine: only recognizers that can match a text run, and the text is tokenized
    only where a context word can raise a score.
    """

    recognizers: Sequence[EntityRecognizer]
    words: Callable[[str], NlpArtifacts]
    enhance: Callable[..., list[RecognizerResult]]
    can_match: Callable[[EntityRecognizer, str], bool]
    refuse_many_numbers: Callable[[str], None]
    has_ner: bool  # with a spaCy model, which requires the whole text

    def find(self, text: str, entities: Sequence[str]) -> list[EntityMatch]:
        """Return the matches of entities in a text, which may overlap."""
        words: Any = self.words(text) if self.has_ner else None
        found = [
            (recognizer, result)
            for recognizer in self.recognizers
            if not set(entities).isdisjoint(recognizer.supported_entities)
            and self.can_match(recognizer, text)
            for result in recognizer.analyze(text, list(entities), words)
        ]
        if not found:
            return []
        lower = text.lower()
        results = [result for _, result in found]
        if any(word.lower() in lower for r, _ in found for word in r.context or ()):
            results = self.enhance(text, results, words or self.words(text), self.recognizers)
        return [
            EntityMatch(result.entity_type, result.start, result.end, float(result.score))
            for result in results
            if result.score >= _MIN_SCORE
        ]


@cache
def _analyzer(language: str, model_entity: str | None) -> _Analyzer:
    """Return the analyzer of a language, with a spaCy model if `model_entity` requires one.

    Raises:
        FrameError: Presidio or the model is not installed, or spaCy lacks the language.
    """
    try:
        import spacy
        from presidio_analyzer import predefined_recognizers as recognizers
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        from nbllm.frame.masking import recognizers as own
    except ImportError as error:
        raise FrameError(
            "mask needs presidio, which is not installed. Install it with "
            "pip install 'nbllm[privacy]'."
        ) from error

    installed = spacy.util.get_installed_models()
    ner_model = model_entity and _ner_model_name(language, model_entity, installed)
    try:
        pipeline = spacy.load(ner_model) if ner_model else spacy.blank(language)
    except ImportError as error:
        raise FrameError(
            f"language={language!r} is none whose words spaCy can tell. Pass a code of ISO 639, "
            "such as 'de', or 'xx' for any language."
        ) from error
    if not ner_model:  # spaCy's limit of a million characters protects the memory of its models
        pipeline.max_length = sys.maxsize

    class Words(SpacyNlpEngine):
        """Tokenizes with the local spaCy pipeline, where presidio would download one."""

        def __init__(self) -> None:
            super().__init__()
            self.nlp = {language: pipeline}  # type: ignore[assignment]  # None in presidio

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            document = pipeline(_PUNCTUATION_RUN.sub(lambda run: " " * len(run[0]), text))
            for token in document:
                # Presidio matches context words by their lemmas.
                token.lemma_ = token.lemma_ or token.lower_
            found = self._doc_to_nlp_artifact(document, language)
            # Presidio tests each word at each match for membership, which is slow in its list.
            found.keywords = set(found.keywords)  # type: ignore[assignment]
            return found

    kinds = (
        own.EmailRecognizer,
        own.PhoneRecognizer,
        own.CardRecognizer,
        recognizers.IbanRecognizer,
        own.IbanInLowerCase,
        recognizers.DateRecognizer,
        recognizers.UsLicenseRecognizer,
        recognizers.IpRecognizer,
        recognizers.MacAddressRecognizer,
        recognizers.CryptoRecognizer,
        recognizers.UsSsnRecognizer,
        recognizers.UrlRecognizer,
        *([recognizers.SpacyRecognizer] if ner_model else []),
    )
    engine = Words()
    return _Analyzer(
        recognizers=[kind(supported_language=language) for kind in kinds],
        words=partial(engine.process_text, language=language),
        enhance=own.ContextEnhancer().enhance_using_context,
        can_match=own.can_match,
        refuse_many_numbers=own.refuse_many_numbers,
        has_ner=ner_model is not None,
    )


def _install_hint(language: str) -> str:
    """Return how to install a spaCy model of a language."""
    if language == "en":
        return "python -m spacy download en_core_web_sm"
    return f"one of {language!r} of https://spacy.io/models, by python -m spacy download"


def _ner_model_name(language: str, model_entity: str, installed: Sequence[str]) -> str:
    """Return the largest installed spaCy model of a language.

    Raises:
        FrameError: No model of the language is installed.
    """
    sizes = ("sm", "md", "lg")
    found = [name for name in installed if name.startswith(f"{language}_") and name[-2:] in sizes]
    if not found:
        raise FrameError(
            f"mask finds {model_entity} by a spaCy model, and none for {language!r} is installed. "
            f"Install one ({_install_hint(language)}), or leave {', '.join(_BY_MODEL)} out of "
            "entities=."
        )
    return max(found, key=lambda name: sizes.index(name[-2:]))
