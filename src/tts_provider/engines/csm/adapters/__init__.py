"""Adapters (LoRA) that are not merged: each voice may speak with one of its own."""
