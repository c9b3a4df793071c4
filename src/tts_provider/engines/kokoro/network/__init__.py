"""Kokoro's network: its graph cut, prepared, run, and what its chunks are normed with."""
