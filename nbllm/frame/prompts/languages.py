"""English names and codes of languages, from Unicode's CLDR."""

from __future__ import annotations

from functools import cache

__all__ = ["language_code", "language_name"]


def language_name(language: str) -> str:
    """Return the English name of a language code, or any other string unchanged.

    Args:
        language: A code, or anything else.

    Example:
        >>> language_name("de"), language_name("plain English")
        ('German', 'plain English')
    """
    return _names().get(language.casefold(), language)


def language_code(language: str) -> str | None:
    """Return the lower-case ISO 639 code of a language, or None for any other string.

    Args:
        language: The English name or the code.

    Example:
        >>> language_code("German"), language_code("de"), language_code("plain English")
        ('de', 'de', None)
    """
    key = language.casefold()
    if key in _names():
        return key
    return next((code for code, name in _names().items() if name.casefold() == key), None)


@cache
def _names() -> dict[str, str]:
    from babel import Locale

    return {code.casefold(): name for code, name in Locale("en").languages.items()}
