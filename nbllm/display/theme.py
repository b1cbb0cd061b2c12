"""Styles and chart colours of HTML output.

CSS variables follow JupyterLab's theme; elsewhere, their fallbacks follow the system colours.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BLUE",
    "CHART",
    "GREEN",
    "GREY",
    "LIGHT_GREY",
    "MARK",
    "STACK",
    "STYLE",
    "VERMILION",
    "translucent",
    "use_chart_theme",
]

GREY = "#888888"
LIGHT_GREY = "#999999"
# By Okabe and Ito (https://jfly.uni-koeln.de/color/), distinguishable with colour-blindness.
BLUE = "#0072B2"
GREEN = "#009E73"
_ORANGE = "#E69F00"
VERMILION = "#D55E00"
# Adjacent parts of a stacked bar, distinguishable on a light and on a dark background.
STACK = ("#4269d0", "#efb118", "#3ca951", "#9498a0")


def translucent(colour: str, opacity: float) -> str:
    """Return a translucent colour for CSS and plotly.

    Args:
        colour: The colour as "#rrggbb".
        opacity: The opacity, 0 to 1.

    Example:
        >>> translucent(BLUE, 0.2)
        'rgba(0,114,178,0.2)'
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgba({red},{green},{blue},{opacity:g})"


_CLEAR = "rgba(0,0,0,0)"
_AXIS = {"gridcolor": translucent(GREY, 0.25), "zerolinecolor": translucent(GREY, 0.6)}
# plotly has no CSS variables; grey text is readable on a light and on a dark page.
CHART: dict[str, Any] = {
    "template": {"layout": {"xaxis": _AXIS, "yaxis": _AXIS}},
    "font_color": GREY,
    "paper_bgcolor": _CLEAR,
    "plot_bgcolor": _CLEAR,
    # By default the bar is half of the paper's colour, which for a clear black is a dark slab.
    "modebar": {"bgcolor": _CLEAR, "color": translucent(GREY, 0.7), "activecolor": GREY},
}
MARK = f"background:{translucent(_ORANGE, 0.3)};color:inherit"  # marked text, on light and dark

_FAINT = "color:var(--jp-ui-font-color2,CanvasText)"
_LINE = "1px solid var(--jp-border-color2,GrayText)"
# Overrides JupyterLab's style of definition lists: floating terms, a fifth of the width.
_NOT_FLOATING = "float:none;width:auto;padding:0"
_CELL = "padding:3px 20px 3px 0;vertical-align:top;background:none"

STYLE = {
    "card": "display:inline-block;max-width:min(100%,64em);box-sizing:border-box;overflow-x:auto;"
    "padding:12px 16px;border:1px solid var(--jp-border-color1,GrayText);border-radius:4px;"
    "background:var(--jp-layout-color1,Canvas);color:var(--jp-ui-font-color1,CanvasText);"
    "font:var(--jp-ui-font-size1,13px)/1.5 var(--jp-ui-font-family,system-ui,sans-serif)",
    "name": "font-weight:600;font-size:1.15em",
    "about": f"margin:2px 0 8px;{_FAINT}",
    "group": f"margin:8px 0 0;padding-top:8px;border-top:{_LINE};display:grid;"
    "grid-template-columns:8.5em 1fr;gap:2px 16px;align-content:start",
    "side_by_side": "display:grid;grid-template-columns:repeat(auto-fit,minmax(20em,1fr));"
    "gap:0 32px",
    "term": f"margin:0;{_NOT_FLOATING};font-weight:400;{_FAINT}",
    "value": f"margin:0;{_NOT_FLOATING};overflow-wrap:anywhere",
    "link": "color:var(--jp-content-link-color,LinkText)",
    "table": "table-layout:auto;border-collapse:collapse;border:none;margin:0 0 12px;"
    "font-size:inherit;color:inherit;width:100%",
    "caption": "caption-side:top;text-align:left;font-weight:600;padding:0 0 4px;color:inherit",
    "head": f"{_CELL};border:none;border-bottom:{_LINE};white-space:nowrap;font-weight:400;"
    f"{_FAINT}",
    "cell": f"{_CELL};border:none",
    "text": "text-align:left;white-space:nowrap",
    "long": "text-align:left;min-width:14em;overflow-wrap:anywhere",
    "number": "text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums",
}


def use_chart_theme() -> None:
    """Set plotly's default template to one that is readable in light and dark themes.

    It sets `plotly.io.templates.default` for this session; existing charts do not change.

    Example:
        >>> nbllm.use_chart_theme()  # doctest: +SKIP
    """
    import plotly.io as pio

    layout = {key: value for key, value in CHART.items() if key != "template"}
    pio.templates["nbllm"] = {"layout": {**CHART["template"]["layout"], **layout}}
    pio.templates.default = "plotly_white+nbllm"
