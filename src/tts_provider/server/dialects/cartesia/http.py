"""Cartesia's HTTP: a text as a file or as events, and the voices.

https://docs.cartesia.ai/api-reference/tts/bytes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.server.dialects.cartesia import websocket as cartesia
from tts_provider.server.dialects.fields import Fields, parse_query, read_object, read_text
from tts_provider.server.http.answers import AudioStream, read_json
from tts_provider.server.http.speech_file import Speech, Wording, speak_file, worded
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Manner, Utterance, Voice
from tts_provider.speech.pipeline import Segment

_BARE = "application/octet-stream"
_GENDERS = {"male": "masculine", "female": "feminine"}
_PAGE, _LARGEST_PAGE = 10, 100


def create_router(service: SpeechService) -> APIRouter:
    # Cartesia's own documentation describes this API.
    router = APIRouter(include_in_schema=False)
    started = datetime.now(timezone.utc)

    @router.post("/tts/bytes")
    async def speak(request: Request) -> Response:
        body = await _read_body(request, service.limits)
        utterance, file = _read_request(body, service)
        speech = _speak(utterance, file.output, service)
        media_type = _BARE if file.is_raw else AUDIO_FORMATS[file.output.format].media_type
        return AudioStream(speech, media_type, service)

    @router.post("/tts/sse")
    async def speak_in_events(request: Request) -> Response:
        body = await _read_body(request, service.limits)
        utterance, file = _read_request(body, service)
        if not file.is_raw:
            raise InvalidRequest(
                f"events have the container raw; {file.container} is at /tts/bytes",
                param="output_format",
            )
        fields = Fields(body)
        context_id = fields.string("context_id")
        word_times = fields.boolean("add_timestamps") or False
        manner = replace(utterance.manner, word_times=word_times)
        wanted = replace(utterance, manner=manner)
        events = worded(_speak(wanted, file.output, service), _Events(context_id))
        return AudioStream(events, "text/event-stream", service)

    @router.get("/voices")
    async def list_voices(request: Request) -> Response:
        voices = await service.voices()
        page, has_more = _choose(voices, parse_query(request.query_params))
        data = [_facts(voice, started) for voice in page]
        return JSONResponse({"data": data, "has_more": has_more})

    @router.get("/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        voice = service.find_voice(voice_id, None, unknown_status=404)
        return JSONResponse(_facts(voice, started))

    return router


async def _read_body(request: Request, limits: Limits) -> dict[str, Any]:
    return read_object(await read_json(request, limits))


def _read_request(body: dict[str, Any], service: SpeechService) -> tuple[Utterance, cartesia.File]:
    """Raises `InvalidRequest`."""
    fields = Fields(body)
    missing = "transcript is needed: the text to speak"
    text = read_text(fields, service.limits, missing, "transcript")
    file = cartesia.read_file(fields.object("output_format"))
    voice = service.find_voice(cartesia.read_voice(body), None)
    return Utterance(text, voice, Manner(speed=cartesia.read_speed(fields, service.defaults))), file


def _speak(utterance: Utterance, output: Output, service: SpeechService) -> Speech:
    """Raises `InvalidRequest` or `Loading`."""
    return speak_file(
        utterance,
        output,
        cartesia.CartesiaDialect.name,
        service,
        "transcript",
        reading=cartesia.READING,
    )


class _Events(Wording):
    """Server-sent events, with word timestamps if the file has them."""

    def __init__(self, context_id: str | None) -> None:
        self._context_id = context_id

    def audio(self, data: bytes) -> bytes:
        return _event("chunk", cartesia.chunk(data, self._context_id))

    def words(self, segment: Segment) -> bytes:
        return _event("timestamps", cartesia.timestamps(segment.words, self._context_id))

    def problem(self, problem: WireError) -> bytes:
        return _event("error", cartesia.failure(problem, self._context_id))

    def end(self, samples: int) -> bytes:
        return _event("done", cartesia.done(self._context_id))


def _event(kind: str, message: str) -> bytes:
    return f"event: {kind}\ndata: {message}\n\n".encode()


def _choose(voices: Sequence[Voice], query: Fields) -> tuple[Sequence[Voice], bool]:
    """The requested page, and whether more follow in its direction."""
    limit = query.integer("limit", 1, _LARGEST_PAGE) or _PAGE
    wanted = query.choice("gender", (*_GENDERS.values(), "gender_neutral"))
    words = (query.string("q") or "").lower()
    found = [
        voice
        for voice in voices
        if (wanted is None or _GENDERS.get(voice.gender, "gender_neutral") == wanted)
        and (words in voice.id.lower() or words in voice.name.lower())
    ]
    ids = [voice.id for voice in found]
    if (before := query.string("ending_before")) is not None:
        end = _place(ids, before, "ending_before")
        return found[max(end - limit, 0) : end], end > limit
    after = query.string("starting_after")
    start = 0 if after is None else _place(ids, after, "starting_after") + 1
    return found[start : start + limit], len(found) > start + limit


def _place(ids: Sequence[str], voice_id: str, name: str) -> int:
    if voice_id not in ids:
        raise InvalidRequest(
            f"{name} must be a voice of this list; there is no {voice_id[:64]!r}", param=name
        )
    return ids.index(voice_id)


def _facts(voice: Voice, since: datetime) -> dict[str, Any]:
    return {
        "id": voice.id,
        "name": voice.name,
        "tagline": "",
        "description": f"{voice.name} ({voice.source})",
        "gender": _GENDERS.get(voice.gender),
        "language": voice.language.partition("-")[0],
        "locales": [{"locale": voice.language, "is_native": True}],
        "access": "public",
        "visibility": "all",
        "is_owner": True,
        "created_at": since.isoformat(),
    }
