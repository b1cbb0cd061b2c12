"""Sizes that a configuration states, which may differ from layer to layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["largest", "stated", "text_config"]


def largest(config: PreTrainedConfig, name: str) -> int:
    """Return a size of a configuration, the largest of those of its layers; 0 for none.

    Args:
        config: of a network.
        name: of the size, such as "hidden_size".
    """
    return max((size for size in stated(config, name) if isinstance(size, int)), default=0)


def stated(config: PreTrainedConfig, name: str) -> list[Any]:
    """Return what a configuration states as a size, of each of its layers; nothing for None.

    Args:
        config: of a network.
        name: of the size, such as "hidden_size".
    """
    try:
        found: Any = getattr(config, name, None)
    except RuntimeError:  # transformers asks for that of each layer
        layers: Any = config.per_layer_config
        found = [getattr(layer, name, None) for layer in layers]
    values = found if isinstance(found, (list, tuple)) else [found]
    return [value for value in values if value is not None]


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the part of a configuration that holds the sizes of what reads text.

    Args:
        config: of a network.
    """
    text: PreTrainedConfig = config.get_text_config()
    halves = (text, getattr(text, "decoder", None))
    sizes = ("hidden_size", "num_hidden_layers")
    sized = (half for half in halves if half and all(largest(half, name) for name in sizes))
    return next(sized, text)
