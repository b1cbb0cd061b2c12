"""What is said of a label, and how its words are painted."""

import re

import pandas as pd

from nbllm.frame.explanation.contrast import Contrast
from nbllm.widgets.attribution_html import attribution_html

WORDS = pd.DataFrame(
    {
        "word": ["dull", "<img src=x onerror=alert(1)>", "warm"],
        "attribution": [-0.5, 0.0, 1.0],
        "attention": [0.1, 0.2, 0.3],
    }
)


def shown(words=WORDS, gap=0.004, shared=(2, 3), label="positive") -> str:
    return attribution_html(Contrast(label, "negative", 0.71, 0.29, 7, 8), words, gap, 32, shared)


def test_words_are_text_whatever_they_hold() -> None:
    html = shown(label="<script>")
    assert "<img" not in html and "<script" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html and "“&lt;script&gt;”" in html


def test_colour_and_line_tell_for_from_against_and_by_how_much() -> None:
    html = shown()
    styles = dict(re.findall(r'title="([+-][\d.]+)" style="([^"]*)"', html))
    assert "--nbllm-against" in styles["-0.500"] and "dashed" in styles["-0.500"]
    assert "--nbllm-for" in styles["+1.000"] and "solid" in styles["+1.000"]
    opacity = {score: float(re.search(r",([\d.]+)\)", style)[1]) for score, style in styles.items()}
    assert opacity == {"-0.500": 0.25, "+0.000": 0.0, "+1.000": 0.5}


def test_both_labels_the_gap_and_the_agreement_are_said() -> None:
    text = re.sub(r"<[^>]+>", "", shown())
    assert "positive 0.71, not negative 0.29." in text
    assert "the words move the log-odds by 0.50 towards “positive”" in text
    assert "their sum misses the model's own difference by 0.4% (32 steps)" in text
    assert "attention and attribution share 2 of their top 3 words" in text


def test_words_that_change_nothing() -> None:
    still = WORDS.assign(attribution=0.0)
    text = re.sub(r"<[^>]+>", "", shown(still, gap=float("nan"), shared=(0, 1)))
    assert "without a difference to add up to" in text
    assert "share 0 of their top 1 word." in text
