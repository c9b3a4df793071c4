"""Runs in an environment of its own: LiveKit's ElevenLabs voice speaks a text with the server.

    python livekit_elevenlabs.py BASE_URL KEY TEXT VOICE

By `websocket`, by `http`, and `interrupted`, which leaves a long text when its first audio is
there and says the other on the same connection. Prints JSON: of each way the frames' sample rates,
the text's audio in base64 and the words of the transcript with their times; and the voices. The
same through text-to-dialogue, which is how the plugin asks for the service's third model.
"""

import asyncio
import base64
import json
import sys

import aiohttp
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.plugins import elevenlabs

LONG = "This is one sentence of many that nobody wants to hear to the end. " * 5


async def speak(speaker: elevenlabs.TTS, text: str, way: str) -> list:
    if way == "http":
        async with speaker.synthesize(text) as stream:
            return [event.frame async for event in stream]
    if way == "interrupted":
        async with speaker.stream() as stream:
            stream.push_text(LONG)
            stream.end_input()
            async for _ in stream:
                break
    async with speaker.stream() as stream:
        for word in text.split(" "):
            stream.push_text(word + " ")
        stream.end_input()
        return [event.frame async for event in stream]


def tell(frames: list) -> dict:
    words = [word for frame in frames for word in frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, [])]
    return {
        "errors": [],
        "sample_rates": sorted({frame.sample_rate for frame in frames}),
        "audio": base64.b64encode(b"".join(bytes(frame.data) for frame in frames)).decode(),
        "words": [(str(word), word.start_time) for word in words],
    }


# Its default, and what joins without a seam.
ENCODINGS = {
    "websocket": "mp3_22050_32",
    "http": "opus_48000_64",
    "interrupted": "pcm_24000",
    "dialogue_websocket": "pcm_24000",
    "dialogue_http": "mp3_22050_32",
    "dialogue_interrupted": "mp3_22050_32",
}


async def main(base_url: str, key: str, text: str, voice: str) -> None:
    report = {}
    async with aiohttp.ClientSession() as session:
        for way, encoding in ENCODINGS.items():
            # The service speaks its third model at other addresses, and so does the plugin.
            model = {"model": "eleven_v3"} if way.startswith("dialogue") else {}
            speaker = elevenlabs.TTS(
                **model,
                base_url=base_url + "/v1",
                api_key=key,
                voice_id=voice,
                encoding=encoding,
                http_session=session,
            )
            report[way] = tell(await speak(speaker, text, way.removeprefix("dialogue_")))
            report["voices"] = [voice.id for voice in await speaker.list_voices()]
            await speaker.aclose()
    json.dump(report, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
