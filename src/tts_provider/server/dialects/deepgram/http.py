"""Deepgram's HTTP: a text as a file.

https://developers.deepgram.com/reference/text-to-speech/speak-request
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.errors import InvalidRequest
from tts_provider.server.dialects.deepgram import websocket as deepgram
from tts_provider.server.dialects.fields import Fields, parse_query, read_object, read_text
from tts_provider.server.http.answers import AudioStream, read_json
from tts_provider.server.http.speech_file import speak_file
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import Manner, Utterance

# RFC 2586 has 16-bit samples in the opposite byte order.
_BARE_PCM = "audio/l16;rate={rate};channels=1;endianness=little-endian"
_MEDIA_TYPES = {
    "linear16": _BARE_PCM,
    "mulaw": "audio/mulaw;rate={rate}",
    "alaw": "audio/alaw;rate={rate}",
    "opus": "audio/ogg;codecs=opus",
}


def create_router(service: SpeechService) -> APIRouter:
    # Deepgram's own documentation describes this API.
    router = APIRouter(include_in_schema=False)

    @router.post("/v1/speak")
    async def speak(request: Request) -> Response:
        query = parse_query(request.query_params)
        if query.string("callback") is not None:
            raise InvalidRequest(
                "the audio comes as the answer here; there are no callbacks", param="callback"
            )
        file = deepgram.read_file(query)
        speed = deepgram.read_speed(query, service.defaults)
        voice = service.find_voice(query.string("model"), None)
        utterance = Utterance(await _read_text(request, service), voice, Manner(speed=speed))
        speech = speak_file(
            utterance,
            file.output,
            deepgram.DeepgramDialect.name,
            service,
            "text",
        )
        return AudioStream(speech, _media_type(file), service)

    return router


async def _read_text(request: Request, service: SpeechService) -> str:
    """Raises `InvalidRequest`."""
    fields = Fields(read_object(await read_json(request, service.limits)))
    return read_text(fields, service.limits, "text is needed: what to speak")


def _media_type(file: deepgram.File) -> str:
    own = None if file.container == "wav" else _MEDIA_TYPES.get(file.encoding)
    media_type = own or AUDIO_FORMATS[file.output.format].media_type
    return media_type.format(rate=file.output.sample_rate)
