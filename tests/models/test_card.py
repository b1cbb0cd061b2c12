"""What a model shows of itself."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import transformers

from nbllm.models.architecture import skeleton
from nbllm.models.fetch import catalog
from nbllm.models.kind import Kind
from nbllm.models.model import Model

README = """---
license: other
license_name: careful-1.0
license_link: https://example.org/careful
language: [en, de]
base_model: some/base
datasets: [some/reviews]
pipeline_tag: text-generation
---
# A model
It was made to show what a card does with what its publisher wrote.

## Limitations
It is wrong about <b>most</b> things, and says so [rarely](https://example.org).
"""


@pytest.fixture
def model(tiny_llama: Model) -> Model:
    return replace(
        tiny_llama, name="<script>alert(1)</script>", licence='"MIT" & <b>more</b>', source="a<b>"
    )


def lines(model: Model) -> dict[str, str]:
    """The card as label and text, from the text that is printed."""
    split = (re.split(r"  +", line.strip(), maxsplit=1) for line in repr(model).splitlines())
    return {found[0]: found[1] for found in split if len(found) == 2}


class Reader(HTMLParser):
    """The tags, words and addresses of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_card_tells_all_that_it_should(tiny_llama: Model) -> None:
    tiny_llama.licence = "Apache-2.0"
    text, html = repr(tiny_llama), tiny_llama._repr_html_()
    for fact in (
        "tiny-causal", "causal, with a chat template", "LlamaForCausalLM", "2 × 4", "400 tokens",
        "2,048 tokens", "sdpa", "0.1 M", "512 kB for 1,000 tokens", "none", "float32",
        "Apache-2.0", "its files state none", "made in the test", "000000000000",
    ):  # fmt: skip
        assert fact in text and fact in html
    assert re.fullmatch(r"\d+ kB on cpu", lines(tiny_llama)["memory"])


def test_what_the_publisher_wrote_is_shown_in_short(tiny_llama: Model, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 3000)
    card = lines(replace(tiny_llama, folder=tmp_path, licence=None))
    assert "It was made to show what a card does" in repr(replace(tiny_llama, folder=tmp_path))
    shown = {
        "languages": "en, de",
        "made from": "some/base",
        "trained on": "some/reviews",
        "made for": "text-generation",
        "licence": "careful-1.0",
        "terms": "https://example.org/careful",
        "Limitations": "It is wrong about most things, and says so rarely.",
    }
    assert shown.items() <= card.items()
    assert re.fullmatch(r"\d kB", card["disk"])
    assert "known limits" not in card


def test_a_model_of_the_catalog_says_what_the_catalog_says(tiny_llama: Model) -> None:
    entry = catalog.CATALOG["gemma3-270m"]
    card = replace(tiny_llama, source=entry.source)
    assert entry.what in repr(card)
    shown = {"languages": entry.languages, "terms": entry.terms, "known limits": entry.limits}
    assert shown.items() <= lines(card).items()
    assert Reader(card._repr_html_()).addresses == [entry.terms]


def test_a_base_model_is_told_from_one_that_chats(tiny_llama: Model) -> None:
    tiny_llama.tokenizer.chat_template = None
    assert "base model" in lines(tiny_llama)["kind"]


def test_labels_of_a_classifier_and_width_of_an_encoder(
    tiny_classifier: Model, tiny_encoder: Model
) -> None:
    assert lines(tiny_classifier)["labels"] == "negative, positive"
    many = {number: f"intent {number}" for number in range(40)}
    tiny_classifier.network.config.id2label = many
    assert lines(tiny_classifier)["labels"].endswith("intent 7 and 32 more")
    assert lines(tiny_encoder)["embedding"] == "64 dimensions"
    assert "KV cache" not in lines(tiny_encoder)


def test_an_adapter_is_named(tiny_llama: Model) -> None:
    adapted = replace(tiny_llama, adapter="hub:some/lora", adapter_revision="f" * 40, merged=True)
    assert lines(adapted)["adapter"] == "hub:some/lora, ffffffffffff, merged into the weights"


def test_nothing_in_it_is_markup_of_the_model(model: Model, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nlicense_link: \"javascript:alert('x')\"\nbase_model: '<img src=x>'\n---\n"
        "Words with <script>alert(2)</script> in them & <i>more</i>, &lt;u&gt; and so on.\n\n"
        "# <img src=x onerror=alert(3)> Limitations `<s>`\n"
        'None at all, says the "publisher", but for `<script>` in code.\n'
    )
    read = Reader(replace(model, folder=tmp_path)._repr_html_())
    assert read.tags == {"div", "p", "dl", "dt", "dd"}
    assert read.addresses == []
    assert {"<script>alert(1)</script>", '"MIT" & <b>more</b>', "a<b>"} <= set(read.words)
    assert {"<img src=x>", "javascript:alert('x')"} <= set(read.words)


def test_its_colours_are_the_themes_with_a_fallback(tiny_llama: Model) -> None:
    html = tiny_llama._repr_html_()
    colours = re.findall(r"[;\"](?:color|background|border|border-top):[^;\"]*", html)
    assert colours
    assert all("var(--jp-" in c and "," in c for c in colours)
    assert "http" not in html and "url(" not in html


def test_an_unloaded_model_still_says_its_name(tiny_llama: Model) -> None:
    tiny_llama.unload()
    assert "tiny-causal (unloaded)" in repr(tiny_llama)
    assert "(unloaded)" in tiny_llama._repr_html_()


SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
HALVES = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("kind", "name", "config", "sizes", "shape"),
    [
        ("causal", "LlamaForCausalLM", "LlamaConfig", SIZES, "2 × 4"),
        ("causal", "Gemma3ForCausalLM", "Gemma3TextConfig", SIZES, "2 × 4"),
        ("causal", "MixtralForCausalLM", "MixtralConfig", SIZES, "2 × 4"),
        ("causal", "GPTNeoXForCausalLM", "GPTNeoXConfig", SIZES, "2 × 4"),
        ("causal", "GPT2LMHeadModel", "GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4},
         "2 × 4"),
        ("causal", "FalconForCausalLM", "FalconConfig", SIZES, "2 × 4"),
        ("causal", "BloomForCausalLM", "BloomConfig",
         {"hidden_size": 64, "n_layer": 2, "n_head": 4}, "2 × 4"),
        ("causal", "MambaForCausalLM", "MambaConfig", {"hidden_size": 64, "num_hidden_layers": 2},
         "2 layers, no attention"),
        ("causal", "RwkvForCausalLM", "RwkvConfig",
         {"hidden_size": 64, "attention_hidden_size": 64, "num_hidden_layers": 2},
         "2 layers, no attention"),
        ("seq2seq", "T5ForConditionalGeneration", "T5Config",
         {"d_model": 64, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}, "(2 + 3) × 4"),
        ("seq2seq", "BartForConditionalGeneration", "BartConfig", HALVES, "(2 + 3) × 4"),
        ("seq2seq", "MarianMTModel", "MarianConfig", HALVES, "(2 + 3) × 4"),
        ("classifier", "DistilBertForSequenceClassification", "DistilBertConfig",
         {"dim": 64, "n_layers": 2, "n_heads": 4}, "2 × 4"),
        ("encoder", "RobertaModel", "RobertaConfig", SIZES, "2 × 4"),
        ("encoder", "ModernBertModel", "ModernBertConfig", {**SIZES, "pad_token_id": 0}, "2 × 4"),
        ("encoder", "DebertaV2Model", "DebertaV2Config", SIZES, "2 × 4"),
    ],
)  # fmt: skip
def test_every_architecture_has_a_card(
    tiny_llama: Model, kind: Kind, name: str, config: str, sizes: dict[str, Any], shape: str
) -> None:
    made = getattr(transformers, config)(vocab_size=400, architectures=[name], **sizes)
    network = skeleton(made, kind)
    model = replace(tiny_llama, network=network, kind=kind)
    card = lines(model)
    assert card["architecture"] == name
    assert card["layers × heads"] == shape
    assert card["parameters"] == f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M"
    assert name in model._repr_html_()
    assert card.get("KV cache", "").startswith("none") == ("no attention" in shape)
    assert ("KV cache" in card) == (kind in ("causal", "seq2seq"))
    assert ("embedding" in card) == (kind == "encoder")
    assert ("labels" in card) == (kind == "classifier")
