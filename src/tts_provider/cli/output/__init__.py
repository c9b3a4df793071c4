"""Where speech goes from the command line: a player, captions."""
