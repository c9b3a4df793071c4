"""Decodes audio files from clients to samples."""
