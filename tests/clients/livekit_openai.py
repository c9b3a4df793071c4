"""Runs in an environment of its own: LiveKit's OpenAI voice speaks a text with the server.

    python livekit_openai.py BASE_URL TEXT VOICE MODEL

For tts-1 and tts-1-hd it asks for the file, for other models for events. Prints JSON: the frames'
sample rate, and their audio in base64.
"""

import asyncio
import base64
import json
import sys

from livekit.plugins import openai


async def main(base_url: str, text: str, voice: str, model: str) -> None:
    speaker = openai.TTS(base_url=base_url, api_key="any", voice=voice, model=model)
    speaker.prewarm()
    async with speaker.synthesize(text) as stream:
        frames = [event.frame async for event in stream]
    await speaker.aclose()
    report = {
        "errors": [],
        "sample_rates": sorted({frame.sample_rate for frame in frames}),
        "audio": base64.b64encode(b"".join(bytes(frame.data) for frame in frames)).decode(),
    }
    json.dump(report, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
