"""DataFrame in, DataFrame out."""

# The columns that a verb can add: the answer, its probability, its error, and its run.
KEEP = ("value", "score", "error", "run")
