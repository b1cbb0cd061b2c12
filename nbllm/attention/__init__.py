"""What a model looked at: recordings of its attention, and what is read off them."""
