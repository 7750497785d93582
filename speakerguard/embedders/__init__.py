"""Whatever gives an embedding, by name."""
