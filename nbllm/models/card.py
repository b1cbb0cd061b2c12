"""The card of a model, as text and as HTML: its kind, cost, licence, limits and origin.

All of it comes from the model in memory and from the files of its checkpoint; nothing is
fetched, and what others wrote is escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nbllm.display.card import card, side_by_side, terms, terms_text
from nbllm.display.theme import STYLE
from nbllm.escaping import escape, visible
from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.kind import Kind
from nbllm.models.memory.budget import held_by_device, kv_bytes
from nbllm.models.quantization.schemes import attention_is_whole
from nbllm.models.readme import Readme, read_readme
from nbllm.models.sizes import largest
from nbllm.wording import byte_size, counted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from nbllm.models.fetch.catalog import CatalogEntry
    from nbllm.models.openvino import Pipeline

__all__ = ["html", "plain"]

_LABELS_SHOWN, _PARTS_SHOWN = 8, 4


class Described(Protocol):
    """The attributes of a `Model` that its card reads."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    name: str
    source: str
    revision: str
    quantization: str
    context_length: int
    licence: str | None
    folder: Path | None
    adapter: str | None
    adapter_revision: str | None
    merged: bool
    pipeline: Pipeline | None

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def loaded(self) -> bool: ...


def plain(model: Described) -> str:
    """Return the card as text.

    Args:
        model: a loaded model, or one that was unloaded.
    """
    if not model.loaded:
        return visible(f"Model {model.name} (unloaded)")
    pairs = [pair for group in _groups(model) for pair in group.items()]
    return terms_text(f"Model {model.name}", pairs, about=_about(model) or "")


def html(model: Described) -> str:
    """Return the card as HTML: no script, no class, nothing fetched.

    Args:
        model: a loaded model, or one that was unloaded.
    """
    if not model.loaded:
        return card(model.name, "<div>(unloaded)</div>")
    intro = _about(model)
    lead = "" if intro is None else f'<p style="{STYLE["about"]}">{escape(intro)}</p>'
    being, cost, use, origin = (terms(group, link=True) for group in _groups(model))
    return card(model.name, lead, side_by_side(being, cost), use, origin)


def _about(model: Described) -> str | None:
    """Return a sentence or two about it: the catalog's, else the first of its README.md."""
    entry = _entry(model)
    return _readme(model).about if entry is None else entry.what


def _groups(model: Described) -> tuple[dict[str, str], ...]:
    """Return the lines of the card as label and text: kind, cost, use and origin."""
    readme, entry = _readme(model), _entry(model)
    return (_being(model, readme, entry), _cost(model), _use(model, readme, entry), _origin(model))


def _being(model: Described, readme: Readme, entry: CatalogEntry | None) -> dict[str, str]:
    config = model.network.config.get_text_config()
    lines = {
        "kind": _kind(model),
        "architecture": type(model.network).__name__,
        "layers × heads": _shape(config),
    }
    if model.kind == "classifier":
        lines["labels"] = _some(list((model.network.config.id2label or {}).values()))
    elif model.kind == "encoder":
        lines["embedding"] = counted(largest(config, "hidden_size"), "dimension")
    lines |= {
        "vocabulary": counted(len(model.tokenizer), "token"),
        "context": counted(model.context_length, "token"),
        "attention": getattr(model.network.config, "_attn_implementation", None) or "its own",
    }
    stated = {
        "languages": entry.languages if entry is not None else ", ".join(readme.languages),
        "made for": readme.task,
        "made from": readme.base_model,
        "trained on": _some(readme.datasets),
    }
    return lines | {term: text for term, text in stated.items() if text}


def _cost(model: Described) -> dict[str, str]:
    lines = {"parameters": _count(model.network.num_parameters()), "memory": _memory(model)}
    if model.kind in ("causal", "seq2seq"):
        lines["KV cache"] = _cache(model)
    if model.folder is not None:
        stored = sum(f.stat().st_size for f in model.folder.iterdir() if f.is_file())
        lines["disk"] = byte_size(stored)
    if model.pipeline is not None:
        repacked = byte_size(model.pipeline.file.stat().st_size)
        lines["text engine"] = f"{model.pipeline.version}, with {repacked} of weights of its own"
    whole = model.quantization in ("nf4", "fp4") and attention_is_whole(model.network)
    return lines | {
        "quantization": f"{model.quantization}, attention whole" if whole else model.quantization,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _memory(model: Described) -> str:
    from nbllm.models.memory.placement import is_spread, placement

    held = held_by_device(model.network)
    if not is_spread(model.network):
        return f"{byte_size(sum(held.values()))} on {model.device}"
    places_of_parts = placement(model.network)
    places = [f"{byte_size(size)} on {device}" for device, size in sorted(held.items())]
    if "disk" in places_of_parts.values():
        places.append("the rest on disk")
    parts = [f"{part or 'all'} on {place}" for part, place in places_of_parts.items()]
    more = f" and {len(parts) - _PARTS_SHOWN} more" if len(parts) > _PARTS_SHOWN else ""
    return f"{', '.join(places)} ({', '.join(parts[:_PARTS_SHOWN])}{more})"


def _use(model: Described, readme: Readme, entry: CatalogEntry | None) -> dict[str, str]:
    lines = {"licence": model.licence or readme.licence or "not stated"}
    terms = readme.terms if entry is None else entry.terms
    if terms:
        lines["terms"] = terms
    if entry is not None:
        return lines | {"known limits": entry.limits}
    return lines | (dict(readme.limits) or {"known limits": "its files state none"})


def _origin(model: Described) -> dict[str, str]:
    lines = {"source": model.source, "revision": model.revision[:12]}
    if model.adapter is not None:
        how = "merged into the weights" if model.merged else "beside the weights"
        lines["adapter"] = f"{model.adapter}, {(model.adapter_revision or '')[:12]}, {how}"
    return lines


def _cache(model: Described) -> str:
    if _heads(model.network.config.get_text_config()) is None:
        return "none: a state of fixed size instead, however long the text"
    held = kv_bytes(model.network.config, model.dtype, 1000)
    return f"{byte_size(held)} for 1,000 tokens of one text"


def _kind(model: Described) -> str:
    if model.kind == "extractive_qa":
        return "extractive question answering: answers with words of a text"
    if model.kind != "causal":
        return model.kind
    if model.tokenizer.chat_template:
        return "causal, with a chat template: follows instructions"
    return "causal, without a chat template: a base model, which goes on with a text"


def _shape(config: Any) -> str:
    """Return layers and attention heads, of encoder and decoder where it has both."""
    heads = _heads(config)
    layers = str(getattr(config, "num_hidden_layers", "?"))
    if config.is_encoder_decoder:
        other = getattr(config, "decoder_layers", None) or getattr(
            config, "num_decoder_layers", "?"
        )
        layers = f"({layers} + {other})"
    return f"{layers} layers, no attention" if heads is None else f"{layers} × {heads}"


def _heads(config: Any) -> int | None:
    """Return the attention heads of a layer; None without attention, as in Mamba and RWKV."""
    heads = getattr(config, "num_attention_heads", None)
    return heads if isinstance(heads, int) else None


def _some(names: Any) -> str:
    """Return the first names of a list that may be long."""
    left = len(names) - _LABELS_SHOWN
    shown = ", ".join(str(name) for name in names[:_LABELS_SHOWN])
    return f"{shown} and {left:,} more" if left > 0 else shown


def _count(parameters: int) -> str:
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2f} B"
    return f"{parameters / 1e6:.1f} M"


def _entry(model: Described) -> CatalogEntry | None:
    return next((e for e in CATALOG.values() if e.source == model.source), None)


def _readme(model: Described) -> Readme:
    return Readme() if model.folder is None else read_readme(model.folder)
