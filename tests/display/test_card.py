"""Cards of terms, tables and remarks."""

from nbllm.display.card import card, remarks, terms, terms_text

EVIL = "<script>alert(1)</script>"


def test_what_is_no_html_is_escaped() -> None:
    html = card(EVIL, remarks(EVIL, "", EVIL), terms({EVIL: EVIL}, link=True))
    assert html.count("&lt;script&gt;") == 5 and "<script" not in html
    assert card("", "<p>part</p>").count("<div") == 1
    assert remarks("", "") == ""


def test_only_a_whole_address_of_the_web_is_a_link() -> None:
    lines = {
        "a": "https://example.org/a",
        "b": "see https://example.org/b",
        "c": "javascript:alert(1)",
        "d": 'https://example.org/"onclick="x',
    }
    html = terms(lines, link=True)
    assert html.count("<a ") == 2 and 'href="https://example.org/a"' in html
    assert 'rel="noopener noreferrer"' in html and "&quot;onclick=&quot;" in html
    assert "<a " not in terms(lines)


def test_terms_as_text_stand_below_each_other() -> None:
    pairs = [("model", "a"), ("job", "b"), ("job", "c\x1b[2J")]
    assert terms_text("Now", pairs, about="Two jobs.").split("\n") == [
        "Now",
        "  Two jobs.",
        "  model  a",
        "  job    b",
        "  job    c␛[2J",
    ]
    assert terms_text("Nothing", {}) == "Nothing"
    assert terms(pairs).count("<dt") == 3
