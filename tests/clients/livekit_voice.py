"""Runs in an environment of its own: one of LiveKit's voices speaks with the server.

    python livekit_voice.py SERVICE HTTP_URL VOICE TEXT [LONG_TEXT]

Speaks the text over HTTP, and over a WebSocket while it is written; with a long text, that is begun
and interrupted between. Prints JSON of both: the sample rates, the audio in base64, and the words
of the transcript.
"""

import asyncio
import base64
import json
import sys

import aiohttp
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.plugins import cartesia, deepgram


def create(service: str, url: str, voice: str, session: aiohttp.ClientSession):
    options = {"api_key": "k", "http_session": session}
    if service == "cartesia":
        return cartesia.TTS(base_url=url, voice=voice, **options)
    return deepgram.TTS(base_url=f"{url}/v1/speak", model=voice, **options)


async def main(service: str, url: str, voice: str, text: str, long_text: str = "") -> None:
    frames = {}
    async with aiohttp.ClientSession() as session:
        speaker = create(service, url, voice, session)
        async with speaker.synthesize(text) as stream:
            frames["http"] = [event.frame async for event in stream]
        if long_text:
            async with speaker.stream() as stream:
                stream.push_text(long_text)
                stream.flush()
                await anext(stream)
        async with speaker.stream() as stream:
            for word in text.split():
                stream.push_text(f"{word} ")
            stream.end_input()
            frames["websocket"] = [event.frame async for event in stream]
        await speaker.aclose()
    report = {
        name: {
            "errors": [],
            "sample_rates": sorted({frame.sample_rate for frame in found}),
            "audio": base64.b64encode(b"".join(bytes(f.data) for f in found)).decode(),
            "words": [
                str(word).strip()
                for frame in found
                for word in frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, [])
            ],
        }
        for name, found in frames.items()
    }
    json.dump(report, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
