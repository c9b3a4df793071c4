"""espeak-ng: a hundred languages, robotic."""
