"""A book as M4B: AAC in MP4, with chapters for every player that knows some.

FFmpeg's muxer keeps 10 MB for each hour until the end; this keeps 0.4, so a book may have any
length. ISO 14496-12 and -14 say what the boxes are; chapters are a track of text, as QuickTime has
them (https://developer.apple.com/documentation/quicktime-file-format), and Nero's list besides.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags

from tts_provider.audio.encode import tag
from tts_provider.audio.encode.tag import FileTags
from tts_provider.audio.pcm import Resampler, Samples

_FRAME = 1024  # samples of each packet of AAC-LC, and those that FFmpeg's encoder puts before
_MS = 1000
_MOST_CHUNK = 64  # packets that lie together: three seconds
_MOST_NERO = 255  # chapters; their count is one byte
_LONGEST_TITLE = 255
_TICKS_A_MS = 10_000  # of Nero's chapters
_AUDIOBOOK = 2  # https://mutagen.readthedocs.io/en/latest/api/mp4.html: stik
_PICTURES = {"image/jpeg": 13, "image/png": 14}
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)
_ENGLISH = 0x15C7  # "eng", five bits a letter
# Flags, a box, a font: nobody shows this text in the picture that there is not.
_TEXT_STYLE = struct.pack(">I18xHHI", 1, 1, 0, 0) + struct.pack(">I4sHHB", 13, b"ftab", 1, 1, 0)
_AUDIO, _CHAPTERS = 1, 2  # tracks
_ENABLED, _IN_MOVIE = 1, 2


class M4bEncoder:
    """An `encode.Encoder`."""

    def __init__(
        self, rate_in: int, rate_out: int, tags: FileTags, *, bits_per_second: int = 64_000
    ) -> None:
        self._tags = tags
        self._rate = rate_out
        self._resampler = Resampler(rate_in, rate_out)
        codec = av.CodecContext.create("aac", "w")
        codec.sample_rate, codec.layout, codec.format = rate_out, "mono", "fltp"
        codec.bit_rate = bits_per_second
        codec.time_base = Fraction(1, rate_out)
        # The usual search for quantizers takes three times as long: an hour's speech 43 s, not 13.
        codec.options = {"aac_coder": "fast"}
        codec.flags |= Flags.bitexact | Flags.global_header
        codec.open()
        self._codec = codec
        self._sizes = array("I")  # of packets, in bytes
        self._samples = 0
        self._mdat_at = 0
        self._data_bytes = 0

    def start(self) -> bytes:
        kinds = b"M4B " + struct.pack(">I", 0) + b"M4B M4A mp42isom"
        head = _box(b"ftyp", kinds)
        self._mdat_at = len(head)
        return head + _mdat_head(0)

    def push(self, samples: Samples) -> bytes:
        return self._encode(self._resampler.push(samples))

    def finish(self) -> bytes:
        data = self._encode(self._resampler.finish())
        if self._samples == 0:
            data += self._encode(np.zeros(1, np.float32))
        data += self._packets(self._codec.encode(None))
        text_at = self._data_bytes
        texts = [_text_sample(one.title) for one in self._tags.chapters]
        self._data_bytes += sum(map(len, texts))
        return data + b"".join(texts) + self._movie(text_at, [len(text) for text in texts])

    def patches(self) -> list[tuple[int, bytes]]:
        return [(self._mdat_at, _mdat_head(self._data_bytes))]

    def close(self) -> None:
        pass

    def _encode(self, samples: Samples) -> bytes:
        if not len(samples):
            return b""
        data = np.ascontiguousarray(np.clip(samples, -1.0, 1.0), np.float32)[np.newaxis]
        frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._samples
        self._samples += len(samples)
        return self._packets(self._codec.encode(frame))

    def _packets(self, packets: Iterable[av.Packet]) -> bytes:  # type: ignore[type-arg]
        made = [bytes(packet) for packet in packets]
        self._sizes.extend(map(len, made))
        data = b"".join(made)
        self._data_bytes += len(data)
        return data

    # --- What is behind the audio ----------------------------------------------------------------

    def _movie(self, text_at: int, text_sizes: Sequence[int]) -> bytes:
        data_at = self._mdat_at + len(_mdat_head(0))
        header = _full_box(
            b"mvhd",
            1,
            0,
            struct.pack(">QQIQ", 0, 0, self._rate, self._samples)
            + struct.pack(">IH10x", 0x10000, 0x100)
            + _MATRIX
            + bytes(24)
            + struct.pack(">I", 3),  # the next track's number
        )
        tracks = self._audio_track(data_at, has_chapters=bool(text_sizes))
        if text_sizes:
            tracks += self._chapter_track(data_at + text_at, text_sizes)
        return _box(b"moov", header + tracks + self._user_data())

    def _audio_track(self, data_at: int, *, has_chapters: bool) -> bytes:
        count = len(self._sizes)
        entry = struct.pack(">6xH8xHH4xI", 1, 1, 16, self._rate << 16)
        chunks = -(-count // _MOST_CHUNK)
        last = count - _MOST_CHUNK * (chunks - 1)
        runs = [(1, _MOST_CHUNK, 1)] if chunks > 1 or last == _MOST_CHUNK else [(1, last, 1)]
        if chunks > 1 and last != _MOST_CHUNK:
            runs.append((chunks, last, 1))
        tables = (
            _full_box(
                b"stsd", 0, 0, struct.pack(">I", 1) + _box(b"mp4a", entry + self._descriptor())
            )
            + _full_box(b"stts", 0, 0, struct.pack(">III", 1, count, _FRAME))
            + _runs_box(runs)
            + _full_box(b"stsz", 0, 0, struct.pack(">II", 0, count) + _big_endian(self._sizes))
            + self._chunks_box(data_at)
            # Each packet decodes by itself once the one before it was: "roll", of one.
            + _full_box(b"sgpd", 1, 0, b"roll" + struct.pack(">IIh", 2, 1, -1))
            + _full_box(b"sbgp", 0, 0, b"roll" + struct.pack(">III", 1, count, 1))
        )
        edit = struct.pack(">IQqHH", 1, self._samples, _FRAME, 1, 0)
        return _box(
            b"trak",
            _track_header(_AUDIO, self._samples, _ENABLED | _IN_MOVIE, volume=0x100)
            + _box(b"edts", _full_box(b"elst", 1, 0, edit))
            + (_box(b"tref", _box(b"chap", struct.pack(">I", _CHAPTERS))) if has_chapters else b"")
            + _media(
                (self._rate, count * _FRAME),
                (b"soun", b"SoundHandler"),
                _full_box(b"smhd", 0, 0, bytes(4)),
                tables,
            ),
        )

    def _descriptor(self) -> bytes:
        """ISO 14496-1 section 7.2.6: which decoder, and what it is told before the first packet."""
        told = self._codec.extradata or b""
        rate = 8 * sum(self._sizes) * self._rate // max(len(self._sizes) * _FRAME, 1)
        config = struct.pack(">BBBHII", 0x40, 0x15, 0, max(self._sizes, default=0), rate, rate)
        config += _descriptor(5, told)
        body = struct.pack(">HB", _AUDIO, 0) + _descriptor(4, config) + _descriptor(6, b"\x02")
        return _full_box(b"esds", 0, 0, _descriptor(3, body))

    def _chunks_box(self, data_at: int) -> bytes:
        places, at = array("Q"), data_at
        for start in range(0, len(self._sizes), _MOST_CHUNK):
            places.append(at)
            at += sum(self._sizes[start : start + _MOST_CHUNK])
        return _full_box(b"co64", 0, 0, struct.pack(">I", len(places)) + _big_endian(places))

    def _chapter_track(self, text_at: int, sizes: Sequence[int]) -> bytes:
        chapters = self._tags.chapters
        lengths = [one.end_ms - one.start_ms for one in chapters]
        entry = struct.pack(">6xH", 1) + _TEXT_STYLE
        tables = (
            _full_box(b"stsd", 0, 0, struct.pack(">I", 1) + _box(b"text", entry))
            + _full_box(
                b"stts",
                0,
                0,
                struct.pack(">I", len(lengths))
                + b"".join(struct.pack(">II", 1, length) for length in lengths),
            )
            + _runs_box([(1, len(sizes), 1)])
            + _full_box(
                b"stsz",
                0,
                0,
                struct.pack(">II", 0, len(sizes)) + struct.pack(f">{len(sizes)}I", *sizes),
            )
            + _full_box(b"co64", 0, 0, struct.pack(">IQ", 1, text_at))
        )
        information = _box(
            b"gmhd",
            _full_box(b"gmin", 0, 0, struct.pack(">HHHHHH", 0x40, 0x8000, 0x8000, 0x8000, 0, 0))
            + _box(b"text", _MATRIX),
        )
        duration = sum(lengths) * self._rate // _MS
        return _box(
            b"trak",
            _track_header(_CHAPTERS, duration, _IN_MOVIE)
            + _media((_MS, sum(lengths)), (b"text", b"SubtitleHandler"), information, tables),
        )

    def _user_data(self) -> bytes:
        tags = self._tags
        texts = {
            b"\xa9nam": tags.title,
            b"\xa9ART": tags.author,
            b"aART": tags.author,
            b"\xa9alb": tags.album or tags.title,
            b"\xa9gen": "Audiobook",
            b"\xa9too": tag.SOFTWARE,
            b"\xa9cmt": tag.COMMENT,
        }
        items = b"".join(
            _item(name, 1, text.encode("utf-8")) for name, text in texts.items() if text
        )
        items += _item(b"stik", 21, bytes((_AUDIOBOOK,)))
        if tags.track:
            number, _, count = tags.track.partition("/")
            items += _item(b"trkn", 0, struct.pack(">HHHH", 0, int(number), int(count or 0), 0))
        if tags.cover is not None:
            items += _item(b"covr", _PICTURES[tags.cover[0]], tags.cover[1])
        handler = _full_box(b"hdlr", 0, 0, bytes(4) + b"mdirappl" + bytes(9))
        meta = _full_box(b"meta", 0, 0, handler + _box(b"ilst", items))
        return _box(b"udta", _nero_chapters(tags) + meta)


def _nero_chapters(tags: FileTags) -> bytes:
    chapters = tags.chapters[:_MOST_NERO]
    if not chapters:
        return b""
    listed = b""
    for one in chapters:
        title = _shortened(one.title)
        listed += struct.pack(">QB", one.start_ms * _TICKS_A_MS, len(title)) + title
    return _full_box(b"chpl", 1, 0, struct.pack(">IB", 0, len(chapters)) + listed)


def _shortened(title: str) -> bytes:
    """UTF-8 that is no longer than one byte can say, and whole."""
    return title.encode("utf-8")[:_LONGEST_TITLE].decode("utf-8", "ignore").encode("utf-8")


def _text_sample(title: str) -> bytes:
    """Of a track of text; the box behind it says that it is UTF-8."""
    text = title.encode("utf-8")
    return struct.pack(">H", len(text)) + text + struct.pack(">I4sI", 12, b"encd", 0x100)


def _media(
    times: tuple[int, int], handler: tuple[bytes, bytes], information: bytes, tables: bytes
) -> bytes:
    """`times` are units a second and how many there are, `handler` its kind and its name."""
    scale, duration = times
    kind, name = handler
    links = _box(
        b"dinf", _full_box(b"dref", 0, 0, struct.pack(">I", 1) + _full_box(b"url ", 0, 1, b""))
    )
    return _box(
        b"mdia",
        _full_box(b"mdhd", 1, 0, struct.pack(">QQIQHH", 0, 0, scale, duration, _ENGLISH, 0))
        + _full_box(b"hdlr", 0, 0, bytes(4) + kind + bytes(12) + name + b"\0")
        + _box(b"minf", information + links + _box(b"stbl", tables)),
    )


def _track_header(track: int, duration: int, flags: int, *, volume: int = 0) -> bytes:
    return _full_box(
        b"tkhd",
        1,
        flags,
        struct.pack(">QQIIQ8xHHHH", 0, 0, track, 0, duration, 0, 0, volume, 0) + _MATRIX + bytes(8),
    )


def _runs_box(runs: Sequence[tuple[int, int, int]]) -> bytes:
    """From which chunk on each has so many samples."""
    return _full_box(
        b"stsc",
        0,
        0,
        struct.pack(">I", len(runs)) + b"".join(struct.pack(">III", *run) for run in runs),
    )


def _item(name: bytes, kind: int, data: bytes) -> bytes:
    return _box(name, _box(b"data", struct.pack(">II", kind, 0) + data))


def _descriptor(kind: int, data: bytes) -> bytes:
    """With its length in four bytes, seven bits each, as all writers have it."""
    size = len(data)
    length = bytes((size >> 21 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 7 & 0x7F | 0x80))
    return bytes((kind,)) + length + bytes((size & 0x7F,)) + data


def _mdat_head(data_bytes: int) -> bytes:
    """With a size in eight bytes, for more than four gigabytes."""
    return struct.pack(">I4sQ", 1, b"mdat", 16 + data_bytes)


def _box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), name) + data


def _full_box(name: bytes, version: int, flags: int, data: bytes) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags) + data)


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        return values.tobytes()
    swapped = array(values.typecode, values)
    swapped.byteswap()
    return swapped.tobytes()
