"""One module per kind of task: how a model answers, and what its answers mean."""
