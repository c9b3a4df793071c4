"""Engines on other machines: what a gateway asks, and what a replica answers."""
