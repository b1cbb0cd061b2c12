"""What a Model shows of itself, as text and as HTML: what it is, what it costs, what to mind.

All of it comes from the model in memory and from the files of its checkpoint; nothing is
fetched, and what others wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbllm.display.theme import STYLE
from nbllm.escaping import escape, visible
from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.memory.budget import held_by_device, kv_bytes, readable
from nbllm.models.quantization.schemes import attention_is_whole
from nbllm.models.readme import Readme, read_readme
from nbllm.models.sizes import largest
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.models.fetch.catalog import CatalogEntry
    from nbllm.models.model import Model

__all__ = ["about", "groups", "html", "plain"]

_LABELS_SHOWN, _PARTS_SHOWN = 8, 4


def about(model: Model) -> str | None:
    """What it is in a sentence or two: the catalog's, else the first of its README.md."""
    entry = _entry(model)
    return _readme(model).about if entry is None else entry.what


def groups(model: Model) -> tuple[dict[str, str], ...]:
    """The lines of the card as label and text: what it is, costs, may be used for, comes from."""
    readme, entry = _readme(model), _entry(model)
    return (
        _being(model, readme, entry),
        _cost(model),
        _use(model, readme, entry),
        _origin(model),
    )


def plain(model: Model) -> str:
    """The card as text."""
    if not model.loaded:
        return visible(f"Model {model.name} (unloaded)")
    parts = groups(model)
    width = max(len(term) for lines in parts for term in lines)
    intro = about(model)
    return visible(
        "\n".join(
            [
                f"Model {model.name}",
                *([] if intro is None else [f"  {intro}"]),
                *(f"  {term:<{width}}  {text}" for lines in parts for term, text in lines.items()),
            ]
        )
    )


def html(model: Model) -> str:
    """The card as HTML: no script, no class, nothing fetched."""
    name = f'<div style="{STYLE["name"]}">{escape(model.name)}</div>'
    if not model.loaded:
        return f'<div style="{STYLE["card"]}">{name}<div>(unloaded)</div></div>'
    intro = about(model)
    lead = "" if intro is None else f'<p style="{STYLE["about"]}">{escape(intro)}</p>'
    being, cost, use, origin = map(_list, groups(model))
    beside = f'<div style="{STYLE["beside"]}">{being}{cost}</div>'
    return f'<div style="{STYLE["card"]}">{name}{lead}{beside}{use}{origin}</div>'


def _list(lines: Mapping[str, str]) -> str:
    rows = "".join(
        f'<dt style="{STYLE["term"]}">{escape(term)}</dt>'
        f'<dd style="{STYLE["value"]}">{_linked(text)}</dd>'
        for term, text in lines.items()
    )
    return f'<dl style="{STYLE["group"]}">{rows}</dl>'


def _linked(text: str) -> str:
    """Escaped; where all of it is an address of the web, it can be clicked."""
    shown = escape(text)
    if not text.startswith("https://") or " " in text:
        return shown
    style = f'style="{STYLE["link"]}" target="_blank" rel="noopener noreferrer"'
    return f'<a href="{shown}" {style}>{shown}</a>'


# -- what each group says ----------------------------------------------------------------------


def _being(model: Model, readme: Readme, entry: CatalogEntry | None) -> dict[str, str]:
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


def _cost(model: Model) -> dict[str, str]:
    lines = {
        "parameters": _count(model.network.num_parameters()),
        "memory": _memory(model),
    }
    if model.kind in ("causal", "seq2seq"):
        lines["KV cache"] = _cache(model)
    if model.folder is not None:
        stored = sum(f.stat().st_size for f in model.folder.iterdir() if f.is_file())
        lines["disk"] = readable(stored)
    return lines | {
        "quantization": _quantization(model),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _memory(model: Model) -> str:
    from nbllm.models.memory.placement import is_spread, placement

    held = held_by_device(model.network)
    if not is_spread(model.network):
        return f"{readable(sum(held.values()))} on {model.device}"
    places_of_parts = placement(model.network)
    places = [f"{readable(size)} on {device}" for device, size in sorted(held.items())]
    if "disk" in places_of_parts.values():
        places.append("the rest on disk")
    parts = [f"{part or 'all'} on {place}" for part, place in places_of_parts.items()]
    more = f" and {len(parts) - _PARTS_SHOWN} more" if len(parts) > _PARTS_SHOWN else ""
    return f"{', '.join(places)} ({', '.join(parts[:_PARTS_SHOWN])}{more})"


def _use(model: Model, readme: Readme, entry: CatalogEntry | None) -> dict[str, str]:
    lines = {"licence": model.licence or readme.licence or "not stated"}
    terms = readme.terms if entry is None else entry.terms
    if terms:
        lines["terms"] = terms
    if entry is not None:
        return lines | {"known limits": entry.limits}
    return lines | (dict(readme.limits) or {"known limits": "its files state none"})


def _origin(model: Model) -> dict[str, str]:
    lines = {"source": model.source, "revision": model.revision[:12]}
    if model.adapter is not None:
        how = "merged into the weights" if model.merged else "beside the weights"
        lines["adapter"] = f"{model.adapter}, {(model.adapter_revision or '')[:12]}, {how}"
    return lines


def _quantization(model: Model) -> str:
    whole = model.quantization in ("nf4", "fp4") and attention_is_whole(model.network)
    return f"{model.quantization}, attention whole" if whole else model.quantization


def _cache(model: Model) -> str:
    if _heads(model.network.config.get_text_config()) is None:
        return "none: a state of fixed size instead, however long the text"
    held = kv_bytes(model.network.config, model.dtype, 1000)
    return f"{readable(held)} for 1,000 tokens of one text"


def _kind(model: Model) -> str:
    if model.kind == "extractive_qa":
        return "extractive question answering: answers with words of a text"
    if model.kind != "causal":
        return model.kind
    if model.tokenizer.chat_template:
        return "causal, with a chat template: follows instructions"
    return "causal, without a chat template: a base model, which goes on with a text"


def _shape(config: Any) -> str:
    """Layers and attention heads, of both halves where there are two."""
    heads = _heads(config)
    layers = str(getattr(config, "num_hidden_layers", "?"))
    if config.is_encoder_decoder:
        other = getattr(config, "decoder_layers", None) or getattr(
            config, "num_decoder_layers", "?"
        )
        layers = f"({layers} + {other})"
    return f"{layers} layers, no attention" if heads is None else f"{layers} × {heads}"


def _heads(config: Any) -> int | None:
    """Attention heads of a layer; None where there is no attention, as in Mamba and RWKV."""
    heads = getattr(config, "num_attention_heads", None)
    return heads if isinstance(heads, int) else None


def _some(names: Any) -> str:
    """The first of a list of names that may be long."""
    left = len(names) - _LABELS_SHOWN
    shown = ", ".join(str(name) for name in names[:_LABELS_SHOWN])
    return f"{shown} and {left:,} more" if left > 0 else shown


def _count(parameters: int) -> str:
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2f} B"
    return f"{parameters / 1e6:.1f} M"


def _entry(model: Model) -> CatalogEntry | None:
    return next((e for e in CATALOG.values() if e.source == model.source), None)


def _readme(model: Model) -> Readme:
    return Readme() if model.folder is None else read_readme(model.folder)
