"""The IPython extension: `%load_ext nbllm` adds the magics, `%unload_ext nbllm` removes them."""
