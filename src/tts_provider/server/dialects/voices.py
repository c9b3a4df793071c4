"""Voices over HTTP: list them, enrol one, forget one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from tts_provider.audio.decode.decode_process import Decoders
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest
from tts_provider.server.http.answers import arriving, while_connected
from tts_provider.server.http.form import Form, read_form
from tts_provider.server.http.openapi import errors
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Voice
from tts_provider.voices.store import Added, VoiceStore
from tts_provider.waiting.line import Line, try_later

PATH = "/v1/audio/voices"

# What is in the body beside the recording: the transcript, boundaries, headers.
_UPLOADS_A_WORKER = 4
_MAX_TEXT_BYTES = 32 * 1024
_MAX_OTHER_BYTES = 128 * 1024
_RETRY_AFTER_MS = 5000

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")

_FORM = {
    "type": "object",
    "required": ["name", "transcript", "consent", "audio"],
    "properties": {
        "name": {"type": "string", "maxLength": 100},
        "transcript": {"type": "string", "description": "What is said in the audio, in words."},
        "consent": {
            "type": "boolean",
            "description": "Must be true: the person whose voice it is has agreed.",
        },
        "audio": {
            "type": "string",
            "format": "binary",
            "description": "WAV, MP3, FLAC, Ogg, M4A, AAC or WebM; 8 to 20 s work best.",
        },
    },
}


class VoiceFacts(BaseModel):
    id: str
    name: str
    gender: str
    source: str
    language: str
    has_adapter: bool


class VoiceList(BaseModel):
    voices: list[VoiceFacts]


class EnrolledVoice(VoiceFacts):
    duration_ms: int | None
    pitch_hz: float | None
    created: datetime
    warnings: list[str]


class Forgotten(BaseModel):
    id: str
    deleted: bool = True


def create_router(service: SpeechService, store: VoiceStore) -> APIRouter:
    router = APIRouter()
    enrolments = _Enrolments(service.limits, service.decoders)

    @router.get(PATH, responses=errors(500))
    async def list_voices() -> VoiceList:
        """The engine's voices, then the enrolled ones, oldest first."""
        stored = await asyncio.to_thread(store.list)
        voices = [*service.engine.voices(), *(voice.voice() for voice in stored)]
        return VoiceList(voices=[VoiceFacts(**_facts(voice)) for voice in voices])

    @router.post(
        PATH,
        status_code=201,
        responses=errors(400, 408, 413, 415, 500, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": _FORM}},
            }
        },
    )
    async def enrol_voice(request: Request) -> EnrolledVoice:
        """Make a voice of a recording of somebody who has agreed to it."""
        async with enrolments.uploads.place():
            service.decoders.prepare()
            reading = _read(request, service.limits)
            form = await arriving(reading, "the recording", service.limits.upload_timeout_s)
            voice, warnings = await while_connected(request, enrolments.enrol(store, form))
        return EnrolledVoice(
            **_facts(voice.voice()),
            duration_ms=voice.duration_ms,
            pitch_hz=voice.pitch_hz,
            created=voice.created,
            warnings=warnings,
        )

    @router.delete(PATH + "/{voice_id}", responses=errors(400, 404, 500))
    async def forget_voice(voice_id: str) -> Forgotten:
        """Remove an enrolled voice and its recording."""
        if any(voice.id == voice_id for voice in service.engine.voices()):
            raise InvalidRequest(
                f"voice {voice_id!r} is the engine's own and cannot be removed",
                code="builtin_voice",
                param="voice_id",
            )
        if not await asyncio.to_thread(store.remove, voice_id):
            raise InvalidRequest(
                f"there is no voice {voice_id[:64]!r}",
                code="unknown_voice",
                param="voice_id",
                http_status=404,
            )
        return Forgotten(id=voice_id)

    return router


class _Enrolments:
    """Recordings are megabytes and seconds of work: only so many arrive and are worked on at
    once. Those that arrive slowly do not hold up those that are there."""

    def __init__(self, limits: Limits, decoders: Decoders) -> None:
        self._limits, self._decoders = limits, decoders
        uploads = _UPLOADS_A_WORKER * limits.max_enrolments
        full = f"{uploads} voices are being enrolled, the limit; come back in a moment"
        self.uploads = Line(uploads, try_later(full, _RETRY_AFTER_MS), waiting=0)
        self._line = Line(limits.max_enrolments)

    async def enrol(self, store: VoiceStore, form: Form) -> Added:
        name, transcript = _text(form, "name"), _text(form, "transcript")
        consent = _consent(form.texts.get("consent", ""))
        if "audio" not in form.files:
            raise InvalidRequest("audio must be a file of the form", param="audio")
        await asyncio.to_thread(store.check, name, transcript, consent)
        async with self._line.place():
            recording = await self._decoders.decode(
                form.files.pop("audio"),
                max_bytes=self._limits.max_voice_upload_bytes,
                max_audio_s=self._limits.max_voice_audio_s,
            )
            return await asyncio.to_thread(store.add, name, transcript, consent, recording)


async def _read(request: Request, limits: Limits) -> Form:
    async with aclosing(request.stream()) as pieces:
        return await read_form(
            request.headers.get("content-type", ""),
            pieces,
            max_bytes=limits.max_voice_upload_bytes + _MAX_OTHER_BYTES,
            max_text_bytes=_MAX_TEXT_BYTES,
        )


def _text(form: Form, name: str) -> str:
    if name not in form.texts:
        raise InvalidRequest(f"{name} must be a text field of the form", param=name)
    return form.texts[name]


def _consent(value: str) -> bool:
    word = value.strip().lower()
    if word not in _TRUE + _FALSE:
        raise InvalidRequest(f"consent must be true or false; it is {word[:64]!r}", param="consent")
    return word in _TRUE


def _facts(voice: Voice) -> dict[str, Any]:
    return {name: getattr(voice, name) for name in VoiceFacts.model_fields}
