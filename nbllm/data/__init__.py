"""Data sets by name: a local folder, the hub, and small sets written for this project."""

from nbllm.data.loading import load

__all__ = ["load"]
