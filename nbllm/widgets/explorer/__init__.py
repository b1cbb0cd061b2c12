"""The results explorer: a frame that verbs answered, as a table that is sorted and filtered."""
