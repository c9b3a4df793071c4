"""OpenAI's speech API: programs that use `https://api.openai.com/v1` can use this server too.

https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from __future__ import annotations

import base64
import codecs
import json
import math
import time
import uuid
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError, text_named
from tts_provider.server.dialects.openai.requests import (
    DialogueRequest,
    ResponseFormat,
    SpeechOptions,
    SpeechRequest,
    read_dialogue,
    read_speech,
)
from tts_provider.server.http.answers import (
    FORM_MEDIA_TYPE,
    AudioStream,
    arriving,
    media_type,
    read_json,
    while_connected,
)
from tts_provider.server.http.form import MULTIPART, read_form
from tts_provider.server.http.openapi import errors, json_body
from tts_provider.server.http.speech_file import Wording, speak_file, worded
from tts_provider.server.service.service import SpeechService
from tts_provider.server.service.word_facts import are_estimated, who_says
from tts_provider.server.transport.address import error_body
from tts_provider.speech.dialogue import Dialogue
from tts_provider.speech.engine import SAMPLE_RATE, Voice
from tts_provider.speech.pipeline import Segment

ENDPOINT = "openai"

MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""The models that clients request by default: here they are names for the engine's own model."""

MEDIA_TYPES = {name: AUDIO_FORMATS[name].media_type for name in get_args(ResponseFormat)}
_EVENT_STREAM = "text/event-stream"
_EVENT_SCHEMA = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object"},
        }
    },
}

_TOKEN_SAMPLES = SAMPLE_RATE * 80 // 1000  # what is counted for the audio


class SpokenWords(BaseModel):
    segments: list[str] = Field(description="What is spoken in one go each, in words.")


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tts-provider"


class VoiceModel(BaseModel):
    """A voice, which is a model of its own to Deepgram's clients."""

    name: str
    canonical_name: str
    architecture: str
    languages: list[str]
    version: str
    uuid: str
    metadata: dict[str, list[str]]


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
    tts: list[VoiceModel] = Field(description="The voices, as Deepgram's clients ask for them.")


class AudioModel(BaseModel):
    id: str
    name: str


class AudioModelList(BaseModel):
    models: list[AudioModel]


def create_router(service: SpeechService) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    started = int(time.time())

    def known_models() -> list[str]:
        # An engine on another machine reports its model late.
        return list(dict.fromkeys((service.engine.model, *MODELS)))

    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The audio, while it is made.",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in MEDIA_TYPES.values()
            }
            | {_EVENT_STREAM: {"itemSchema": _EVENT_SCHEMA}},
        },
        **errors(400, 408, 413, 415, 422, 500, 503),
    }

    @router.post(
        "/audio/speech",
        response_class=Response,
        responses=responses,
        openapi_extra=json_body(SpeechRequest, FORM_MEDIA_TYPE, MULTIPART),
    )
    async def create_speech(request: Request) -> Response:
        """Speak a text."""
        return speak(await _read(request, service.limits), service, "input")

    @router.post(
        "/audio/dialogue",
        response_class=Response,
        responses=responses,
        openapi_extra=json_body(DialogueRequest),
    )
    async def create_dialogue(request: Request) -> Response:
        """Speak what several voices say, one after the other."""
        body = await read_json(request, service.limits)
        return speak(read_dialogue(body, service.limits), service, "text")

    @router.post(
        "/audio/words",
        responses=errors(400, 408, 413, 415, 500, 503),
        openapi_extra=json_body(SpeechRequest, FORM_MEDIA_TYPE, MULTIPART),
    )
    async def show_words(request: Request) -> SpokenWords:
        """A text as it would be spoken, without speaking it."""
        asked = await _read(request, service.limits)
        voice = service.find_voice(asked.voice_id, None)
        with text_named("input"):
            reading = service.words(asked.input, voice, asked.reading())
            return SpokenWords(segments=await while_connected(request, reading))

    @router.get("/models")
    async def list_models() -> ModelList:
        """The engine's model, and OpenAI's names for it."""
        return ModelList(
            data=[Model(id=model, created=started) for model in known_models()],
            tts=[_voice_model(voice, service.engine.model) for voice in await service.voices()],
        )

    @router.get("/models/{model:path}", responses=errors(404))
    async def get_model(model: str) -> Model:
        """One model."""
        ids = known_models()
        if model not in ids:
            raise InvalidRequest(
                f"there is no model {model[:64]!r}; this server has {', '.join(ids)}",
                code="model_not_found",
                param="model",
                http_status=404,
            )
        return Model(id=model, created=started)

    @router.get("/audio/models")
    async def list_audio_models() -> AudioModelList:
        """The same models in the shape that Open WebUI asks for."""
        return AudioModelList(models=[AudioModel(id=model, name=model) for model in known_models()])

    return router


async def _read(request: Request, limits: Limits) -> SpeechRequest:
    """JSON, or a form with the same fields, as HTML and curl send them. Raises `InvalidRequest`."""
    kind = media_type(request)
    if kind == MULTIPART:
        reading = read_form(
            request.headers["content-type"],
            request.stream(),
            max_bytes=limits.max_wire_bytes,
            max_text_bytes=limits.max_wire_bytes,
        )
        form = await arriving(reading, "the form", limits.handshake_timeout_s)
        return read_speech(form.texts, limits)
    body = await read_json(request, limits)
    if kind == FORM_MEDIA_TYPE and not body.lstrip().startswith((b"{", codecs.BOM_UTF8)):
        return read_speech(_read_urlencoded(body), limits)
    return read_speech(body, limits)


def _read_urlencoded(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=64, errors="strict"
        )
    except ValueError:
        raise InvalidRequest("the form cannot be read", code="invalid_form") from None
    return dict(reversed(fields))  # if two have the same name, the first counts


def speak(request: SpeechOptions, service: SpeechService, text_name: str) -> AudioStream:
    """Raises `InvalidRequest` or `Loading`."""
    asked = request.asked(service.find_voice, service.defaults)
    output = request.output(service.defaults)
    speech = speak_file(
        asked,
        output,
        ENDPOINT,
        service,
        text_name,
        reading=request.reading(),
    )
    if request.stream_format == "sse":
        events = worded(speech, _Events(Dialogue.of(asked).characters))
        return AudioStream(events, _EVENT_STREAM, service)
    return AudioStream(speech, MEDIA_TYPES[output.format], service)


class _Events(Wording):
    """Server-sent events; the last one has the usage."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def audio(self, data: bytes) -> bytes:
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})

    def words(self, segment: Segment) -> bytes:
        """Words as in OpenAI's transcriptions, in seconds, with their places in the text."""
        words = [
            {
                "word": word.text,
                "start": word.start_ms / 1000,
                "end": word.end_ms / 1000,
                "from": word.text_start,
                "to": word.text_end,
                **who_says(word),
            }
            for word in segment.words
        ]
        estimated = are_estimated(segment.words)
        return _event({"type": "speech.audio.words", "words": words, "estimated": estimated})

    def problem(self, problem: WireError) -> bytes:
        return _event(error_body(problem))

    def end(self, samples: int) -> bytes:
        frames = math.ceil(samples / _TOKEN_SAMPLES)
        usage = {
            "input_tokens": self._characters,
            "output_tokens": frames,
            "total_tokens": self._characters + frames,
        }
        return _event({"type": "speech.audio.done", "usage": usage})


def _voice_model(voice: Voice, model: str) -> VoiceModel:
    """https://developers.deepgram.com/reference/management-api/models/list"""
    return VoiceModel(
        name=voice.name,
        canonical_name=voice.id,
        architecture=voice.source,
        languages=[voice.language],
        version=model,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, voice.id)),
        metadata={"tags": [voice.gender], "use_cases": []},
    )


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()
