"""Reads audio files from clients as frames, with FFmpeg, which may touch nothing else.

This module does not judge what a file may cost in memory and time: FFmpeg trusts what files say of
themselves, in more ways than anybody can foresee. The operating system limits the process that this
runs in; see `decode_process`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NoReturn

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from tts_provider.errors import InvalidRequest

_CONTAINERS = ("aac", "flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mp3", "ogg", "wav")
_DECODERS = (
    *("aac", "alac", "flac", "libopus", "mp3", "mp3float", "opus", "vorbis"),
    *("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"),
    *("pcm_alaw", "pcm_mulaw"),
)
_MAGIC = (b"ID3", b"fLaC", b"OggS", b"RIFF", b"RF64", b"\x1a\x45\xdf\xa3")  # the last: WebM


def frames_of(data: bytes) -> Iterator[AudioFrame]:
    """Yield the audio of the first stream that has any. Raises `InvalidRequest` and FFmpeg's
    errors."""
    if not _is_known(data):
        raise _unsupported("audio must be WAV, MP3, FLAC, Ogg, M4A, AAC or WebM")
    options = {
        "format_whitelist": ",".join(_CONTAINERS),
        "codec_whitelist": ",".join(_DECODERS),
        "protocol_whitelist": "none",
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
            raise _unsupported(f"audio coded as {coding} is not supported; save it as WAV or MP3")
        context.thread_count = 1
        for packet in container.demux(stream):
            try:
                yield from context.decode(packet)
            except (av.error.InvalidDataError, av.error.EOFError):
                continue  # a packet is damaged, or the tag that ends an MP3


def _is_known(data: bytes) -> bool:
    # An elementary stream begins with the sync word of its frames: MP3's 11 bits, ADTS's 12.
    is_elementary = data[:1] == b"\xff" and data[1:2] >= b"\xe0"
    return data.startswith(_MAGIC) or data[4:8] == b"ftyp" or is_elementary


def _unsupported(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="unsupported_audio", param="audio")


def _refuse(url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise PermissionError("audio data may not open other files")
