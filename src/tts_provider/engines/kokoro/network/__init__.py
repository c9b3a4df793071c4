"""Kokoro's network: its graph is cut, prepared and run, and its chunks are normalized."""
