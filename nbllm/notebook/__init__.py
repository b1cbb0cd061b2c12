"""The IPython extension: `%load_ext nbllm` brings the magics, `%unload_ext nbllm` ends them."""
