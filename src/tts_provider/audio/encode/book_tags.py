"""Title, author, chapters and cover → what FFmpeg's muxers write of them: in FLAC and Opus."""

from __future__ import annotations

import base64
import struct

from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition

from tts_provider.audio.encode.tag import FileTags

_TOP_LEVEL_COVER = 3  # "Cover (front)", RFC 9639 section 8.8
_MOST_SIDE = 65_500  # what JPEG can have

# ISO 10918-1 table B.1: frames' headers, which have a picture's size.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def add_tags(container: OutputContainer, audio_format: str, tags: FileTags) -> Packet | None:  # type: ignore[type-arg]
    """Before encoding starts. What comes back is the cover's packet, to be written first."""
    told = {
        "title": tags.title,
        "artist": tags.author,
        "album_artist": tags.author,
        "album": tags.album or tags.title,
        "track": tags.track,
        "genre": "Audiobook",
    }
    container.metadata.update({name: value for name, value in told.items() if value})
    # https://wiki.xiph.org/Chapter_Extension. FFmpeg writes none into FLAC, and in Ogg rounds
    # seconds up: 11.759 becomes 12.759.
    for number, chapter in enumerate(tags.chapters):
        container.metadata[f"CHAPTER{number:03}"] = _clock(chapter.start_ms)
        container.metadata[f"CHAPTER{number:03}NAME"] = chapter.title
    return _add_cover(container, audio_format, tags)


def _add_cover(container: OutputContainer, audio_format: str, tags: FileTags) -> Packet | None:  # type: ignore[type-arg]
    if tags.cover is None:
        return None
    media_type, data = tags.cover
    size = picture_size(data)
    if size is None:
        return None
    if audio_format == "opus":  # https://wiki.xiph.org/VorbisComment#METADATA_BLOCK_PICTURE
        block = _picture_block(media_type, data, size)
        container.metadata["METADATA_BLOCK_PICTURE"] = base64.b64encode(block).decode("ascii")
        return None
    codec = "png" if media_type == "image/png" else "mjpeg"
    stream = container.add_mux_stream(codec, width=size[0], height=size[1])
    stream.disposition = Disposition.attached_pic
    packet = Packet(data)
    packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
    return packet


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG; None where they cannot be seen. Nothing is decoded: it may
    be a stranger's."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return (width, height) if 0 < width <= _MOST_SIDE and 0 < height <= _MOST_SIDE else None
    at = 2
    while data.startswith(b"\xff\xd8") and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return (width, height) if width and height else None
        at += 2 + length
    return None


def _picture_block(media_type: str, data: bytes, size: tuple[int, int]) -> bytes:
    """RFC 9639 section 8.8."""
    kind = media_type.encode("ascii")
    return (
        struct.pack(">II", _TOP_LEVEL_COVER, len(kind))
        + kind
        + struct.pack(">IIIIII", 0, *size, 24, 0, len(data))
        + data
    )


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
