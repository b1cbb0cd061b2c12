"""Languages by their English names and their codes, from Unicode's CLDR."""

from __future__ import annotations

from functools import cache

__all__ = ["language_code", "language_name"]


def language_name(language: str) -> str:
    """The English name of a language given by its code; anything else as it is.

    Example:
        >>> language_name("de"), language_name("plain English")
        ('German', 'plain English')
    """
    return _names().get(language.casefold(), language)


def language_code(language: str) -> str | None:
    """The shortest ISO 639 code of a language given by its English name or code.

    Example:
        >>> language_code("German"), language_code("de"), language_code("plain English")
        ('de', 'de', None)
    """
    wanted = language.casefold()
    if wanted in _names():
        return wanted
    return next((code for code, name in _names().items() if name.casefold() == wanted), None)


@cache
def _names() -> dict[str, str]:
    from babel import Locale

    return {code.casefold(): name for code, name in Locale("en").languages.items()}
