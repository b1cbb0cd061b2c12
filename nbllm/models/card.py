"""What a Model shows of itself, as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nbllm.models.memory import readable

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["facts", "html", "plain"]

# JupyterLab's variables, so that the card follows its theme; the fallbacks are the system
# colours, which follow the reader's wherever the card is shown outside of JupyterLab.
_STYLE = {
    "card": "display:inline-block;max-width:100%;box-sizing:border-box;padding:12px 16px;"
    "border:1px solid var(--jp-border-color1,GrayText);border-radius:4px;"
    "background:var(--jp-layout-color1,Canvas);color:var(--jp-ui-font-color1,CanvasText);"
    "font:var(--jp-ui-font-size1,13px)/1.5 var(--jp-ui-font-family,system-ui,sans-serif)",
    "name": "font-weight:600;font-size:1.15em;margin-bottom:6px",
    "list": "display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:0",
    "term": "color:var(--jp-ui-font-color2,CanvasText);font-weight:400;white-space:nowrap",
    "value": "margin:0;overflow-wrap:anywhere",
}


def facts(model: Model) -> dict[str, str]:
    """The lines of the card, most telling first."""
    config = model.network.config.get_text_config()
    return {
        "kind": model.kind,
        "parameters": _count(model.network.num_parameters()),
        "layers × heads": f"{config.num_hidden_layers} × {config.num_attention_heads}",
        "quantization": model.quantization,
        "bytes": readable(model.network.get_memory_footprint()),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "context": f"{model.context_length:,} tokens",
        "licence": model.licence or "not stated",
        "revision": model.revision[:12],
        "source": model.source,
    }


def plain(model: Model) -> str:
    """The card as text."""
    if not model.loaded:
        return f"Model {model.name} (unloaded)"
    lines = facts(model)
    width = max(map(len, lines))
    return "\n".join([f"Model {model.name}", *(f"  {k:<{width}}  {v}" for k, v in lines.items())])


def html(model: Model) -> str:
    """The card as HTML: no script, no class, nothing fetched."""
    if not model.loaded:
        return f'<div style="{_STYLE["card"]}">{escape(model.name)} (unloaded)</div>'
    rows = "".join(
        f'<dt style="{_STYLE["term"]}">{escape(term)}</dt>'
        f'<dd style="{_STYLE["value"]}">{escape(value)}</dd>'
        for term, value in facts(model).items()
    )
    return (
        f'<div style="{_STYLE["card"]}"><div style="{_STYLE["name"]}">{escape(model.name)}</div>'
        f'<dl style="{_STYLE["list"]}">{rows}</dl></div>'
    )


def _count(parameters: int) -> str:
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2f} B"
    return f"{parameters / 1e6:.1f} M"
