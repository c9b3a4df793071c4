"""Converts a text in any of Kokoro's languages to the sounds that Kokoro has learned."""
