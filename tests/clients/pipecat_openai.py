"""Runs in an environment of its own: Pipecat's OpenAI voice speaks a text with the server.

    python pipecat_openai.py BASE_URL TEXT VOICE

Prints JSON: the frames' sample rate, and their audio in base64.
"""

import asyncio
import base64
import json
import sys

from pipecat.frames.frames import ErrorFrame, TTSAudioRawFrame, TTSSpeakFrame
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.tests.utils import run_test


async def main(base_url: str, text: str, voice: str) -> None:
    service = OpenAITTSService(
        base_url=base_url,
        api_key="any",
        sample_rate=24_000,
        settings=OpenAITTSService.Settings(voice=voice),
    )
    down, up = await run_test(service, frames_to_send=[TTSSpeakFrame(text)])
    errors = [str(frame.error) for frame in (*down, *up) if isinstance(frame, ErrorFrame)]
    frames = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    audio = b"".join(frame.audio for frame in frames)
    report = {
        "errors": errors,
        "sample_rates": sorted({frame.sample_rate for frame in frames}),
        "audio": base64.b64encode(audio).decode(),
    }
    json.dump(report, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
