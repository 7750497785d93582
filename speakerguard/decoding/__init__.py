"""Bytes in any format, and whether they are whole."""
