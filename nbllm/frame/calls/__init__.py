"""What a verb is, how it is called, and which verbs there are."""
