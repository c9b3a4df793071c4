"""G.711: 16-bit samples → 8-bit μ-law and A-law, as telephones send them.

https://www.itu.int/rec/T-REC-G.711
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from tts_provider.audio.pcm import Samples, to_s16

_CODES = np.arange(256)


def to_mulaw(samples: Samples) -> bytes:
    """Float samples in [-1, 1], shape (n,) → n bytes; louder is clipped."""
    return _encode(samples, "mulaw")


def to_alaw(samples: Samples) -> bytes:
    """Float samples in [-1, 1], shape (n,) → n bytes; louder is clipped."""
    return _encode(samples, "alaw")


def _encode(samples: Samples, law: str) -> bytes:
    codes: npt.NDArray[np.uint8] = _nearest_codes(law)[np.frombuffer(to_s16(samples), "<u2")]
    return codes.tobytes()


@cache
def _nearest_codes(law: str) -> npt.NDArray[np.uint8]:
    """The code whose value is nearest to each 16-bit sample, by its unsigned bits, (65536,)."""
    values = _mulaw_values() if law == "mulaw" else _alaw_values()
    order = np.argsort(values, kind="stable")
    middles = (values[order][1:] + values[order][:-1]) / 2
    # μ-law has two zeros; `right` takes the later one, 0xFF, which is what silence is sent as.
    sample = np.arange(65536, dtype=np.uint16).view(np.int16)
    return order[np.searchsorted(middles, sample, side="right")].astype(np.uint8)


def _mulaw_values() -> npt.NDArray[np.int64]:
    """The 16-bit value of each code, (256,)."""
    code = ~_CODES & 0xFF  # sign, 3 bits exponent, 4 bits mantissa, sent inverted
    magnitude = (((code & 15) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude)


def _alaw_values() -> npt.NDArray[np.int64]:
    """The 16-bit value of each code, (256,)."""
    code = _CODES ^ 0x55  # every other bit is sent inverted
    exponent = code >> 4 & 7
    magnitude = ((code & 15) << 4) + 8
    magnitude = np.where(exponent, (magnitude + 0x100) << np.maximum(exponent - 1, 0), magnitude)
    return np.where(code & 0x80, magnitude, -magnitude)
