"""The attention viewer: recordings as matrices, lines and coloured words; its exports."""
