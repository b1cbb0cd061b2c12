"""DataFrame in, DataFrame out."""

# The columns that a verb can add: the answer, its probability, its error, and the run's id.
KEEP = ("value", "score", "error", "run")
