"""`tts-provider detect`: is this audio from here? No server is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from json import dumps as dump_json
from pathlib import Path

from tts_provider.audio.decode.decode_process import decode_with_manifest_once
from tts_provider.audio.encode.manifest import Manifest
from tts_provider.audio.watermark.detect import detect
from tts_provider.errors import TTSError
from tts_provider.server.dialects.detect import Findings, findings
from tts_provider.server.logs import printable
from tts_provider.server.service.watermark import decoder

_MAX_BYTES = 100 * 1024 * 1024
_MAX_AUDIO_S = 300.0  # what the decoder's process has memory for, whatever the format


def detect_files(files: Sequence[str], *, json: bool = False) -> None:
    """Prints a line for each. Raises `TTSError` for one that cannot be read or decoded."""
    for name in files:
        found = _look(name, _read(name))
        if json:
            print(dump_json({"file": name, **found.model_dump()}), flush=True)
        else:
            told_of = (_watermark(found), _tag(found), _manifest(found.manifest))
            print(printable(f"{name}: {'; '.join(told_of)}"), flush=True)


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise TTSError(f"cannot read {name}: {error.strerror}") from None


def _look(name: str, data: bytes) -> Findings:
    try:
        samples, manifest = asyncio.run(
            decode_with_manifest_once(data, max_bytes=_MAX_BYTES, max_audio_s=_MAX_AUDIO_S)
        )
    except TTSError as error:
        raise TTSError(f"{name}: {error}") from None
    return findings(data, samples, manifest, detect(decoder(), samples))


def _watermark(found: Findings) -> str:
    assert found.watermark is not None
    score = f"(score {found.watermark.score:.2f})"
    if not found.watermark.found:
        return f"no watermark {score}"
    places = ", ".join(
        f"{place.start_ms / 1000:.1f}–{place.end_ms / 1000:.1f} s"
        for place in found.watermark.places
    )
    return f"watermark at {places} {score}"


def _tag(found: Findings) -> str:
    return "no tag" if found.tag is None else f"tag of {found.tag}"


def _manifest(manifest: Manifest | None) -> str:
    if manifest is None:
        return "no manifest"
    kind = "synthetic" if manifest.is_synthetic else "not said to be synthetic"
    state = "intact" if manifest.is_intact else "not intact"
    return f"manifest of {manifest.generator}, {kind}, signed by {manifest.signer}, {state}"
