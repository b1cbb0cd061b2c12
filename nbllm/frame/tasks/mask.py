"""Masking: personal data replaced by placeholders, by patterns and not by a language model.

The patterns, check sums and words nearby are presidio's. Nothing here asks the network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.errors import FrameError
from nbllm.escaping import say
from nbllm.frame.columns import Rows, read_rows, refuse_taken, write_columns
from nbllm.warned import warn_user
from nbllm.wording import counted

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine, RecognizerResult

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
        self.entities = _DEFAULT if entities is None else tuple(entities)
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
        known = self._analyzer.get_recognizers(self.language)
        return {
            entity: sorted(type(r).__name__ for r in known if entity in r.supported_entities)
            for entity in self.entities
        }

    def find(self, text: str) -> list[Found]:
        """The personal data of a text, in order; of two that overlap, the surer or longer one."""
        found: list[RecognizerResult] = self._analyzer.analyze(
            text, self.language, entities=list(self.entities), score_threshold=_LEAST
        )
        taken: list[Found] = []
        for item in sorted(found, key=lambda item: (-item.score, item.start - item.end)):
            if all(item.end <= other.start or item.start >= other.end for other in taken):
                taken.append(Found(item.entity_type, item.start, item.end, float(item.score)))
        return sorted(taken, key=lambda item: item.start)


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


@cache
def _analyzer(language: str, wanted: str | None) -> AnalyzerEngine:
    """Presidio for a language; with a spaCy model of names where an entity `wanted` needs it."""
    try:
        import presidio_analyzer as presidio
        import spacy
        from presidio_analyzer import predefined_recognizers as recognizers
        from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

        from nbllm.frame.tasks import recognizers as ours
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
            document = pipeline(text)
            for token in document:
                # By their lemmas presidio knows the words that make a match surer.
                token.lemma_ = token.lemma_ or token.lower_
            return self._doc_to_nlp_artifact(document, language)

    registry = presidio.RecognizerRegistry(supported_languages=[language])
    for kind in (
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
    ):
        registry.add_recognizer(kind(supported_language=language))
    return presidio.AnalyzerEngine(
        registry=registry, nlp_engine=Words(), supported_languages=[language]
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
