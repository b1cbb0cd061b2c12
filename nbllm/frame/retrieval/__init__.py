"""Finding rows by their texts: word counts, rankings, and what a user liked."""
