"""Runs in an environment of its own: Pipecat's ElevenLabs voices speak texts with the server.

    python pipecat_elevenlabs.py BASE_URL KEY TEXT VOICE

By `websocket`, by `http`, and `interrupted`, which says a long text first and interrupts it when
its first audio is there. Prints JSON: of each way the frames' sample rates, the text's audio in
base64, and the words that Pipecat says were spoken, with their times.
"""

import asyncio
import base64
import json
import sys

import aiohttp
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.elevenlabs.tts import ElevenLabsHttpTTSService, ElevenLabsTTSService
from pipecat.workers.runner import WorkerRunner

LONG = "This is one sentence of many that nobody wants to hear to the end. " * 5


class Listener(FrameProcessor):
    """Interrupts if it shall, says the text, and ends when it was spoken."""

    def __init__(self, text: str, *, interrupts: bool) -> None:
        super().__init__()
        self._text, self._interrupts = text, interrupts
        self.worker = None
        self.frames = []

    async def process_frame(self, frame, direction) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self.frames.append(frame)
            await self.worker.queue_frame(EndFrame())
        elif self._interrupts and isinstance(frame, TTSAudioRawFrame):
            self._interrupts = False
            await self.worker.queue_frame(InterruptionFrame())
        elif isinstance(frame, InterruptionFrame):
            self.frames.clear()
            await self.worker.queue_frame(TTSSpeakFrame(self._text))
        else:
            self.frames.append(frame)
            if isinstance(frame, TTSStoppedFrame) and not self._interrupts and self.has_audio():
                await self.worker.queue_frame(EndFrame())
        await self.push_frame(frame, direction)

    def has_audio(self) -> bool:
        return any(isinstance(frame, TTSAudioRawFrame) for frame in self.frames)


async def speak(base_url: str, key: str, way: str, text: str, voice: str) -> dict:
    async with aiohttp.ClientSession() as session:
        if way == "http":
            speaker = ElevenLabsHttpTTSService(
                api_key=key,
                base_url=base_url,
                aiohttp_session=session,
                settings=ElevenLabsHttpTTSService.Settings(voice=voice),
            )
        else:
            speaker = ElevenLabsTTSService(
                api_key=key,
                url=base_url.replace("http", "ws", 1),
                settings=ElevenLabsTTSService.Settings(voice=voice, speed=1.1),
            )
        interrupts = way == "interrupted"
        listener = Listener(text, interrupts=interrupts)
        worker = PipelineWorker(Pipeline([speaker, listener]), cancel_on_idle_timeout=False)
        listener.worker = worker
        await worker.queue_frame(TTSSpeakFrame(LONG if interrupts else text))
        runner = WorkerRunner()
        await runner.add_workers(worker)
        await runner.run()
    frames = [frame for frame in listener.frames if isinstance(frame, TTSAudioRawFrame)]
    words = [frame for frame in listener.frames if isinstance(frame, TTSTextFrame)]
    return {
        "errors": [str(f.error) for f in listener.frames if isinstance(f, ErrorFrame)],
        "sample_rates": sorted({frame.sample_rate for frame in frames}),
        "audio": base64.b64encode(b"".join(frame.audio for frame in frames)).decode(),
        "words": [(frame.text, frame.pts) for frame in words],
    }


async def main(*arguments: str) -> None:
    url, key, *text_and_voice = arguments
    ways = ("websocket", "http", "interrupted")
    json.dump({way: await speak(url, key, way, *text_and_voice) for way in ways}, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
