"""Tables, cards, charts and progress bars, from plain data."""
