"""Recordings that were made to hurt, and what they cost who decodes them.

    python tests/bombs.py make FOLDER      write them
    python tests/bombs.py decode FOLDER    decode them as the server does; the outcome, as JSON

Two processes, since Linux counts for a child what its parent had.
"""

from __future__ import annotations

import asyncio
import functools
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recordings import encode, wav
from tts_provider.audio.decode.decode_process import Decoders
from tts_provider.errors import WireError

MAX_BYTES = 10 * 1024 * 1024
_SECOND = np.zeros(24_000, np.float32)


def _silence(seconds: int) -> np.ndarray:
    return np.zeros(24_000 * seconds, np.float32)


def _synchsafe(value: int) -> bytes:
    return bytes(value >> shift & 127 for shift in (21, 14, 7, 0))


@functools.cache
def _packed_id3() -> bytes:
    """Tags that unpack to a gigabyte. https://id3.org/id3v2.4.0-structure"""
    packed = zlib.compress(bytes(200 << 20), 9)
    frame = b"PRIV" + _synchsafe(len(packed) + 4) + b"\0\x09" + _synchsafe(200 << 20) + packed
    return b"ID3\x04\0\0" + _synchsafe(5 * len(frame)) + 5 * frame


def _id3_in_wav() -> bytes:
    tag = _packed_id3()
    return b"RIFF\0\0\0\0WAVEid3 " + struct.pack("<I", len(tag)) + tag + wav(_SECOND)[12:]


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _grow(data: bytes, path: list[bytes], inside: bytes) -> bytes:
    """An MP4 with `inside` at the end of the box at `path`."""
    at = data.index(path[0]) - 4
    (size,) = struct.unpack_from(">I", data, at)
    content = data[at + 8 : at + size]
    content = _grow(content, path[1:], inside) if path[1:] else content + inside
    return data[:at] + _box(path[0], content) + data[at + size :]


def _table(count: int) -> bytes:
    """An index that says it has so many samples, all of one size."""
    data = bytearray(encode(_SECOND, "m4a"))
    for name, offset, fields in ((b"stsz", 8, (1, count)), (b"stts", 12, (count,))):
        at = data.index(name) + offset
        struct.pack_into(f">{len(fields)}I", data, at, *fields)
    struct.pack_into(">I", data, data.index(b"stsc") + 16, count)
    return bytes(data)


def _many_tables() -> bytes:
    table = _box(b"stsz", struct.pack(">III", 0, 1, 1_000_000))
    return _grow(_table(1_000_000), [b"moov", b"trak", b"mdia", b"minf", b"stbl"], 8 * table)


def _many_runs() -> bytes:
    """A fragment whose 250 runs have a million samples each, of the default size and length."""
    fragmented = {"movflags": "empty_moov+frag_keyframe+default_base_moof"}
    data = encode(_SECOND, "m4a", container_options=fragmented)
    run = _box(b"trun", struct.pack(">II", 0, 1_000_000))
    return _grow(data, [b"moof", b"traf"], 250 * run)


def _element(name: str, content: bytes) -> bytes:
    return bytes.fromhex(name) + (len(content) | 1 << 56).to_bytes(8, "big") + content


def _cues(count: int) -> bytes:
    """An index with so many empty entries. https://www.rfc-editor.org/rfc/rfc9559"""
    cues = _element("1C53BB6B", b"\xbb\x80" * count)
    return _element("1A45DFA3", _element("4282", b"webm")) + _element("18538067", cues)


def _ogg_page(serial: int, kind: int, content: bytes) -> bytes:
    head = b"OggS\0" + bytes([kind]) + bytes(8) + struct.pack("<III", serial, 0, 0)
    return head + bytes([1, len(content)]) + content


def _late_stream() -> bytes:
    """A second stream that begins when the first one already had audio."""
    opus = encode(_SECOND, "opus")
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, 48_000, 0, 0)
    return opus[: len(opus) // 2] + _ogg_page(99, 2, head) + _ogg_page(99, 0, bytes(20))


BOMBS: dict[str, Callable[[], bytes]] = {
    "a million empty ID3 tags": lambda: b"ID3\x04\0\0\0\0\0\0" * (MAX_BYTES // 10),
    "ID3 tags that unpack, before MP3": lambda: _packed_id3() + encode(_SECOND, "mp3"),
    "ID3 tags that unpack, in WAV": _id3_in_wav,
    "ID3 tags that unpack, in AAC": lambda: (
        encode(_SECOND, "aac") + _packed_id3() + encode(_SECOND, "aac")
    ),
    "MP4, 80 million samples": lambda: _table(80_000_000),
    "MP4, 900 000 samples": lambda: _table(900_000),
    "MP4, eight tables": _many_tables,
    "MP4, 250 runs of a million": _many_runs,
    "MP4, a million empty mdat": lambda: (
        _box(b"ftyp", b"M4A \0\0\0\0") + _box(b"mdat", b"") * (MAX_BYTES // 8 - 2)
    ),
    "WebM, a million cues": lambda: _cues(1_000_000),
    "WebM, five million cues": lambda: _cues(5_000_000),
    "Ogg, 300 000 streams": lambda: b"".join(_ogg_page(n, 2, b"\0") for n in range(300_000)),
    "Ogg, a stream that begins late": _late_stream,
    "FLAC, 20 minutes of silence": lambda: encode(_silence(1200), "flac"),
    "MP3, 200 s of silence": lambda: encode(_silence(200), "mp3"),
}


def decode_all() -> dict[str, Any]:
    """What became of each, in which time, and the most that a decoder and its parent took."""
    with tempfile.TemporaryDirectory() as folder:
        for what in ("make", "decode"):
            command = [sys.executable, __file__, what, folder]
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    facts: dict[str, Any] = json.loads(told)
    return facts


def _make(folder: Path) -> None:
    for number, make in enumerate(BOMBS.values()):
        (folder / str(number)).write_bytes(make())


async def _decode(folder: Path) -> None:
    outcomes: dict[str, str] = {}
    took_s: dict[str, float] = {}
    own_mib = 0
    decoders = Decoders()
    for number, name in enumerate(BOMBS):
        bomb = (folder / str(number)).read_bytes()
        assert len(bomb) <= MAX_BYTES, name
        before_mib, began = _peak_mib(resource.RUSAGE_SELF), time.monotonic()
        try:
            await decoders.decode(bomb, max_bytes=MAX_BYTES, max_audio_s=60.0)
            outcomes[name] = "heard"
        except WireError as problem:
            outcomes[name] = problem.code
        took_s[name] = round(time.monotonic() - began, 2)
        own_mib = max(own_mib, _peak_mib(resource.RUSAGE_SELF) - before_mib)
    await decoders.close()
    child_mib = _peak_mib(resource.RUSAGE_CHILDREN)
    facts = {"child_mib": child_mib, "own_mib": own_mib, "outcomes": outcomes, "took_s": took_s}
    print(json.dumps(facts, indent=1))  # noqa: T201


def _peak_mib(who: int) -> int:
    """Linux counts in KiB."""
    return resource.getrusage(who).ru_maxrss // 1024


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        _make(folder)
    else:
        asyncio.run(_decode(folder))
