"""Adapters (LoRA) that are not merged: each voice may have its own."""
