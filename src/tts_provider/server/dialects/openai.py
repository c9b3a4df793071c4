"""OpenAI's speech API: what speaks with `https://api.openai.com/v1` speaks with this server too.

https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from __future__ import annotations

import base64
import codecs
import json
import math
import re
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError, text_named
from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.fields import check_text, no_text
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
from tts_provider.server.http.speech_file import speak_file, worded
from tts_provider.server.service.service import SpeechService
from tts_provider.server.service.word_facts import are_estimated
from tts_provider.server.transport.address import error_body
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Utterance, Voice
from tts_provider.speech.lexicon import read_pronunciations
from tts_provider.speech.pipeline import Segment
from tts_provider.speech.reading import ReadingOptions
from tts_provider.speech.structure.blocks import NotSpeech
from tts_provider.voices.aliases import MAN, WOMAN

ENDPOINT = "openai"

MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""What clients ask for by default: here names for the engine's own model."""

_ResponseFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
MEDIA_TYPES = {name: AUDIO_FORMATS[name].media_type for name in get_args(_ResponseFormat)}
# By how OpenAI's voices sound; alloy and fable could be either.
VOICES: Mapping[str, int] = {
    "alloy": WOMAN,
    "ash": MAN,
    "ballad": MAN,
    "cedar": MAN,
    "coral": WOMAN,
    "echo": MAN,
    "fable": MAN,
    "marin": WOMAN,
    "nova": WOMAN,
    "onyx": MAN,
    "sage": WOMAN,
    "shimmer": WOMAN,
    "verse": MAN,
}

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

_MAX_SEED = 2**53 - 1  # RFC 8259 section 6: above, clients and documents round
_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,18})?")
_TOKEN_SAMPLES = SAMPLE_RATE * 80 // 1000  # what is counted for the audio


def _read_number(value: Any) -> Any:
    """What a number is written as where a client sends it as it was typed."""
    is_number = isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    return float(value) if is_number else value


def _or_a_numeric_string(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string", "pattern": f"^{_NUMBER.pattern}$"})


_ANY_CASE = BeforeValidator(
    lambda value: value.strip().lower() if isinstance(value, str) else value
)


class VoiceId(BaseModel):
    id: str


class SpeechRequest(BaseModel):
    """A text to speak. Fields that are not listed are ignored; null counts as not given."""

    model_config = ConfigDict(strict=True, title="SpeechRequest", hide_input_in_errors=True)

    input: str = Field(
        description="What to say, without control characters.",
        min_length=1,
        json_schema_extra={"pattern": r"^[^\u0000-\u0008\u000e-\u001f\u007f-\u009f]+$"},
    )
    model: str | None = Field(None, description="Any name; this server has one model.")
    voice: str | VoiceId | None = Field(
        None, description="A voice id, or one of OpenAI's names; by default the male voice."
    )
    response_format: Annotated[_ResponseFormat, _ANY_CASE] | None = Field(
        None, description="mp3 by default; pcm is 16-bit, mono, 24 kHz, without a header."
    )
    speed: (
        Annotated[
            float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False), BeforeValidator(_read_number)
        ]
        | None
    ) = Field(
        None,
        json_schema_extra=_or_a_numeric_string,
        description="2 takes half the time; the pitch stays. 1 by default.",
    )
    stream_format: Annotated[Literal["audio", "sse"], _ANY_CASE] | None = Field(
        None, description="audio (default): the file; sse: events with pieces of it in base64."
    )
    timestamp_granularities: list[Literal["word"]] | None = Field(
        None,
        description="When each word is spoken, in events: needs stream_format sse. OpenAI has this "
        "for transcriptions.",
    )
    instructions: str | None = Field(
        None, description="Accepted and ignored: no model here takes any."
    )
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)] | None = Field(
        None, description="Same seed, same audio. Not in OpenAI's API."
    )
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = Field(
        None, description="0 is greedy. Not in OpenAI's API."
    )
    top_k: Annotated[int, Field(ge=1, le=2048)] | None = Field(
        None, description="Not in OpenAI's API."
    )

    ssml: bool | None = Field(
        None, description="The input is SSML, a subset: docs/text.md. Not in OpenAI's API."
    )
    read_aloud: list[NotSpeech] | None = Field(
        None, description="What is to be spoken although it is no speech. Not in OpenAI's API."
    )
    pronunciations: dict[str, str] | None = Field(
        None,
        description="Words and how they are said, as other words or /IPA/. Not in OpenAI's API.",
    )

    def reading(self) -> ReadingOptions:
        """Raises `InvalidRequest`."""
        return ReadingOptions(
            ssml=self.ssml or False,
            aloud=frozenset(self.read_aloud or ()),
            lexicon=read_pronunciations(self.pronunciations or {}),
        )


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
        # An engine on another machine says late what it is.
        return list(dict.fromkeys((service.engine.model, *MODELS)))

    @router.post(
        "/audio/speech",
        response_class=Response,
        responses={
            200: {
                "description": "The audio, while it is made.",
                "content": {
                    media_type: {"schema": {"type": "string", "format": "binary"}}
                    for media_type in MEDIA_TYPES.values()
                }
                | {_EVENT_STREAM: {"itemSchema": _EVENT_SCHEMA}},
            },
            **errors(400, 408, 413, 415, 422, 500, 503),
        },
        openapi_extra=json_body(SpeechRequest, FORM_MEDIA_TYPE, MULTIPART),
    )
    async def create_speech(request: Request) -> Response:
        """Speak a text."""
        return speak(await _read(request, service.limits), service)

    @router.post(
        "/audio/words",
        responses=errors(400, 408, 413, 415, 500, 503),
        openapi_extra=json_body(SpeechRequest, FORM_MEDIA_TYPE, MULTIPART),
    )
    async def show_words(request: Request) -> SpokenWords:
        """A text as it would be spoken, without speaking it."""
        asked = await _read(request, service.limits)
        voice = service.find_voice(_voice_of(asked), None)
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
        return read_request(form.texts, limits)
    body = await read_json(request, limits)
    if kind == FORM_MEDIA_TYPE and not body.lstrip().startswith((b"{", codecs.BOM_UTF8)):
        return read_request(_read_urlencoded(body), limits)
    return read_request(body, limits)


def _read_urlencoded(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=64, errors="strict"
        )
    except ValueError:
        raise InvalidRequest("the form cannot be read", code="invalid_form") from None
    return dict(reversed(fields))  # of two with one name the first counts


def read_request(body: bytes | Mapping[str, str], limits: Limits) -> SpeechRequest:
    """From JSON, or a form's fields, of which an empty one counts as not given. Raises
    `InvalidRequest`."""
    try:
        if isinstance(body, bytes):
            request = SpeechRequest.model_validate_json(body.removeprefix(codecs.BOM_UTF8))
        else:
            given = {name: value for name, value in body.items() if value or name == "input"}
            request = SpeechRequest.model_validate_strings(given)
    except ValidationError as error:
        raise _as_invalid_request(error) from None
    if request.timestamp_granularities and request.stream_format != "sse":
        raise InvalidRequest(
            "timestamp_granularities needs stream_format sse: a file has no room for words",
            code="invalid_value",
            param="timestamp_granularities",
        )
    if not request.input.strip():
        raise no_text("input is blank; send a text", "input")
    check_text(request.input, limits, "input")
    return request


def _as_invalid_request(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong, in one sentence."""
    problem = error.errors(include_url=False)[0]
    kind, where, message = problem["type"], problem["loc"], problem["msg"]
    if kind == "json_invalid":
        reason = message.removeprefix("Invalid JSON: ")
        return InvalidRequest(f"Invalid JSON format: {reason}", code="invalid_json")
    if not where:
        return InvalidRequest("the body must be a JSON object", code="invalid_type")
    name = str(where[0])
    if kind in ("missing", "string_too_short") and name == "input":
        return no_text("input is needed: the text to speak", name)
    if name == "voice":
        message = 'Input should be a string or an object {"id": "..."}'
    got = json.dumps(problem["input"], default=str)
    sentence = message.replace("Input should be", f"{name} must be")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return InvalidRequest(f"{sentence}; got {got[:60]}", code=code, param=name)


def _voice_of(request: SpeechRequest) -> str | None:
    return request.voice.id if isinstance(request.voice, VoiceId) else request.voice


def speak(request: SpeechRequest, service: SpeechService) -> AudioStream:
    """Raises `InvalidRequest` or `Loading`."""
    utterance = Utterance(
        text=request.input,
        voice=service.find_voice(_voice_of(request), None),
        manner=Manner(
            temperature=request.temperature,
            top_k=request.top_k,
            seed=request.seed,
            speed=1.0 if request.speed is None else request.speed,
            word_times=bool(request.timestamp_granularities),
        ),
    )
    audio_format = request.response_format or "mp3"
    speech = speak_file(
        utterance,
        Output(audio_format, SAMPLE_RATE),
        ENDPOINT,
        service,
        "input",
        reading=request.reading(),
    )
    if request.stream_format == "sse":
        events = worded(speech, _Events(len(utterance.text)))
        return AudioStream(events, _EVENT_STREAM, service)
    return AudioStream(speech, MEDIA_TYPES[audio_format], service)


class _Events:
    """Server-sent events, with what it cost in the last."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def audio(self, data: bytes) -> bytes:
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})

    def words(self, segment: Segment) -> bytes:
        """As OpenAI's transcriptions have them, in seconds, with their places in the text."""
        words = [
            {
                "word": word.text,
                "start": word.start_ms / 1000,
                "end": word.end_ms / 1000,
                "from": word.text_start,
                "to": word.text_end,
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


OPENAI = Api(ENDPOINT, create_router=create_router, voices=VOICES)
