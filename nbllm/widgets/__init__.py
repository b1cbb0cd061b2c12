"""The Python halves of nbllm's widgets, one file each; the browser halves lie in widgets/."""
