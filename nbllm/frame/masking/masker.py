"""Masking: personal data replaced by placeholders, by patterns and not by a language model.

The patterns, check sums and words nearby are presidio's. Nothing here asks the network.
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

__all__ = ["Found", "Masker", "mask_frame", "masked"]

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

# A web address or a date seldom tells who somebody is, and a licence looks like any other number.
_ASKED_FOR = ("URL", "DATE_TIME", "US_DRIVER_LICENSE")
_DEFAULT = tuple(name for name in _BY_PATTERN if name not in _ASKED_FOR)
_NEVER_FOUND = (
    "street addresses, ages, titles, passwords, numbers whose check digit is wrong, and papers of "
    "other countries, such as passports and identity cards"
)

# The least score of presidio that counts: a telephone number without a word such as "call".
_LEAST = 0.4

_PIECE = 4000  # characters of a text that are read at a time
_AROUND = 300  # more that are read on each side, for words nearby and what goes on over the end
_BORDER = re.compile(r"[\s，。！？；：、]+")
_MOST_FOUND = 10_000  # in one text: more than a second of processor time would go into
# No word is in such a run, and spaCy's time grows with the square of its length.
_SIGNS = re.compile(r"(?:[^\w\s]|_){16,}")


@dataclass(frozen=True)
class Found:
    """Personal data in a text: `text[start:end]`."""

    entity: str
    start: int
    end: int
    score: float


class Masker:
    """Finds personal data of some kinds in texts of one language.

    Args:
        entities: names of presidio; by default those that patterns tell, without URL, DATE_TIME
            and US_DRIVER_LICENSE.
        language: a code of ISO 639, such as "en".

    Raises:
        FrameError: an unknown entity, presidio is not installed, or no spaCy model for names.
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
    def not_looked_for(self) -> str:
        """What personal data is left in the texts, and how to have it masked too, in sentences."""
        by_model = [name for name in _BY_MODEL if name not in self.entities]
        by_pattern = [name for name in _BY_PATTERN if name not in self.entities]
        ways = []
        if by_model:
            ways.append(f"{', '.join(by_model)} (by a spaCy model: {_get_model(self.language)})")
        if by_pattern:
            ways.append(", ".join(by_pattern))
        said = f"Not looked for: {'; '.join(ways)}. Name those in entities=. " if ways else ""
        return f"{said}Never found: {_NEVER_FOUND}."

    def recognizers(self) -> dict[str, list[str]]:
        """By entity, the names of what finds it."""
        known = self._analyzer.recognizers
        return {
            entity: sorted(type(r).__name__ for r in known if entity in r.supported_entities)
            for entity in self.entities
        }

    def find(self, text: str) -> list[Found]:
        """The personal data of a text, in order; of two that overlap, the surer or longer one.

        A long text is read in pieces, so that it takes no longer than as many short ones.

        Raises:
            FrameError: the text holds more than one text is searched for, see `_MOST_FOUND`.
        """
        if "PHONE_NUMBER" in self.entities:
            self._analyzer.refuse_many_numbers(text)
        pieces = [(0, len(text))] if self._analyzer.has_names else _pieces(text)
        found: list[Found] = []
        for begin, end in pieces:
            low = max(0, begin - _AROUND)
            first = _border(text, low, begin) or low
            part = self._analyzer.find(text[first : end + _AROUND], self.entities)
            moved = (replace(f, start=f.start + first, end=f.end + first) for f in part)
            found += [item for item in moved if begin <= item.start < end]
            if len(found) > _MOST_FOUND:
                raise FrameError(
                    f"One text is searched for {_MOST_FOUND:,} pieces of personal data at most, "
                    "and this one has more. Split it into several rows."
                )
        return _surest(found)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where pieces of a text begin and end; what begins in one may go on in the next."""
    begin = 0
    while len(text) - begin > 2 * _PIECE:
        end = _border(text, begin + _PIECE // 2, begin + _PIECE) or begin + _PIECE
        yield begin, end
        begin = end
    yield begin, len(text)


def _border(text: str, low: int, high: int) -> int | None:
    """The first place between two where a word may begin."""
    found = _BORDER.search(text, low, high)
    return found.end() if found else None


def _surest(found: Sequence[Found]) -> list[Found]:
    """Those that do not overlap, in order: the surer first, then the longer."""
    taken: list[tuple[int, int, Found]] = []
    for item in sorted(found, key=lambda f: (-f.score, f.start - f.end, f.entity, f.start)):
        place = bisect_left(taken, (item.start,))
        is_free = (place == 0 or taken[place - 1][1] <= item.start) and (
            place == len(taken) or item.end <= taken[place][0]
        )
        if is_free:
            taken.insert(place, (item.start, item.end, item))
    return [item for _, _, item in taken]


def mask_frame(frame: Any, column: str, masker: Masker, *, output: str, keep: Sequence[str]) -> Any:
    """The frame with the masked texts, and what was masked in each as JSON.

    Args:
        keep: which columns to add: "value" (the text and `_entities`), "error".

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: `keep` names another column.
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
    refuse_taken(frame, list(added), ours=f"{output}_entities")
    failed = sum(error is not None for error in made["_error"])
    if failed:
        warn_user(
            f"mask: {failed:,} of {counted(len(rows.position), 'row has', 'rows have')} no answer: "
            f"{next(filter(None, made['_error']))} All are in {output}_error.",
        )
    touched = sum(entities not in (None, "[]") for entities in made["_entities"])
    say(
        f"nbllm: mask: {', '.join(masker.entities)} in {touched:,} of "
        f"{counted(len(rows.position), 'row')}. {masker.not_looked_for}"
    )
    return write_columns(frame, added)


def _columns(rows: Rows, find: Callable[[str], list[Found]]) -> dict[str, list[str | None]]:
    """By suffix: masked texts, entities and errors, one a row."""
    answers: list[tuple[str | None, str | None, str | None]] = []
    for (text,) in rows.texts:
        try:
            found = find(text)
            answers.append((masked(text, found), json.dumps([vars(f) for f in found]), None))
        except Exception as error:  # one text that a recognizer cannot take stops nothing
            answers.append((None, None, f"{type(error).__name__}: {error}"))
    columns: dict[str, list[str | None]] = {"": [], "_entities": [], "_error": []}
    for row, i in enumerate(rows.position):
        answer = (None, None, rows.errors.get(row)) if i is None else answers[i]
        for suffix, value in zip(columns, answer, strict=True):
            columns[suffix].append(value)
    return columns


def masked(text: str, found: Sequence[Found]) -> str:
    """The text with a placeholder for each of what was found, in order.

    Example:
        >>> masked("Hello Ann!", [Found("PERSON", 6, 9, 0.9)])
        'Hello <PERSON>!'
    """
    pieces, position = [], 0
    for item in found:
        pieces += [text[position : item.start], f"<{item.entity}>"]
        position = item.end
    return "".join([*pieces, text[position:]])


@dataclass(frozen=True)
class _Analyzer:
    """Recognizers of presidio for one language, as its own engine asks them.

    Unlike that, it asks only those that could find something in a text, and looks at words only
    where one could make a match surer. All else about a match is presidio's.
    """

    recognizers: Sequence[EntityRecognizer]
    words: Callable[[str], NlpArtifacts]
    enhance: Callable[..., list[RecognizerResult]]
    may_find: Callable[[EntityRecognizer, str], bool]
    refuse_many_numbers: Callable[[str], None]
    has_names: bool  # by a model that reads a text as a whole

    def find(self, text: str, entities: Sequence[str]) -> list[Found]:
        """The personal data of these kinds in a text; some may overlap."""
        words: Any = self.words(text) if self.has_names else None
        found = [
            (recognizer, result)
            for recognizer in self.recognizers
            if not set(entities).isdisjoint(recognizer.supported_entities)
            and self.may_find(recognizer, text)
            for result in recognizer.analyze(text, list(entities), words)
        ]
        if not found:
            return []
        lower = text.lower()
        results = [result for _, result in found]
        if any(word.lower() in lower for r, _ in found for word in r.context or ()):
            results = self.enhance(text, results, words or self.words(text), self.recognizers)
        return [
            Found(result.entity_type, result.start, result.end, float(result.score))
            for result in results
            if result.score >= _LEAST
        ]


@cache
def _analyzer(language: str, wanted: str | None) -> _Analyzer:
    """Presidio for a language; with a spaCy model of names where an entity `wanted` needs it."""
    try:
        import spacy
        from presidio_analyzer import predefined_recognizers as recognizers
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        from nbllm.frame.masking import recognizers as ours
    except ImportError as error:
        raise FrameError(
            "mask needs presidio, which is not installed. Install it with "
            "pip install 'nbllm[privacy]'."
        ) from error

    named = _names_model(language, wanted, spacy.util.get_installed_models()) if wanted else None
    try:
        pipeline = spacy.load(named) if named else spacy.blank(language)
    except ImportError as error:
        raise FrameError(
            f"language={language!r} is none whose words spaCy can tell. Pass a code of ISO 639, "
            "such as 'de', or 'xx' for any language."
        ) from error
    if not named:  # spaCy's limit of a million characters is for what its models take in memory
        pipeline.max_length = sys.maxsize

    class Words(SpacyNlpEngine):
        """The words of a text, by a spaCy pipeline that is here; presidio would fetch one."""

        def __init__(self) -> None:
            super().__init__()
            self.nlp = {language: pipeline}  # type: ignore[assignment]  # None in presidio

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            document = pipeline(_SIGNS.sub(lambda signs: " " * len(signs[0]), text))
            for token in document:
                # By their lemmas presidio knows the words that make a match surer.
                token.lemma_ = token.lemma_ or token.lower_
            found = self._doc_to_nlp_artifact(document, language)
            # A list to presidio, which asks whether a word is in it, for each word at each match.
            found.keywords = set(found.keywords)  # type: ignore[assignment]
            return found

    kinds = (
        ours.EmailRecognizer,
        ours.PhoneRecognizer,
        ours.CardRecognizer,
        recognizers.IbanRecognizer,
        ours.IbanInLowerCase,
        recognizers.DateRecognizer,
        recognizers.UsLicenseRecognizer,
        recognizers.IpRecognizer,
        recognizers.MacAddressRecognizer,
        recognizers.CryptoRecognizer,
        recognizers.UsSsnRecognizer,
        recognizers.UrlRecognizer,
        *([recognizers.SpacyRecognizer] if named else []),
    )
    engine = Words()
    return _Analyzer(
        recognizers=[kind(supported_language=language) for kind in kinds],
        words=partial(engine.process_text, language=language),
        enhance=ours.WordsNearby().enhance_using_context,
        may_find=ours.may_find,
        refuse_many_numbers=ours.refuse_many_numbers,
        has_names=named is not None,
    )


def _get_model(language: str) -> str:
    """How to get a spaCy model of names."""
    if language == "en":
        return "python -m spacy download en_core_web_sm"
    return f"one of {language!r} of https://spacy.io/models, by python -m spacy download"


def _names_model(language: str, wanted: str, installed: Sequence[str]) -> str:
    """The largest installed spaCy model of a language.

    Raises:
        FrameError: there is none.
    """
    sizes = ("sm", "md", "lg")
    found = [name for name in installed if name.startswith(f"{language}_") and name[-2:] in sizes]
    if not found:
        raise FrameError(
            f"mask finds {wanted} by a spaCy model, and none for {language!r} is installed. "
            f"Install one ({_get_model(language)}), or leave {', '.join(_BY_MODEL)} out of "
            "entities=."
        )
    return max(found, key=lambda name: sizes.index(name[-2:]))
