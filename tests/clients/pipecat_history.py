"""Runs in an environment of its own: Pipecat's pipeline says a text and is interrupted.

    python pipecat_history.py SERVICE HTTP_URL VOICE TEXT MOMENTS

SERVICE has word times, MOMENTS are milliseconds of audio that the device plays before it is
interrupted, with commas between. Prints JSON: of each moment what the device had played, and what
the language model's context then has.
"""

import asyncio
import json
import sys
import time

from pipecat.frames.frames import (
    EndFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    StartFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.services.cartesia.tts import CartesiaTTSService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

RATE = 24_000


class Device(BaseOutputTransport):
    """Plays what it is given, in real time, without a sound."""

    def __init__(self, interrupt_at_ms: int) -> None:
        super().__init__(TransportParams(audio_out_enabled=True, audio_out_sample_rate=RATE))
        self._interrupt_at_ms = interrupt_at_ms
        self._begun_s, self._played_s = None, 0.0
        self.reached = asyncio.Event()

    @property
    def played_ms(self) -> int:
        return round(1000 * self._played_s)

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame) -> bool:
        if self._begun_s is None:
            self._begun_s = time.monotonic()
        self._played_s += len(frame.audio) / 2 / RATE
        await asyncio.sleep(max(0.0, self._begun_s + self._played_s - time.monotonic()))
        if self.played_ms >= self._interrupt_at_ms:
            self.reached.set()
        return True


def create(service: str, url: str, voice: str):
    socket_url = url.replace("http", "ws", 1)
    if service == "cartesia":
        settings = CartesiaTTSService.Settings(voice=voice)
        url = f"{socket_url}/tts/websocket"
        return CartesiaTTSService(api_key="k", url=url, settings=settings, sample_rate=RATE)
    settings = ElevenLabsTTSService.Settings(voice=voice)
    return ElevenLabsTTSService(api_key="k", url=socket_url, settings=settings, sample_rate=RATE)


async def interrupt(service: str, url: str, voice: str, text: str, at_ms: int) -> dict:
    device, context = Device(at_ms), LLMContext()
    aggregator = LLMContextAggregatorPair(context).assistant()
    worker = PipelineWorker(
        Pipeline([create(service, url, voice), device, aggregator]),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
        params=PipelineParams(audio_out_sample_rate=RATE),
    )
    started, stopped = asyncio.Event(), asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(_worker, _frame) -> None:
        started.set()

    @aggregator.event_handler("on_assistant_turn_stopped")
    async def on_stopped(_aggregator, _message) -> None:
        stopped.set()

    async def talk() -> int:
        await started.wait()
        await worker.queue_frame(LLMFullResponseStartFrame())
        for word in text.split():
            await worker.queue_frame(LLMTextFrame(f"{word} "))
        await worker.queue_frame(LLMFullResponseEndFrame())
        await device.reached.wait()
        await worker.queue_frame(InterruptionFrame())
        played_ms = device.played_ms
        await stopped.wait()
        await worker.queue_frame(EndFrame())
        return played_ms

    runner = WorkerRunner()
    await runner.add_workers(worker)
    _, played_ms = await asyncio.gather(runner.run(), talk())
    said = [m["content"] for m in context.get_messages() if m["role"] == "assistant"]
    return {"played_ms": played_ms, "history": said}


async def main(service: str, url: str, voice: str, text: str, moments: str) -> None:
    told = [await interrupt(service, url, voice, text, int(at_ms)) for at_ms in moments.split(",")]
    json.dump(told, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
