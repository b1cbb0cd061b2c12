"""The interface of a verb, the registry of verbs, and how a call is run."""
