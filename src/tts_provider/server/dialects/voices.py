"""Voices over HTTP: list them, enrol one, share one, forget one."""

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
from tts_provider.keys.caller import current_caller
from tts_provider.server.dialects.fields import Fields, read_object
from tts_provider.server.http.answers import arriving, read_json, while_connected
from tts_provider.server.http.form import Form, read_form
from tts_provider.server.http.openapi import errors, json_body
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Voice
from tts_provider.voices.store import Added, StoredVoice, VoiceStore
from tts_provider.waiting.line import Line, try_later

PATH = "/v1/audio/voices"

# The part of the body besides the recording: the transcript, boundaries, headers.
_UPLOADS_A_WORKER = 4
_MAX_TEXT_BYTES = 32 * 1024
_MAX_OTHER_BYTES = 128 * 1024
_RETRY_AFTER_MS = 5000

_VOICE_FACTS = ("id", "name", "gender", "source", "language", "has_adapter")
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
        "shared": {
            "type": "boolean",
            "default": False,
            "description": "Whether other API keys may speak with it.",
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
    owner: str | None = None
    """The API key that an enrolled voice belongs to, where it belongs to one."""
    shared: bool | None = None
    """Whether other keys may speak with a voice that belongs to one."""


class VoiceList(BaseModel):
    voices: list[VoiceFacts]


class EnrolledVoice(VoiceFacts):
    duration_ms: int | None
    pitch_hz: float | None
    created: datetime
    warnings: list[str]


class Sharing(BaseModel):
    shared: bool


class Forgotten(BaseModel):
    id: str
    deleted: bool = True


def create_router(service: SpeechService, store: VoiceStore) -> APIRouter:
    router = APIRouter()
    enrolments = _Enrolments(service.limits, service.decoders)

    @router.get(PATH, responses=errors(500), response_model_exclude_unset=True)
    async def list_voices() -> VoiceList:
        """The engine's voices, then the enrolled ones, oldest first: those that the caller's API
        key may speak with."""
        stored = await asyncio.to_thread(store.list)
        voices = [_facts(voice) for voice in service.engine.voices()]
        voices += [_stored_facts(voice) for voice in stored if service.is_there(voice)]
        allowed = current_caller().voices
        return VoiceList(
            voices=[
                VoiceFacts(**voice) for voice in voices if allowed is None or voice["id"] in allowed
            ]
        )

    @router.post(
        PATH,
        status_code=201,
        response_model_exclude_unset=True,
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
            **_stored_facts(voice),
            duration_ms=voice.duration_ms,
            pitch_hz=voice.pitch_hz,
            created=voice.created,
            warnings=warnings,
        )

    @router.patch(
        PATH + "/{voice_id}",
        responses=errors(400, 404, 408, 413, 415, 500),
        openapi_extra=json_body(Sharing),
        response_model_exclude_unset=True,
    )
    async def share_voice(voice_id: str, request: Request) -> VoiceFacts:
        """Let other API keys speak with an enrolled voice, or its owner alone."""
        body = Fields(read_object(await read_json(request, service.limits)))
        body.check_names(("shared",))
        shared = body.boolean("shared")
        if shared is None:
            raise InvalidRequest("shared is needed: true or false", param="shared")
        await check_owner(voice_id, "changed")
        changed = await asyncio.to_thread(store.share, voice_id, shared)
        if changed is None:
            raise _unknown(voice_id)
        return VoiceFacts(**_stored_facts(changed))

    @router.delete(PATH + "/{voice_id}", responses=errors(400, 404, 500))
    async def forget_voice(voice_id: str) -> Forgotten:
        """Remove an enrolled voice and its recording."""
        await check_owner(voice_id, "removed")
        if not await asyncio.to_thread(store.remove, voice_id):
            raise _unknown(voice_id)
        return Forgotten(id=voice_id)

    async def check_owner(voice_id: str, done: str) -> None:
        """Raises `InvalidRequest` if the voice is the engine's own, or another key's."""
        if any(voice.id == voice_id for voice in service.engine.voices()):
            raise InvalidRequest(
                f"voice {voice_id!r} is the engine's own and cannot be {done}",
                code="builtin_voice",
                param="voice_id",
            )
        caller = current_caller()
        if caller.is_administrator:
            return  # a damaged voice has no known owner
        stored = await asyncio.to_thread(store.get, voice_id)
        if stored is None or not service.is_there(stored):
            raise _unknown(voice_id)
        if not caller.owns(stored.owner):
            raise InvalidRequest(
                f"voice {voice_id!r} belongs to {stored.owner or 'no key'!s} and can be {done} by "
                "its owner and by administrators",
                code="voice_not_yours",
                param="voice_id",
                http_status=403,
            )

    return router


class _Enrolments:
    """Limits enrolments, because a recording is megabytes and seconds of work: only a few arrive,
    and are processed, at once. Recordings that arrive slowly do not delay those that have
    arrived."""

    def __init__(self, limits: Limits, decoders: Decoders) -> None:
        self._limits, self._decoders = limits, decoders
        uploads = _UPLOADS_A_WORKER * limits.max_enrolments
        full = f"{uploads} voices are being enrolled, which is the limit; try again later"
        self.uploads = Line(uploads, try_later(full, _RETRY_AFTER_MS), waiting=0)
        self._line = Line(limits.max_enrolments)

    async def enrol(self, store: VoiceStore, form: Form) -> Added:
        name, transcript = _text(form, "name"), _text(form, "transcript")
        consent = _truth(form, "consent")
        owner, shared = current_caller().name, _truth(form, "shared")
        if "audio" not in form.files:
            raise InvalidRequest("audio must be a file of the form", param="audio")
        await asyncio.to_thread(store.check, name, transcript, consent)
        async with self._line.place():
            recording = await self._decoders.decode(
                form.files.pop("audio"),
                max_bytes=self._limits.max_voice_upload_bytes,
                max_audio_s=self._limits.max_voice_audio_s,
            )
            return await asyncio.to_thread(
                store.add, name, transcript, consent, recording, owner=owner, shared=shared
            )


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


def _truth(form: Form, name: str) -> bool:
    value = form.texts.get(name, "")
    word = value.strip().lower()
    if word not in _TRUE + _FALSE:
        raise InvalidRequest(f"{name} must be true or false; it is {word[:64]!r}", param=name)
    return word in _TRUE


def _unknown(voice_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"there is no voice {voice_id[:64]!r}",
        code="unknown_voice",
        param="voice_id",
        http_status=404,
    )


def _stored_facts(stored: StoredVoice) -> dict[str, Any]:
    facts = _facts(stored.voice())
    if stored.owner is None:
        return facts
    return {**facts, "owner": stored.owner, "shared": stored.shared}


def _facts(voice: Voice) -> dict[str, Any]:
    return {name: getattr(voice, name) for name in _VOICE_FACTS}
