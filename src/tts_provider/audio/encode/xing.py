"""The first frame of an MP3: silent, and says how many samples around the audio are not audio.

A decoder that reads it leaves out LAME's lead-in; where the lengths are known, also the end that
fills the last frame. http://gabriel.mp3-tech.org/mp3infotag.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# LAME encodes so many samples of silence before the first; decoders add 529 of their own.
ENCODER_DELAY_SAMPLES = 576

_MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_RATES = (44_100, 48_000, 32_000)


@dataclass(frozen=True)
class Lengths:
    """Known when all is encoded; the Info frame itself is not counted."""

    frames: int
    size_bytes: int
    padding_samples: int
    """After the audio, to the end of the last frame."""


def info_frame(header: bytes, lengths: Lengths | None = None) -> bytes:
    """The Info frame before a mono Layer III frame that begins with `header`, 4 bytes.

    Its size does not depend on `lengths`. A stream has none: then the frame says nothing of them,
    since a count of 0 is taken for a broken file by some decoders.
    """
    version = header[1] >> 3 & 3  # 3 MPEG-1, 2 MPEG-2, 0 MPEG-2.5
    kbps = (_MPEG1_KBPS if version == 3 else _MPEG2_KBPS)[header[2] >> 4]
    rate = _MPEG1_RATES[header[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    size_bytes = (144 if version == 3 else 72) * kbps * 1000 // rate
    unpadded = bytes((header[0], header[1] | 1, header[2] & ~2, header[3]))  # and without a CRC
    side_information = bytes(17 if version == 3 else 9)
    if lengths is None:
        fields, padding_samples = struct.pack(">I", 0), 0
    else:
        flags = 0x1 | 0x2  # a count of frames and of bytes follow
        fields = struct.pack(">III", flags, lengths.frames, size_bytes + lengths.size_bytes)
        padding_samples = lengths.padding_samples
    # Decoders believe the delay only of names they know.
    encoder = b"Lavf".ljust(9, b"\0") + bytes(12)
    delays = (ENCODER_DELAY_SAMPLES << 12 | padding_samples).to_bytes(3, "big")
    frame = unpadded + side_information + b"Info" + fields + encoder + delays
    assert len(frame) + 12 <= size_bytes
    return frame.ljust(size_bytes, b"\0")
