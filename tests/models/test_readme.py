"""What is taken from a model card, and what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbllm.models.readme import Readme, read_readme


def reading(folder: Path, text: str) -> Readme:
    (folder / "README.md").write_text(text, encoding="utf-8")
    return read_readme(folder)


def test_the_header(tmp_path: Path) -> None:
    readme = reading(
        tmp_path,
        "---\nlicense: mit\nlanguage: no\nbase_model: [a/b, c/d]\npipeline_tag: fill-mask\n"
        "datasets: [x/y, z]\n---\n",
    )
    assert (readme.licence, readme.languages, readme.base_model) == ("mit", ("no",), "a/b")
    assert (readme.task, readme.datasets, readme.terms) == ("fill-mask", ("x/y", "z"), None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\nlicense: [\n---\n",
        "---\n- a\n- b\n---\n",
        "---\nlicense: {a: 1}\nlanguage: 3\n---\n",
    ],
)
def test_a_header_that_says_nothing_is_no_error(tmp_path: Path, text: str) -> None:
    assert reading(tmp_path, text) == Readme()
    assert read_readme(tmp_path / "nowhere") == Readme()


def test_a_file_that_is_no_text_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff\xfe\x00---")
    assert read_readme(tmp_path) == Readme()


def test_the_first_paragraph_is_the_first_that_says_something(tmp_path: Path) -> None:
    readme = reading(
        tmp_path,
        "# Name\n\n[![badge](https://x/y.svg)](https://x)\n\n<p align='center'>logo</p>\n\n"
        "<!-- Provide a quick summary. -->\n\n- [Contents of this card](#a)\n- [More of it](#b)\n\n"
        "[More Information Needed] in this place\n\n"
        "A **small** [model](https://x) that was\ntrained on `reviews`, R&amp;D only.\n\nMore.\n",
    )
    assert readme.about == "A small model that was trained on reviews, R&D only."


def test_a_long_passage_ends_with_a_sentence(tmp_path: Path) -> None:
    sentence = "It tends to agree with whoever spoke last in a conversation. "
    readme = reading(tmp_path, f"## Limitations\n\n{sentence * 20}")
    assert readme.limits == {"Limitations": (sentence * 4).strip()}
    endless = reading(tmp_path, "## Limitations\n\n" + "word " * 200).limits["Limitations"]
    assert endless.endswith("word…") and len(endless) <= 301


def test_sections_about_limits_are_found_by_their_headings(tmp_path: Path) -> None:
    readme = reading(
        tmp_path,
        "## Uses\n\nFor research on how answers come about in networks.\n\n"
        "### Out-of-Scope Use\n\n[More Information Needed]\n\n"
        "## Intended uses & limitations\n\n```python\nprint('code')\n```\n\n"
        "### How to use\n\nYou can use the raw model for masked language modelling.\n\n"
        "## Bias, Risks, and Limitations\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "What is known of it:\n\n- It repeats what the web says of people.\n- It makes up facts\n\n"
        "## Training\n\nIt was trained on a great many words from the web.\n",
    )
    assert readme.limits == {
        "Intended uses & limitations": "You can use the raw model for masked language modelling.",
        "Bias, Risks, and Limitations": "What is known of it: It repeats what the web says of "
        "people. It makes up facts.",
    }


def test_a_lead_in_without_its_list_ends_as_a_sentence(tmp_path: Path) -> None:
    readme = reading(
        tmp_path, "## Bias\n\nThis model can have biased predictions:\n\n```\nx\n```\n"
    )
    assert readme.limits == {"Bias": "This model can have biased predictions."}
