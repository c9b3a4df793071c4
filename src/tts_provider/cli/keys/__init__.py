"""API keys on the command line: who has one, and what they used."""
