"""ElevenLabs' HTTP: a text as a file, as a stream, or with the times of its characters; voices,
models, and the account that its clients read.

https://elevenlabs.io/docs/api-reference/text-to-speech/convert
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.keys.caller import current_caller
from tts_provider.server.dialects.elevenlabs import websocket as elevenlabs
from tts_provider.server.dialects.elevenlabs.dialogue import Characters, read_dialogue
from tts_provider.server.dialects.fields import Fields, parse_query, read_object, read_text
from tts_provider.server.http.answers import AudioStream, read_json
from tts_provider.server.http.speech_file import Speech, Wording, speak_file, worded
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Manner, Utterance, Voice, Word
from tts_provider.speech.pipeline import Segment

_CATEGORIES = {"enrolled": "cloned"}
_PAGE, _LARGEST_PAGE = 10, 100
# This server has no such limit, but clients subtract from one to show what is left.
_NO_LIMIT = 2**31 - 1


class _AskedWithItsHeader(APIRoute):
    """A route whose address another API has too: it matches only requests with this API's key
    header."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if elevenlabs.KEY_HEADER not in Headers(scope=scope):
            return Match.NONE, {}
        return super().matches(scope)


def create_router(service: SpeechService) -> APIRouter:
    # ElevenLabs' own documentation describes this API.
    router = APIRouter(include_in_schema=False)
    shared = APIRouter(include_in_schema=False, route_class=_AskedWithItsHeader)

    @router.post("/v1/text-to-speech/{voice_id}")
    @router.post("/v1/text-to-speech/{voice_id}/stream")
    async def speak(request: Request, voice_id: str) -> Response:
        output, speech = await _speak(request, voice_id, service)
        return AudioStream(speech, AUDIO_FORMATS[output.format].media_type, service)

    @router.post("/v1/text-to-speech/{voice_id}/with-timestamps")
    async def speak_with_times(request: Request, voice_id: str) -> Response:
        _, speech = await _speak(request, voice_id, service, word_times=True)
        return AudioStream(worded(speech, _OneObject(Characters())), "application/json", service)

    @router.post("/v1/text-to-speech/{voice_id}/stream/with-timestamps")
    async def stream_with_times(request: Request, voice_id: str) -> Response:
        _, speech = await _speak(request, voice_id, service, word_times=True)
        return AudioStream(worded(speech, _Lines(Characters())), "application/json", service)

    @router.post("/v1/text-to-dialogue")
    @router.post("/v1/text-to-dialogue/stream")
    async def speak_dialogue(request: Request) -> Response:
        output, speech, _ = await _speak_dialogue(request, service)
        return AudioStream(speech, AUDIO_FORMATS[output.format].media_type, service)

    @router.post("/v1/text-to-dialogue/with-timestamps")
    async def speak_dialogue_with_times(request: Request) -> Response:
        _, speech, characters = await _speak_dialogue(request, service, word_times=True)
        return AudioStream(worded(speech, _OneObject(characters)), "application/json", service)

    @router.post("/v1/text-to-dialogue/stream/with-timestamps")
    async def stream_dialogue_with_times(request: Request) -> Response:
        _, speech, characters = await _speak_dialogue(request, service, word_times=True)
        return AudioStream(worded(speech, _Lines(characters)), "application/json", service)

    @router.get("/v1/voices")
    async def list_voices() -> Response:
        return JSONResponse({"voices": [_facts(voice) for voice in await service.voices()]})

    @router.get("/v2/voices")
    async def search_voices(request: Request) -> Response:
        query = parse_query(request.query_params)
        words = (query.string("search") or "").lower()
        found = [
            voice
            for voice in await service.voices()
            if words in voice.id.lower() or words in voice.name.lower()
        ]
        start = query.integer("next_page_token", 0, None) or 0
        end = start + (query.integer("page_size", 1, _LARGEST_PAGE) or _PAGE)
        has_more = end < len(found)
        return JSONResponse(
            {
                "voices": [_facts(voice) for voice in found[start:end]],
                "has_more": has_more,
                "total_count": len(found),
                "next_page_token": str(end) if has_more else None,
            }
        )

    @router.get("/v1/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        return JSONResponse(_facts(_find_voice(voice_id, service)))

    @shared.get("/v1/models")
    async def list_models() -> Response:
        model = service.engine.model
        return JSONResponse(
            [
                {
                    "model_id": model,
                    "name": model,
                    "can_do_text_to_speech": True,
                    "can_be_finetuned": False,
                    "can_do_voice_conversion": False,
                    "can_use_style": False,
                    "can_use_speaker_boost": False,
                    "serves_pro_voices": False,
                    "token_cost_factor": 0.0,
                    "maximum_text_length_per_request": service.limits.max_text_characters,
                    "languages": [{"language_id": "en", "name": "English"}],
                }
            ]
        )

    @router.get("/v1/user/subscription")
    async def get_subscription() -> Response:
        return JSONResponse(await _subscription(service))

    @router.get("/v1/user")
    async def get_user() -> Response:
        return JSONResponse(
            {
                "user_id": "tts-provider",
                "subscription": await _subscription(service),
                "is_new_user": False,
                "can_use_delayed_payment_methods": False,
                "is_onboarding_completed": True,
                "is_onboarding_checklist_completed": True,
                "created_at": 0,
                "seat_type": "workspace_admin",
            }
        )

    router.include_router(shared)
    return router


async def _speak(
    request: Request, voice_id: str, service: SpeechService, *, word_times: bool = False
) -> tuple[Output, Speech]:
    """Raises `InvalidRequest` or `Loading`."""
    limits = service.limits
    output = _read_output(request)
    fields = Fields(read_object(await read_json(request, limits)))
    text = read_text(fields, limits, "text is needed: what to speak")
    utterance = Utterance(
        text,
        _find_voice(voice_id, service),
        Manner(
            seed=fields.integer("seed", 0, 2**32 - 1),
            speed=elevenlabs.read_speed(fields.object("voice_settings")) or service.defaults.speed,
            word_times=word_times,
        ),
    )
    return output, speak_file(
        utterance,
        output,
        elevenlabs.StreamInput.name,
        service,
        "text",
        reading=elevenlabs.read_reading(fields),
    )


async def _speak_dialogue(
    request: Request, service: SpeechService, *, word_times: bool = False
) -> tuple[Output, Speech, Characters]:
    """Raises `InvalidRequest` or `Loading`."""
    output = _read_output(request)
    fields = Fields(read_object(await read_json(request, service.limits)))
    dialogue, voice_ids = read_dialogue(
        fields,
        service.limits,
        lambda voice_id: _find_voice(voice_id, service),
        Manner(speed=service.defaults.speed, word_times=word_times),
    )
    speech = speak_file(
        dialogue,
        output,
        elevenlabs.StreamInput.name,
        service,
        "text",
        reading=elevenlabs.read_reading(fields),
    )
    return output, speech, Characters(voice_ids)


def _read_output(request: Request) -> Output:
    """Raises `InvalidRequest`."""
    name = request.query_params.get("output_format") or elevenlabs.DEFAULT_OUTPUT
    return elevenlabs.read_output(name)


def _find_voice(voice_id: str, service: SpeechService) -> Voice:
    return service.find_voice(voice_id, None, unknown_status=404)


class _OneObject(Wording):
    """`{"audio_base64": …, "alignment": …}`, written while the audio is generated."""

    def __init__(self, characters: Characters) -> None:
        self._head, self._left, self._words = b'{"audio_base64": "', b"", list[Word]()
        self._characters = characters

    def audio(self, data: bytes) -> bytes:
        data = self._left + data
        whole = len(data) // 3 * 3  # base64 has an end only where it ends
        head, self._head, self._left = self._head, b"", data[whole:]
        return head + base64.b64encode(data[:whole])

    def words(self, segment: Segment) -> bytes:
        self._words += segment.words
        return b""

    def end(self, samples: int) -> bytes:
        tail = json.dumps(self._characters.tell(self._words))
        return self._head + base64.b64encode(self._left) + b'", ' + tail[1:].encode()


class _Lines(Wording):
    """An object for each piece of audio and for the words of each segment, one a line."""

    def __init__(self, characters: Characters) -> None:
        self._characters = characters

    def audio(self, data: bytes) -> bytes:
        return self._line(data, ())

    def words(self, segment: Segment) -> bytes:
        return self._line(b"", segment.words)

    def _line(self, data: bytes, words: Sequence[Word]) -> bytes:
        audio = base64.b64encode(data).decode()
        body = {"audio_base64": audio, **self._characters.tell(words)}
        return json.dumps(body).encode() + b"\n"


def _facts(voice: Voice) -> dict[str, Any]:
    return {
        "voice_id": voice.id,
        "name": voice.name,
        # ElevenLabs calls a voice professional if a model was trained for it.
        "category": "professional"
        if voice.has_adapter
        else _CATEGORIES.get(voice.source, "premade"),
        "labels": {"gender": voice.gender, "language": voice.language.partition("-")[0]},
        "description": f"{voice.name} ({voice.source})",
        "preview_url": None,
        "available_for_tiers": [],
        "settings": None,
        "samples": None,
        "high_quality_base_model_ids": [],
        "is_owner": True,
    }


async def _subscription(service: SpeechService) -> dict[str, Any]:
    """The fields for which the package's type has no default."""
    enrolled = sum(voice.source == "enrolled" for voice in await service.voices())
    caller, allowances = current_caller(), service.allowances
    limit = allowances.limits(caller).characters_per_day
    spent = 0 if caller.name is None else allowances.counts.characters_today(caller.name)
    return {
        "tier": "self-hosted",
        "status": "active",
        "character_count": spent,
        "character_limit": _NO_LIMIT if limit is None else limit,
        "can_extend_character_limit": False,
        "allowed_to_extend_character_limit": False,
        "voice_slots_used": enrolled,
        "voice_limit": service.limits.max_voices,
        "voice_add_edit_counter": 0,
        "professional_voice_slots_used": 0,
        "professional_voice_limit": 0,
        "can_extend_voice_limit": False,
        "can_use_instant_voice_cloning": False,
        "can_use_professional_voice_cloning": False,
        "max_credit_limit_extension": 0,
        "open_invoices": [],
        "has_open_invoices": False,
    }
