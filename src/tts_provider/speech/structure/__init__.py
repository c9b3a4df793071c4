"""Markdown, HTML, SSML and what chats have → plain text that knows where it was written."""
