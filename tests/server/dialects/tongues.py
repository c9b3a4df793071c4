"""How each dialect says the same things, for `test_all.py`: a row of `TONGUES` each."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from servers import PATIENCE_S
from tts_provider.server.lifecycle import Server

NONSENSE = "{"
_ELEVENLABS_CODES = {
    "max_character_limit_exceeded": "text_too_long",
    "voice_not_found": "unknown_voice",
}


@dataclass(frozen=True)
class Heard:
    """A message of a server's in words that are nobody's: audio, flushed, cancelled, done, problem
    or closed."""

    kind: str
    context: str | None = None
    data: bytes = b""
    code: Any = None


class Tongue:
    """A client of one dialect; audio is 16-bit PCM at 24 kHz."""

    route: str
    has_contexts = True
    has_voice_in_address = False
    answers_flush = True
    can_cancel = True
    goes_on = True
    """After a problem with a message."""
    is_empty_fine = False
    """A message without anything is none, instead of a problem."""

    def path(self, voice: str) -> str:
        return self.route

    def key(self, key: str) -> dict[str, str]:
        return {"X-API-Key": key}

    def say(self, context: str, text: str, voice: str) -> str:
        raise NotImplementedError

    def flush(self, context: str) -> str:
        raise NotImplementedError

    def end(self, context: str) -> str:
        raise NotImplementedError

    def cancel(self, context: str) -> str:
        raise NotImplementedError

    def hear(self, message: str | bytes) -> Heard | None:
        """None is something else that the dialect tells."""
        raise NotImplementedError


class Native(Tongue):
    route = "/v1/stream"

    def say(self, context: str, text: str, voice: str) -> str:
        # Only a context's first message may say it: here that is where it is not the usual one.
        body = {"voice": voice} if voice != "male" else {}
        return _json(type="input_text.append", context_id=context, text=text, **body)

    def flush(self, context: str) -> str:
        return _json(type="input_text.flush", context_id=context)

    def end(self, context: str) -> str:
        return _json(type="input_text.end", context_id=context)

    def cancel(self, context: str) -> str:
        return _json(type="context.cancel", context_id=context)

    def hear(self, message: str | bytes) -> Heard | None:
        body = json.loads(message)
        context = body.get("context_id")
        match body["type"]:
            case "audio.delta":
                return Heard("audio", context, base64.b64decode(body["audio"]))
            case "error":
                return Heard("problem", context, code=body["code"])
            case "audio.flushed" | "context.done" | "context.cancelled" as kind:
                return Heard(kind.partition(".")[2], context)
        return None


class Cartesia(Tongue):
    route = "/tts/websocket"

    def say(self, context: str, text: str, voice: str, **more: Any) -> str:
        output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
        body = {"transcript": text, "voice": voice, "output_format": output, "continue": True}
        return _json(context_id=context, **{**body, **more})

    def flush(self, context: str) -> str:
        return self.say(context, "", "male", flush=True)

    def end(self, context: str) -> str:
        return self.say(context, "", "male", **{"continue": False})

    def cancel(self, context: str) -> str:
        return _json(context_id=context, cancel=True)

    def hear(self, message: str | bytes) -> Heard | None:
        body = json.loads(message)
        context = body["context_id"]
        match body["type"]:
            case "chunk":
                return Heard("audio", context, base64.b64decode(body["data"]))
            case "error":
                return Heard("problem", context, code=body["error_code"])
            case "flush_done":
                return Heard("flushed", context)
            case "done":
                return Heard("done", context)
        return None


class Deepgram(Tongue):
    route = "/v1/speak"
    has_contexts = False
    has_voice_in_address = True

    def path(self, voice: str) -> str:
        return f"{self.route}?model={voice}"

    def key(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Token {key}"}

    def say(self, context: str, text: str, voice: str) -> str:
        return _json(type="Speak", text=text)

    def flush(self, context: str) -> str:
        return _json(type="Flush")

    def end(self, context: str) -> str:
        return _json(type="Close")

    def cancel(self, context: str) -> str:
        return _json(type="Clear")

    def hear(self, message: str | bytes) -> Heard | None:
        if isinstance(message, bytes):
            return Heard("audio", data=message)
        body = json.loads(message)
        match body["type"]:
            case "Flushed":
                return Heard("flushed")
            case "Cleared":
                return Heard("cancelled")
            case "Warning" | "Error":
                return Heard("problem", code=body["code"])
        return None


class ElevenLabs(Tongue):
    """One text: a problem is its end."""

    route = "/v1/text-to-speech/{voice}/stream-input"
    has_contexts = answers_flush = can_cancel = goes_on = False
    has_voice_in_address = True

    def path(self, voice: str) -> str:
        return self.route.format(voice=voice) + "?output_format=pcm_24000"

    def key(self, key: str) -> dict[str, str]:
        return {"xi-api-key": key}

    def say(self, context: str, text: str, voice: str) -> str:
        return _json(text=text, **self._place(context))

    def flush(self, context: str) -> str:
        return _json(text=" ", flush=True, **self._place(context))

    def end(self, context: str) -> str:
        return _json(text="")

    def hear(self, message: str | bytes) -> Heard | None:
        body = json.loads(message)
        context = body.get("contextId")
        if "error" in body:
            code = body["error"]
            return Heard("problem", context, code=_ELEVENLABS_CODES.get(code, code))
        if body["audio"]:
            return Heard("audio", context, base64.b64decode(body["audio"]))
        return Heard("done", context) if body["isFinal"] else None

    def _place(self, context: str) -> dict[str, str]:
        return {}


class ElevenLabsContexts(ElevenLabs):
    route = "/v1/text-to-speech/{voice}/multi-stream-input"
    has_contexts = goes_on = is_empty_fine = True

    def end(self, context: str) -> str:
        return _json(close_context=True, context_id=context)

    def _place(self, context: str) -> dict[str, str]:
        return {"context_id": context}


class ElevenLabsDialogue(Tongue):
    """One dialogue, of one voice here: a problem is its end."""

    route = "/v1/text-to-dialogue/stream-input"
    has_contexts = can_cancel = goes_on = False
    is_empty_fine = True

    def path(self, voice: str) -> str:
        return self.route + "?output_format=pcm_24000"

    def key(self, key: str) -> dict[str, str]:
        return {"xi-api-key": key}

    def say(self, context: str, text: str, voice: str) -> str:
        said = {"text": text, "voice_id": voice}
        return _json(voices=[voice], inputs=[said], **self._place(context))

    def flush(self, context: str) -> str:
        return _json(flush=True, **self._place(context))

    def end(self, context: str) -> str:
        return _json(close_socket=True)

    def hear(self, message: str | bytes) -> Heard | None:
        body = json.loads(message)
        context = body.get("context_id")
        if "error" in body:
            code = body["error"]
            return Heard("problem", context, code=_ELEVENLABS_CODES.get(code, code))
        if body.get("audio"):
            return Heard("audio", context, base64.b64decode(body["audio"]))
        if body.get("is_final_audio_for_turn"):
            return Heard("flushed", context)
        return Heard("done", context) if body.get("is_final") else None

    def _place(self, context: str) -> dict[str, str]:
        return {}


class ElevenLabsDialogues(ElevenLabsDialogue):
    route = "/v1/text-to-dialogue/multi-stream-input"
    has_contexts = goes_on = True
    is_empty_fine = False

    def end(self, context: str) -> str:
        return _json(close_context=True, context_id=context)

    def _place(self, context: str) -> dict[str, str]:
        return {"context_id": context}


TONGUES = (
    *(Native(), Cartesia(), Deepgram(), ElevenLabs(), ElevenLabsContexts()),
    *(ElevenLabsDialogue(), ElevenLabsDialogues()),
)


class Talk:
    """One connection."""

    def __init__(self, server: Server, tongue: Tongue, voice: str = "male", key: str = "") -> None:
        url = f"ws://127.0.0.1:{server.port}{tongue.path(voice)}"
        headers = tongue.key(key) if key else {}
        self._connect = connect(url, compression=None, max_size=None, additional_headers=headers)
        self._tongue, self._voice = tongue, voice

    async def __aenter__(self) -> Talk:
        self.socket = await self._connect.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._connect.__aexit__(*error)

    async def say(self, context: str, *texts: str) -> None:
        for text in texts:
            await self.socket.send(self._tongue.say(context, text, self._voice))

    async def flush(self, context: str) -> None:
        await self.socket.send(self._tongue.flush(context))

    async def end(self, context: str) -> None:
        await self.socket.send(self._tongue.end(context))

    async def cancel(self, context: str) -> None:
        await self.socket.send(self._tongue.cancel(context))

    async def hear(self) -> Heard:
        while True:
            try:
                message = await asyncio.wait_for(self.socket.recv(), PATIENCE_S)
            except ConnectionClosed as closed:
                return Heard("closed", code=closed.rcvd.code if closed.rcvd else None)
            heard = self._tongue.hear(message)
            if heard is not None:
                return heard

    async def hear_until(self, *kinds: str, context: str | None = None) -> list[Heard]:
        """Up to a message of these kinds, of that context if one is given, or the end."""
        told = [await self.hear()]
        while told[-1].kind != "closed" and (
            told[-1].kind not in kinds or context not in (None, told[-1].context)
        ):
            told.append(await self.hear())
        return told


def audio_of(told: list[Heard], context: str | None = None) -> bytes:
    return b"".join(h.data for h in told if context in (None, h.context))


def _json(**body: Any) -> str:
    return json.dumps(body)
