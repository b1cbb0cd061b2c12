"""Finding rows by their texts: word counts, rankings, and histories of users."""
