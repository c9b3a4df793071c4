"""Converts Markdown, HTML, SSML and chat text to plain text that knows where it was written."""
