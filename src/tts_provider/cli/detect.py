"""`tts-provider detect`: is this audio from here? No server is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tts_provider.audio.decode_process import decode_once
from tts_provider.audio.watermark.detect import detect
from tts_provider.errors import TTSError
from tts_provider.server.dialects.detect import Findings, findings
from tts_provider.server.watermark import decoder

_MAX_BYTES = 100 * 1024 * 1024
_MAX_AUDIO_S = 300.0  # what the decoder's process has memory for, whatever the format


def detect_files(files: Sequence[str], *, json: bool = False) -> None:
    """Prints a line for each. Raises `TTSError` for one that cannot be read or decoded."""
    for name in files:
        found = _look(name)
        print(found.model_dump_json() if json else f"{name}: {_in_words(found)}", flush=True)


def _look(name: str) -> Findings:
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise TTSError(f"cannot read {name}: {error.strerror}") from None
    try:
        samples = asyncio.run(decode_once(data, max_bytes=_MAX_BYTES, max_audio_s=_MAX_AUDIO_S))
    except TTSError as error:
        raise TTSError(f"{name}: {error}") from None
    return findings(data, samples, detect(decoder(), samples))


def _in_words(found: Findings) -> str:
    assert found.watermark is not None
    told = [f"no watermark (score {found.watermark.score:.2f})"]
    if found.watermark.found:
        places = ", ".join(
            f"{place.start_ms / 1000:.1f}–{place.end_ms / 1000:.1f} s"
            for place in found.watermark.places
        )
        told = [f"watermark at {places} (score {found.watermark.score:.2f})"]
    told.append("no tag" if found.tag is None else f"tag of {found.tag}")
    return "; ".join(told)
