"""Recognizers with higher recall or speed than presidio's own, and a prefilter for all.

Each takes time linear in the length of a text. The prefilter `can_match` skips most texts.

Ranges and lengths of card numbers are from their issuers (ISO/IEC 7812; Wikipedia, "Payment
card number"). This module requires presidio.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import phonenumbers
from phonenumbers import PhoneNumberMatch, PhoneNumberMatcher
from presidio_analyzer import EntityRecognizer, Pattern, RecognizerResult
from presidio_analyzer import predefined_recognizers as presidio
from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
from tldextract import TLDExtract

from nbllm.errors import FrameError

__all__ = [
    "CardRecognizer",
    "ContextEnhancer",
    "EmailRecognizer",
    "IbanInLowerCase",
    "PhoneRecognizer",
    "can_match",
    "refuse_many_numbers",
]

# The list of public suffixes in the tldextract package, which would download a newer one.
_DOMAIN_SUFFIXES = TLDExtract(cache_dir=None, suffix_list_urls=())

# Presidio's expression, but matching starts only where an address can begin, once per run of
# address characters. Presidio's starts at every character, which takes quadratic time.
_ADDRESS_CHARACTER = r"[!#$%&'*+\-/=?^_`{|}~.\w]"
_ADDRESS_NO_DOT = r"[!#$%&'*+\-/=?^_`{|}~\w]"
_EMAIL_PATTERNS = [
    Pattern(
        "E-mail address",
        rf"(?:(?<!{_ADDRESS_CHARACTER})|\G)(?>(?:(?!\b{_ADDRESS_NO_DOT}){_ADDRESS_CHARACTER})*)\K"
        rf"\b{_ADDRESS_NO_DOT}{_ADDRESS_CHARACTER}*+(?<!\.)"
        r"@\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+\b",
        0.5,
    )
]

_ISSUED_CARD = re.compile(
    r"4\d{12}(\d{3}){0,2}"  # Visa
    r"|(5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(0[0-5]|[689]\d)\d{11,16}"  # Diners Club
    r"|(6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover
    r"|35(2[89]|[3-8]\d)\d{12,15}|(2131|1800)\d{11}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}"  # Maestro
    r"|220[0-4]\d{12,15}"  # Mir
)

_CARD_PATTERNS = [
    *presidio.CreditCardRecognizer.PATTERNS,
    Pattern("Card number in one piece", r"(?<![\w.,-])\d{12,19}(?![\w-])", 0.3),
    Pattern(
        "Card number in groups",
        r"(?<![\w.,-])\d{4}(?:([ -])\d{4})(?:\1\d{4}){1,2}(?:\1\d{1,4})?(?![\w-])",
        0.3,
    ),
]

_IBAN_PATTERNS = [
    Pattern(
        "IBAN in lower case",
        r"(?<![A-Za-z0-9])([a-z]{2}[0-9]{2}[ -]?[a-z0-9]{4}"
        r"(?:[ -]?(?=[a-z]{0,3}[0-9])[a-z0-9]{4}){1,6})"
        r"((?:[ -]?(?=[a-z]{0,2}[0-9])[a-z0-9]{1,3})?)(?![A-Za-z0-9])",
        0.5,
    )
]

# Words directly before or after a telephone number.
_PHONE_WORD_BEFORE = re.compile(
    r"(?:\b(?:(?:tele|cell)?phones?|tel|mobile|cell|fax|hotline|office|home|work|call(?:ing|ed)?|dial"
    r"|ring|reach(?:ed)?|contact|answering|whats\s?app|sms|telefon\w*|handy|t[ée]l[ée]phone"
    r"|tel[ée]fono|m[óo]vil|celular)\b|电话|電話|手机|拨打|致电|携帯)[^\d\n.;!?]{0,24}$",
    re.IGNORECASE,
)
_PHONE_WORD_AFTER = re.compile(r"\W{0,3}(?:fax|office|mobile|cell|phone|tel)\b", re.IGNORECASE)
_PHONE_WORD = re.compile(
    f"{_PHONE_WORD_BEFORE.pattern.removesuffix('$')}|{_PHONE_WORD_AFTER.pattern}", re.IGNORECASE
)
_LOOKBACK = 40  # characters
_YEARS = re.compile(r"\(?(1[0-9]|20)\d\d\s?[-–—/]\s?(1[0-9]|20)\d\d\b")
# Each is checked against the numbering plans of seven countries, which with context words takes up
# to 0.6 ms.
_MAX_NUMBERS = 1_500
# Shorter numbers are years or service numbers; ITU-T E.164 allows 15 digits.
_PHONE_DIGITS = range(7, 16)


class EmailRecognizer(presidio.EmailRecognizer):
    """Presidio's recognizer, offline and in linear time."""

    PATTERNS = _EMAIL_PATTERNS

    def validate_result(self, pattern_text: str) -> bool:
        return bool(_DOMAIN_SUFFIXES(pattern_text).fqdn)


class CardRecognizer(presidio.CreditCardRecognizer):
    """Presidio's recognizer, with cards of 12, 18 and 19 digits.

    One number in ten has a valid checksum by chance, so a number outside the issued ranges
    requires a context word such as "card".
    """

    PATTERNS = _CARD_PATTERNS

    def validate_result(self, pattern_text: str) -> bool | None:  # type: ignore[override]
        """Return False for an invalid checksum, and None to require a context word."""
        if not super().validate_result(pattern_text):
            return False
        digits = re.sub(r"\D", "", pattern_text)
        return True if _ISSUED_CARD.fullmatch(digits) else None


class IbanInLowerCase(presidio.IbanRecognizer):
    """IBANs in lower case. Each group after the first has a digit, unlike a word that follows."""

    PATTERNS = _IBAN_PATTERNS


class PhoneRecognizer(presidio.PhoneRecognizer):
    """Presidio's recognizer, without years, and with numbers of any form beside a context word."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        to_result: Any = self._get_recognizer_result  # untyped

        def results(matches: Iterable[PhoneNumberMatch]) -> list[RecognizerResult]:
            found = [to_result(match, text, None, nlp_artifacts) for match in matches]
            return EntityRecognizer.remove_duplicates(found)

        # Countries that share a calling code share a numbering plan, such as Canada and the US.
        regions = {phonenumbers.country_code_for_region(r): r for r in self.supported_regions}
        valid = results(match for region in regions.values() for match in _Numbers(text, region))
        kept = [result for result in valid if _may_be_phone(text[result.start : result.end])]
        if not _PHONE_WORD.search(text):
            return EntityRecognizer.remove_duplicates(kept)
        # Germany has numbers of every length, so that its plan excludes none.
        possible = _Numbers(text, "DE", leniency=phonenumbers.Leniency.POSSIBLE)
        kept += results(
            match
            for match in possible
            if _may_be_phone(match.raw_string) and _has_phone_word(text, match.start, match.end)
        )
        return EntityRecognizer.remove_duplicates(kept)


class _Numbers(PhoneNumberMatcher):
    """The telephone numbers in a text, with an early rejection of numbers that are too short."""

    def _parse_and_verify(self, candidate: str, offset: int) -> PhoneNumberMatch | None:
        digits = [character for character in candidate if character.isdigit()]
        # An international number may be shorter. It begins with a plus sign or zeros.
        is_international = digits[:1] == ["0"] or not {"+", "＋"}.isdisjoint(candidate)
        if not is_international and len(digits) < _fewest_digits(
            self.preferred_region, self.leniency
        ):
            return None
        found: PhoneNumberMatch | None = super()._parse_and_verify(candidate, offset)
        return found


@cache
def _fewest_digits(region: str, leniency: int) -> int:
    """Return the minimum number of digits among the countries that share a region's code."""
    code = phonenumbers.country_code_for_region(region)
    lengths: list[int] = []
    for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]:
        plan: Any = phonenumbers.PhoneMetadata.metadata_for_region(name).general_desc  # type: ignore[union-attr]
        lengths += plan.possible_length
        if leniency == phonenumbers.Leniency.POSSIBLE:
            lengths += plan.possible_length_local_only
    return min(lengths)


def _may_be_phone(number: str) -> bool:
    digits = sum(map(str.isdigit, number.partition("x")[0]))
    return digits in _PHONE_DIGITS and not _YEARS.match(number)


def _has_phone_word(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _LOOKBACK) : start]
    return bool(_PHONE_WORD_BEFORE.search(before) or _PHONE_WORD_AFTER.match(text, end))


# A necessary condition for a match of each recognizer, which takes one pass over a text and is much
# faster than the recognizer.
_PREFILTERS: Mapping[type[EntityRecognizer], re.Pattern[str]] = {
    EmailRecognizer: re.compile(r"@\w"),
    PhoneRecognizer: re.compile(
        r"\d(?:[\Wxー]{0,4}\d){6}|\d[\s,]*(?:доб|int|ｉｎｔ|[#＃~～ｘ])",  # digits, or an extension
        re.IGNORECASE,
    ),
    CardRecognizer: re.compile(r"\d(?:[ -]?\d){11}"),
    presidio.IbanRecognizer: re.compile(r"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}"),
    IbanInLowerCase: re.compile(r"[a-z]{2}[0-9]{2}[ -]?[a-z0-9]{4}"),
    presidio.DateRecognizer: re.compile(r"\d[-/.]|-\d"),
    presidio.UsLicenseRecognizer: re.compile(r"\d"),
    presidio.IpRecognizer: re.compile(r"\d\.\d|:[0-9A-Fa-f:]"),
    presidio.MacAddressRecognizer: re.compile(
        r"[0-9A-F]{2}[:-][0-9A-F]{2}[:-]|[0-9A-F]{4}\.[0-9A-F]{4}\.", re.IGNORECASE
    ),
    presidio.CryptoRecognizer: re.compile(r"[13][A-Z0-9]{25}", re.IGNORECASE),
    presidio.UsSsnRecognizer: re.compile(r"[0-9]{3}[- .]?[0-9]{2}[- .]?[0-9]{4}"),
    presidio.UrlRecognizer: re.compile(r"\.[^\W\d_]{2}"),
}


class ContextEnhancer(LemmaContextAwareEnhancer):
    """Presidio's enhancer, with a binary instead of a linear search for the token of a match."""

    @staticmethod
    def _find_index_of_match_token(
        word: str, start: int, tokens: Sequence[Any], tokens_indices: list[int]
    ) -> int:
        index = bisect_right(tokens_indices, start) - 1
        if index >= 0 and start < tokens_indices[index] + len(tokens[index]):
            return index
        return min(index + 1, len(tokens) - 1)


def refuse_many_numbers(text: str) -> None:
    """Raise an error if a text has more numbers than can be checked in about a second.

    Args:
        text: Any text.

    Raises:
        FrameError: More than 1,500 numbers are long enough for a telephone number.
    """
    numbers = _PREFILTERS[PhoneRecognizer].finditer(text)
    if next(islice(numbers, _MAX_NUMBERS, None), None):
        raise FrameError(
            f"One text is searched for telephone numbers among {_MAX_NUMBERS:,} numbers at most, "
            "and this one has more. Split it into several rows, or leave PHONE_NUMBER out of "
            "entities=."
        )


def can_match(recognizer: EntityRecognizer, text: str) -> bool:
    """Return whether a recognizer may find a match in a text.

    Args:
        recognizer: The recognizer. Without a prefilter, the result is True.
        text: Any text.
    """
    prefilter = _PREFILTERS.get(type(recognizer))
    return prefilter is None or prefilter.search(text) is not None
