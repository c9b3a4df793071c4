"""`tts-provider book`: a file becomes an audiobook."""
