"""The tag before a book's MP3: ID3v2.4 with chapters.

FFmpeg writes a cover behind the first frame of audio that we are about to write ourselves, and no
more than 255 chapters. https://id3.org/id3v2.4.0-structure, https://id3.org/id3v2-chapters-1.0
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from tts_provider.audio.encode import tag
from tts_provider.audio.encode.tag import ChapterMark, FileTags

_UTF_8 = b"\x03"
_FRONT_COVER = 3
_TOP_LEVEL, _ORDERED = 2, 1
_MOST_CHILDREN = 255  # of a table of contents: their count is one byte
_UNKNOWN = 0xFFFF_FFFF  # a chapter's places in bytes: its times say where it is


def write_id3(tags: FileTags) -> bytes:
    """The whole tag."""
    texts = {
        "TIT2": tags.title,
        "TPE1": tags.author,
        "TPE2": tags.author,
        "TALB": tags.album or tags.title,
        "TRCK": tags.track,
        "TCON": "Audiobook",
        "TSSE": tag.SOFTWARE,
    }
    frames = [_text(name, text) for name, text in texts.items() if text]
    frames.append(_frame("COMM", _UTF_8 + b"eng\0" + tag.COMMENT.encode("ascii")))
    frames += _chapters(tags.chapters)
    if tags.cover is not None:
        media_type, data = tags.cover
        head = _UTF_8 + media_type.encode("ascii") + bytes((0, _FRONT_COVER, 0))
        frames.append(_frame("APIC", head + data))
    body = b"".join(frames)
    return b"ID3\x04\0\0" + _synchsafe(len(body)) + body


def _chapters(chapters: Sequence[ChapterMark]) -> Iterator[bytes]:
    if not chapters:
        return
    names = [f"ch{number}" for number in range(len(chapters))]
    tables = [names[at : at + _MOST_CHILDREN] for at in range(0, len(names), _MOST_CHILDREN)]
    if len(tables) == 1:
        yield _contents("toc", _TOP_LEVEL | _ORDERED, names)
    else:
        parts = [f"toc{number}" for number in range(len(tables))]
        yield _contents("toc", _TOP_LEVEL | _ORDERED, parts)
        for name, children in zip(parts, tables, strict=True):
            yield _contents(name, _ORDERED, children)
    for name, chapter in zip(names, chapters, strict=True):
        times = struct.pack(">IIII", chapter.start_ms, chapter.end_ms, _UNKNOWN, _UNKNOWN)
        yield _frame("CHAP", _latin(name) + times + _text("TIT2", chapter.title))


def _contents(name: str, flags: int, children: Sequence[str]) -> bytes:
    listed = b"".join(map(_latin, children))
    return _frame("CTOC", _latin(name) + bytes((flags, len(children))) + listed)


def _latin(name: str) -> bytes:
    return name.encode("ascii") + b"\0"


def _text(name: str, text: str) -> bytes:
    return _frame(name, _UTF_8 + text.encode("utf-8"))


def _frame(name: str, data: bytes) -> bytes:
    return name.encode("ascii") + _synchsafe(len(data)) + b"\0\0" + data


def _synchsafe(value: int) -> bytes:
    """Seven bits a byte, so that no decoder takes a size for the beginning of audio."""
    return bytes(value >> shift & 0x7F for shift in (21, 14, 7, 0))
