"""The Python halves of nbllm's widgets, a folder each; the browser halves lie in widgets/."""
