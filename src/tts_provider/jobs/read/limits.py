"""What a stranger's file may cost, and how it is said that it costs more."""

from __future__ import annotations

from tts_provider.errors import InvalidRequest

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Of the file itself, pictures included."""
MAX_ENTRY_BYTES = 24 * 1024 * 1024
"""Of one file in an archive, unpacked."""
MAX_UNPACKED_BYTES = 96 * 1024 * 1024
"""Of all files that are read in an archive."""
MAX_ENTRIES = 20_000
"""Files in an archive."""
MAX_CHARACTERS = 12_000_000
"""Of a book's text: the Bible has 4.3 million."""
MAX_CHAPTERS = 2000
"""The Bible has 1189."""
MAX_BLOCKS = 400_000
MAX_COVER_BYTES = 4 * 1024 * 1024
"""A larger picture is left out."""
LONGEST_NAME = 300
"""Characters of a title or an author; the rest is cut off."""


def damaged(kind: str, reason: str) -> InvalidRequest:
    """`reason` says what was found, `kind` what was expected."""
    return InvalidRequest(f"the file is no {kind} that can be read: {reason}", code="invalid_book")


def too_large(what: str, most: int, unit: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what} has more than {most} {unit}, the limit; send it in parts",
        code="book_too_large",
    )


def no_text(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the file has no text to speak: {reason}", code="empty_book")
