"""Is this audio from here? Over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from tts_provider.audio.encode.manifest import Manifest
from tts_provider.audio.encode.tag import find_tag
from tts_provider.audio.pcm import Samples
from tts_provider.audio.watermark.detect import Detection, detect
from tts_provider.audio.watermark.spectrum import SAMPLE_RATE
from tts_provider.audio.watermark.weights import is_installed
from tts_provider.errors import InvalidRequest
from tts_provider.server.http.answers import arriving, while_connected
from tts_provider.server.http.form import read_form
from tts_provider.server.http.openapi import errors
from tts_provider.server.service.service import SpeechService
from tts_provider.server.service.watermark import decoder
from tts_provider.waiting.line import Line, try_later

PATH = "/v1/audio/detect"

_MAX_TEXT_BYTES = 1024
_MAX_OTHER_BYTES = 16 * 1024  # boundaries, headers
_MAX_UPLOADS = 8
_RETRY_AFTER_MS = 5000

_FORM = {
    "type": "object",
    "required": ["audio"],
    "properties": {
        "audio": {
            "type": "string",
            "format": "binary",
            "description": "WAV, MP3, FLAC, Ogg, M4A, AAC or WebM.",
        }
    },
}


class Place(BaseModel):
    start_ms: int
    end_ms: int


class WatermarkFound(BaseModel):
    score: float = Field(ge=0, le=1)
    """Of the two seconds where it is clearest."""
    found: bool
    places: list[Place]


class Findings(BaseModel):
    duration_ms: int
    watermark: WatermarkFound | None
    """None where the package that has it is not installed here."""
    tag: str | None
    """The software that the file's metadata names, where it is this one."""
    manifest: Manifest | None
    """None where there is none that can be read, or the package that reads them is missing."""


def findings(
    data: bytes | bytearray, samples: Samples, manifest: Manifest | None, found: Detection | None
) -> Findings:
    watermark = None
    if found is not None:
        places = [Place(start_ms=_ms(each.start), end_ms=_ms(each.end)) for each in found.stretches]
        score = round(min(max(found.score, 0.0), 1.0), 3)
        watermark = WatermarkFound(score=score, found=found.is_marked, places=places)
    return Findings(
        duration_ms=_ms(len(samples)),
        watermark=watermark,
        tag=find_tag(data),
        manifest=manifest,
    )


def create_router(service: SpeechService) -> APIRouter:
    router = APIRouter()
    detections = _Detections(service)

    @router.post(
        PATH,
        responses=errors(400, 408, 413, 415, 500, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": _FORM}},
            }
        },
    )
    async def detect_audio(request: Request) -> Findings:
        """Look for the watermark of this server's speech, its tag, and a manifest."""
        async with detections.uploads.place():
            data = await arriving(
                _read(request, service), "the audio", service.limits.upload_timeout_s
            )
            return await while_connected(request, detections.look(data))

    return router


class _Detections:
    """A minute of audio takes seconds to look at: one at a time, and few that wait."""

    def __init__(self, service: SpeechService) -> None:
        self._service = service
        full = f"{_MAX_UPLOADS} files are being examined, which is the limit; try again later"
        self.uploads = Line(_MAX_UPLOADS, try_later(full, _RETRY_AFTER_MS), waiting=0)
        self._line = Line(1)

    async def look(self, data: bytearray) -> Findings:
        limits = self._service.limits
        samples, manifest = await self._service.decoders.decode_with_manifest(
            data, max_bytes=limits.max_voice_upload_bytes, max_audio_s=limits.max_voice_audio_s
        )
        found = await self._detect(samples) if is_installed() else None
        return findings(data, samples, manifest, found)

    async def _detect(self, samples: Samples) -> Detection:
        await self._line.enter()
        work = asyncio.get_running_loop().run_in_executor(None, lambda: detect(decoder(), samples))
        # A thread cannot be ended: whoever leaves, the next begins when it has.
        work.add_done_callback(lambda _: self._line.leave())
        return await asyncio.shield(work)


async def _read(request: Request, service: SpeechService) -> bytearray:
    async with aclosing(request.stream()) as pieces:
        form = await read_form(
            request.headers.get("content-type", ""),
            pieces,
            max_bytes=service.limits.max_voice_upload_bytes + _MAX_OTHER_BYTES,
            max_text_bytes=_MAX_TEXT_BYTES,
        )
    if "audio" not in form.files:
        raise InvalidRequest("audio must be a file of the form", param="audio")
    return form.files["audio"]


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE
