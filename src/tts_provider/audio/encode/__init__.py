"""Samples → the bytes of a file."""
