"""One voice into another."""
