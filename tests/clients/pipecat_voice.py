"""Runs in an environment of its own: one of Pipecat's voices speaks with the server.

    python pipecat_voice.py SERVICE HTTP_URL VOICE TEXT [LONG_TEXT]

With a long text, that is begun and interrupted before. Prints JSON: errors, the frames' sample
rates, and of what comes after the interruption the audio in base64 and the words that Pipecat says
were spoken.
"""

import asyncio
import base64
import json
import sys

import aiohttp
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.cartesia.tts import CartesiaHttpTTSService, CartesiaTTSService
from pipecat.services.deepgram.tts import DeepgramHttpTTSService, DeepgramTTSService
from pipecat.workers.runner import WorkerRunner

RATE = 24_000


class Listener(FrameProcessor):
    """What a loudspeaker would get."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.words = b"", []
        self.rates = set()
        self.heard, self.stopped, self.interrupted = (asyncio.Event() for _ in range(3))

    async def process_frame(self, frame, direction) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self.audio, self.words = b"", []
            self.stopped.clear()
            self.interrupted.set()
        elif isinstance(frame, TTSAudioRawFrame):
            self.audio += frame.audio
            self.rates.add(frame.sample_rate)
            self.heard.set()
        elif isinstance(frame, TTSTextFrame):
            self.words += frame.text.split()
        elif isinstance(frame, TTSStoppedFrame):
            self.stopped.set()
        await self.push_frame(frame, direction)


def create(service: str, url: str, voice: str, session: aiohttp.ClientSession) -> FrameProcessor:
    socket_url = url.replace("http", "ws", 1)
    options = {"api_key": "k", "sample_rate": RATE}
    if service == "cartesia":
        settings = CartesiaTTSService.Settings(voice=voice)
        return CartesiaTTSService(url=f"{socket_url}/tts/websocket", settings=settings, **options)
    if service == "cartesia-http":
        settings = CartesiaHttpTTSService.Settings(voice=voice)
        return CartesiaHttpTTSService(base_url=url, settings=settings, **options)
    if service == "deepgram":
        settings = DeepgramTTSService.Settings(voice=voice)
        return DeepgramTTSService(base_url=socket_url, settings=settings, **options)
    settings = DeepgramHttpTTSService.Settings(voice=voice)
    return DeepgramHttpTTSService(
        base_url=url, settings=settings, aiohttp_session=session, **options
    )


async def say(worker: PipelineWorker, text: str) -> None:
    """As a language model writes it."""
    await worker.queue_frame(LLMFullResponseStartFrame())
    for word in text.split():
        await worker.queue_frame(LLMTextFrame(f"{word} "))
    await worker.queue_frame(LLMFullResponseEndFrame())


async def main(service: str, url: str, voice: str, text: str, long_text: str = "") -> None:
    errors = []
    listener = Listener()
    # Until then Pipecat takes audio that is under way for the next turn's; only its log says when.
    cleared = asyncio.Event()
    logger.add(
        lambda _: cleared.set(),
        level="TRACE",
        filter=lambda record: record["message"].startswith("Received Cleared"),
    )
    async with aiohttp.ClientSession() as session:
        speaker = create(service, url, voice, session)
        worker = PipelineWorker(
            Pipeline([speaker, listener]),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
            params=PipelineParams(),
        )
        started = asyncio.Event()

        @worker.event_handler("on_pipeline_started")
        async def on_started(_worker, _frame) -> None:
            started.set()

        @worker.event_handler("on_pipeline_error")
        async def on_error(_worker, frame: ErrorFrame) -> None:
            errors.append(frame.error)
            listener.heard.set()
            listener.stopped.set()

        async def talk() -> None:
            await started.wait()
            if long_text:
                await say(worker, long_text)
                await listener.heard.wait()
                await worker.queue_frame(InterruptionFrame())
                await listener.interrupted.wait()
                if service == "deepgram":
                    await cleared.wait()
            await say(worker, text)
            await listener.stopped.wait()
            await worker.queue_frame(EndFrame())

        runner = WorkerRunner()
        await runner.add_workers(worker)
        await asyncio.gather(runner.run(), talk())
    report = {
        "errors": errors,
        "sample_rates": sorted(listener.rates),
        "audio": base64.b64encode(listener.audio).decode(),
        "words": listener.words,
    }
    json.dump(report, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
