"""Quotations marked in a text."""

from nbllm.frame.explanation.quotes import Quote
from nbllm.widgets.quotes_html import quotes_html


def test_each_quotation_is_followed_by_its_name() -> None:
    shown = quotes_html("An <i>order</i> of 3", [Quote("<u>", 3, 6), Quote("n", 19, 20)])
    assert shown.count("<mark") == shown.count("</mark>") == 2
    assert "&lt;i&gt;<sub" in shown and ">&lt;u&gt;</sub>" in shown and ">3<sub" in shown
    assert "<i>" not in shown and "<u>" not in shown


def test_quotations_that_overlap_are_one() -> None:
    shown = quotes_html("a b c d", [Quote("y", 2, 5), Quote("x", 0, 3)])
    assert shown.count("<mark") == 1
    assert ">a b c<sub" in shown and ">x, y</sub>" in shown and "d" in shown.split("</mark>")[1]
