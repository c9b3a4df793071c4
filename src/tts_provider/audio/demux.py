"""Compressed audio of others → frames, by FFmpeg, which is told what it may touch.

FFmpeg trusts what files say of themselves. Measured with version 8 and defaults: an ID3 tag of 1 MB
unpacks to 2.6 GB, and an MP4 of 1 KB has a table of 1.9 GB. So bare MP3 and AAC are cut into frames
without a demuxer, an MP4's tables are looked at first, nothing may be opened beside the data, and
packets are counted.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from tts_provider.errors import InvalidRequest

_DECODERS = ("aac", "alac", "flac", "libopus", "mp3", "mp3float", "opus", "vorbis")
_CONTAINERS = ("flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "ogg")

# A minute of the shortest frames there are: Opus of 2.5 ms, FLAC's 192 samples at 192 kHz.
_MAX_PACKETS = 100_000
_MAX_IDLE_PACKETS = 5000  # without a sample: a video's, or damaged
_MAX_STREAMS = 8
_PIECE_BYTES = 64 * 1024

# A minute of a browser's recording has 1 MB. FFmpeg's index takes 40 times what the file has of it.
_MAX_MATROSKA_BYTES = 2 * 1024 * 1024
_MATROSKA = b"\x1a\x45\xdf\xa3"

_MP4_TABLES = {  # where each says for how many samples memory is needed, behind its type
    b"stsz": 8,
    b"stz2": 8,
    b"trun": 4,
}
_MAX_MP4_SAMPLES = 1_000_000
# A compressed index (of which this file could say nothing), and a picture's.
_MP4_REFUSED = (b"cmov", b"iinf", b"iloc")


def frames_of(data: bytes) -> Iterator[AudioFrame]:
    """The audio of the first stream that has any. Raises `InvalidRequest` and FFmpeg's errors."""
    data = _without_id3(data)
    if data[:1] == b"\xff" and data[1:2] and data[1] & 0xE0 == 0xE0:
        # ISO 13818-7's ADTS header has layer 0, which no MP3 has.
        return _frames_of_elementary("aac" if data[1] & 0x06 == 0 else "mp3float", data)
    if data[4:8] == b"ftyp":
        _check_mp4(data)
    elif data.startswith(_MATROSKA):
        if len(data) > _MAX_MATROSKA_BYTES:
            raise InvalidRequest(
                f"WebM and Matroska may have {_MAX_MATROSKA_BYTES} bytes; this has {len(data)}; "
                "save it as FLAC or Ogg",
                code="audio_too_large",
                param="audio",
            )
    elif not data.startswith((b"fLaC", b"OggS")):
        raise InvalidRequest(
            "audio must be WAV, MP3, FLAC, Ogg, M4A, AAC or WebM; this is none of them",
            code="unsupported_audio",
            param="audio",
        )
    return _frames_of_container(data)


def _without_id3(data: bytes) -> bytes:
    """https://id3.org/id3v2.4.0-structure section 3.1: 10 bytes, then as many as they say."""
    while data.startswith(b"ID3") and len(data) > 10:
        size_bytes = 0
        for byte in data[6:10]:
            size_bytes = size_bytes << 7 | byte & 0x7F
        data = data[10 + size_bytes :].lstrip(b"\0")
    return data


def _frames_of_elementary(codec: str, data: bytes) -> Iterator[AudioFrame]:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, AudioCodecContext)

    def packets() -> Iterator[Any]:
        for start in range(0, len(data), _PIECE_BYTES):
            yield from context.parse(data[start : start + _PIECE_BYTES])
        yield from context.parse(None)
        yield None

    return _decode(context, packets(), len(data))


def _frames_of_container(data: bytes) -> Iterator[AudioFrame]:
    options = {
        "format_whitelist": ",".join(_CONTAINERS),
        "codec_whitelist": ",".join(_DECODERS),
        "protocol_whitelist": "none",
        "max_streams": str(_MAX_STREAMS),
        "probesize": str(1024 * 1024),
        # Each edit of a list may take the whole index once more.
        "ignore_editlist": "1",
    }
    with av.open(
        io.BytesIO(data), "r", options=options, metadata_errors="replace", io_open=_refuse
    ) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise InvalidRequest("the file has no audio in it", code="invalid_audio", param="audio")
        context = stream.codec_context  # None where FFmpeg has no decoder, which its types omit
        coding = getattr(context, "name", "something unknown")
        if not isinstance(context, AudioCodecContext) or coding not in _DECODERS:
            raise InvalidRequest(
                f"audio coded as {coding} is not supported; save it as WAV, FLAC or MP3",
                code="unsupported_audio",
                param="audio",
            )
        context.thread_count = 1

        # Every stream's packets, so that those of others are counted too.
        packets = (
            packet if packet.stream_index == stream.index else _OtherPacket(packet.size)
            for packet in container.demux()
        )
        yield from _decode(context, packets, len(data))


class _OtherPacket:
    """A packet of a stream that nobody listens to."""

    def __init__(self, size: int) -> None:
        self.size = size


def _decode(
    context: AudioCodecContext, packets: Iterator[Any], data_bytes: int
) -> Iterator[AudioFrame]:
    packet_bytes = idle = 0
    for count, packet in enumerate(packets):
        packet_bytes += 0 if packet is None else packet.size
        # Overlapping packets of an MP4, or Matroska's compressed ones, are no audio of ours.
        too_many = count > _MAX_PACKETS or idle > _MAX_IDLE_PACKETS
        if too_many or packet_bytes > 4 * data_bytes + _PIECE_BYTES:
            raise InvalidRequest(
                "the audio file is damaged: it has far more packets than sound",
                code="invalid_audio",
                param="audio",
            )
        idle += 1
        if isinstance(packet, _OtherPacket):
            continue
        try:
            for frame in context.decode(packet):
                idle = 0
                yield frame
        except (av.error.InvalidDataError, av.error.EOFError):
            continue  # a packet is damaged, or the tag that ends an MP3


def _check_mp4(data: bytes) -> None:
    outside = _outside_mdat(data)
    if any(name in outside for name in _MP4_REFUSED):
        raise _bad_mp4()
    for name, offset in _MP4_TABLES.items():
        at = outside.find(name)
        while at >= 0:
            field = outside[at + 4 + offset : at + 8 + offset]
            if len(field) == 4 and struct.unpack(">I", field)[0] > _MAX_MP4_SAMPLES:
                raise _bad_mp4()
            at = outside.find(name, at + 1)


def _outside_mdat(data: bytes) -> bytes:
    """All of an MP4 but the audio itself, where a table's name means nothing.

    ISO 14496-12 section 4.2: a box is its size, its type and its content.
    """
    pieces, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        elif size == 0:
            size = len(data) - at
        if size < header:
            break
        pieces.append(data[at : at + (header if name == b"mdat" else size)])
        at += size
    return b"".join(pieces) + data[at:]


def _bad_mp4() -> InvalidRequest:
    return InvalidRequest(
        "the MP4 file's index is damaged or far too long; save it as WAV or MP3",
        code="invalid_audio",
        param="audio",
    )


def _refuse(url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise PermissionError("audio data may not open other files")
