"""A text in any of its languages → the sounds that Kokoro has learned."""
