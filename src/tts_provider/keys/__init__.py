"""API keys that are somebody: who calls, what they may do, how much, and what they did."""
