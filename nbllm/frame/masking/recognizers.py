"""Recognizers of cards, IBANs and telephone numbers, where presidio's own leave out too much.

Whatever a text holds, none takes longer than in proportion to its length, and most texts hold
nothing that a recognizer would have to look at: see `may_find`.

Ranges and lengths of card numbers are those of their issuers (ISO/IEC 7812; Wikipedia, "Payment
card number"). Imported only where presidio is installed.
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
    "EmailRecognizer",
    "IbanInLowerCase",
    "PhoneRecognizer",
    "WordsNearby",
    "may_find",
    "refuse_many_numbers",
]

# The list of domain endings as it was published with tldextract, which would fetch the newest.
_ENDINGS = TLDExtract(cache_dir=None, suffix_list_urls=())

# Presidio's expression, which looks for the end of an address from each of its characters: here
# only from where one can begin, once for each run of what addresses are made of.
_OF_ADDRESS = r"[!#$%&'*+\-/=?^_`{|}~.\w]"
_NO_DOT = r"[!#$%&'*+\-/=?^_`{|}~\w]"
_EMAIL_PATTERNS = [
    Pattern(
        "E-mail address",
        rf"(?:(?<!{_OF_ADDRESS})|\G)(?>(?:(?!\b{_NO_DOT}){_OF_ADDRESS})*)\K"
        rf"\b{_NO_DOT}{_OF_ADDRESS}*+(?<!\.)"
        r"@\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+\b",
        0.5,
    )
]

_CARDS = re.compile(
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

# Said right before a telephone number, or right behind it.
_BEFORE = re.compile(
    r"(?:\b(?:(?:tele|cell)?phones?|tel|mobile|cell|fax|hotline|office|home|work|call(?:ing|ed)?|dial"
    r"|ring|reach(?:ed)?|contact|answering|whats\s?app|sms|telefon\w*|handy|t[ée]l[ée]phone"
    r"|tel[ée]fono|m[óo]vil|celular)\b|电话|電話|手机|拨打|致电|携帯)[^\d\n.;!?]{0,24}$",
    re.IGNORECASE,
)
_BEHIND = re.compile(r"\W{0,3}(?:fax|office|mobile|cell|phone|tel)\b", re.IGNORECASE)
_WORDS = re.compile(f"{_BEFORE.pattern.removesuffix('$')}|{_BEHIND.pattern}", re.IGNORECASE)
_LOOKED_BACK = 40  # characters
_YEARS = re.compile(r"\(?(1[0-9]|20)\d\d\s?[-–—/]\s?(1[0-9]|20)\d\d\b")
# Each is looked up in the plans of seven countries, which with the words nearby takes up to 0.6 ms.
_MOST_NUMBERS = 1_500
# Fewer are the number of a service or a year, and more are no telephone number (ITU-T E.164).
_DIGITS = range(7, 16)


class EmailRecognizer(presidio.EmailRecognizer):
    """Presidio's, without the network, and in time that grows as the text does."""

    PATTERNS = _EMAIL_PATTERNS

    def validate_result(self, pattern_text: str) -> bool:
        return bool(_ENDINGS(pattern_text).fqdn)


class CardRecognizer(presidio.CreditCardRecognizer):
    """Presidio's, with cards of 12, 18 and 19 digits; a number that no issuer has needs a word.

    One number in ten has a valid check sum, so without a word such as "card" nearby it also has
    to be in a range that is issued.
    """

    PATTERNS = _CARD_PATTERNS

    def validate_result(self, pattern_text: str) -> bool | None:  # type: ignore[override]
        """False without a valid check sum; None, which lets the words nearby decide."""
        if not super().validate_result(pattern_text):
            return False
        digits = re.sub(r"\D", "", pattern_text)
        return True if _CARDS.fullmatch(digits) else None


class IbanInLowerCase(presidio.IbanRecognizer):
    """IBANs in lower case; each group behind the first has a digit, unlike the word after them."""

    PATTERNS = _IBAN_PATTERNS


class PhoneRecognizer(presidio.PhoneRecognizer):
    """Presidio's, without years; and numbers of any shape where a word says what they are."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        made: Any = self._get_recognizer_result  # untyped

        def results(matches: Iterable[PhoneNumberMatch]) -> list[RecognizerResult]:
            found = [made(match, text, None, nlp_artifacts) for match in matches]
            return EntityRecognizer.remove_duplicates(found)

        # Countries with one code have one plan: a number of Canada is one of the United States.
        regions = {phonenumbers.country_code_for_region(r): r for r in self.supported_regions}
        valid = results(match for region in regions.values() for match in _Numbers(text, region))
        kept = [result for result in valid if _may_be_phone(text[result.start : result.end])]
        if not _WORDS.search(text):
            return EntityRecognizer.remove_duplicates(kept)
        # Germany has numbers of every length, so that none is left out by its plan.
        possible = _Numbers(text, "DE", leniency=phonenumbers.Leniency.POSSIBLE)
        kept += results(
            match
            for match in possible
            if _may_be_phone(match.raw_string) and _is_said(text, match.start, match.end)
        )
        return EntityRecognizer.remove_duplicates(kept)


class _Numbers(PhoneNumberMatcher):
    """The numbers in a text; of what is too short to be one, nothing else is looked up."""

    def _parse_and_verify(self, candidate: str, offset: int) -> PhoneNumberMatch | None:
        digits = [sign for sign in candidate if sign.isdigit()]
        # A number of another country, which may be shorter, begins with a plus sign or zeros.
        abroad = digits[:1] == ["0"] or not {"+", "＋"}.isdisjoint(candidate)
        if not abroad and len(digits) < _fewest_digits(self.preferred_region, self.leniency):
            return None
        found: PhoneNumberMatch | None = super()._parse_and_verify(candidate, offset)
        return found


@cache
def _fewest_digits(region: str, leniency: int) -> int:
    """The least number of digits in any number of the countries that share a country code."""
    code = phonenumbers.country_code_for_region(region)
    lengths: list[int] = []
    for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]:
        described: Any = phonenumbers.PhoneMetadata.metadata_for_region(name).general_desc  # type: ignore[union-attr]
        lengths += described.possible_length
        if leniency == phonenumbers.Leniency.POSSIBLE:
            lengths += described.possible_length_local_only
    return min(lengths)


def _may_be_phone(number: str) -> bool:
    digits = sum(map(str.isdigit, number.partition("x")[0]))
    return digits in _DIGITS and not _YEARS.match(number)


def _is_said(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _LOOKED_BACK) : start]
    return bool(_BEFORE.search(before) or _BEHIND.match(text, end))


# What is in any text in which a recognizer finds something, in an expression that reads a text
# once and is much faster than the recognizer.
_NEEDED: Mapping[type[EntityRecognizer], re.Pattern[str]] = {
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


class WordsNearby(LemmaContextAwareEnhancer):
    """Presidio's, which looks for the word that a match begins with from the first of a text on."""

    @staticmethod
    def _find_index_of_match_token(
        word: str, start: int, tokens: Sequence[Any], tokens_indices: list[int]
    ) -> int:
        begun = bisect_right(tokens_indices, start) - 1
        if begun >= 0 and start < tokens_indices[begun] + len(tokens[begun]):
            return begun
        return min(begun + 1, len(tokens) - 1)


def refuse_many_numbers(text: str) -> None:
    """Refuse a text with more numbers than can be looked up in about a second.

    Raises:
        FrameError: it has more than 1,500 that are long enough for a telephone number.
    """
    numbers = _NEEDED[PhoneRecognizer].finditer(text)
    if next(islice(numbers, _MOST_NUMBERS, None), None):
        raise FrameError(
            f"One text is searched for telephone numbers among {_MOST_NUMBERS:,} numbers at most, "
            "and this one has more. Split it into several rows, or leave PHONE_NUMBER out of "
            "entities=."
        )


def may_find(recognizer: EntityRecognizer, text: str) -> bool:
    """Return whether a recognizer could find anything in a text."""
    needed = _NEEDED.get(type(recognizer))
    return needed is None or needed.search(text) is not None
