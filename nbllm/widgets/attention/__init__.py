"""The attention viewer: recordings as matrices, lines and words, in a notebook and out of it."""
