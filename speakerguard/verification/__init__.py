"""A claim decided, without torch."""
