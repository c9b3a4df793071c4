"""Runs in an environment of its own: LiveKit's agent says a text and is interrupted.

    python livekit_history.py SERVICE HTTP_URL VOICE TEXT MOMENTS

SERVICE is a plugin with word times, MOMENTS are milliseconds of audio that the device plays before
it is interrupted, with commas between. Prints JSON: of each moment what the device had played, and
what the agent's history then has.
"""

import asyncio
import json
import sys
import time

import aiohttp
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities
from livekit.agents.voice.transcription import TranscriptSynchronizer
from livekit.plugins import cartesia, elevenlabs


class Device(AudioOutput):
    """Plays what it is given, in real time, without a sound."""

    def __init__(self, interrupt_at_ms: int) -> None:
        super().__init__(
            label="device", capabilities=AudioOutputCapabilities(pause=False), sample_rate=24_000
        )
        self._interrupt_at_s = interrupt_at_ms / 1000
        self._begun_s, self._given_s = None, 0.0
        self._tasks = set()
        self.reached = asyncio.Event()
        self.played_ms = None

    async def capture_frame(self, frame) -> None:
        await super().capture_frame(frame)
        if self._begun_s is None:
            self._begun_s = time.monotonic()
            self.on_playback_started(created_at=time.time())
            self._tasks.add(asyncio.create_task(self._play()))
        self._given_s += frame.duration

    async def _play(self) -> None:
        await asyncio.sleep(self._interrupt_at_s)
        self.reached.set()

    def flush(self) -> None:
        super().flush()

    def clear_buffer(self) -> None:
        if self._begun_s is not None and self.played_ms is None:
            played_s = min(self._given_s, time.monotonic() - self._begun_s)
            self.played_ms = round(played_s * 1000)
            self.on_playback_finished(playback_position=played_s, interrupted=True)


def create(service: str, url: str, voice: str, session: aiohttp.ClientSession):
    if service == "cartesia":
        return cartesia.TTS(base_url=url, voice=voice, api_key="k", http_session=session)
    return elevenlabs.TTS(
        base_url=f"{url}/v1", voice_id=voice, api_key="k", http_session=session, sync_alignment=True
    )


async def interrupt(service: str, url: str, voice: str, text: str, at_ms: int) -> dict:
    device = Device(at_ms)
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=device, next_in_chain_text=None)
    async with aiohttp.ClientSession() as http:
        agent = AgentSession(
            tts=create(service, url, voice, http),
            vad=None,
            turn_detection="manual",
            use_tts_aligned_transcript=True,
        )
        agent.output.audio = synchronizer.audio_output
        agent.output.transcription = synchronizer.text_output
        await agent.start(Agent(instructions=""))
        saying = agent.say(text)
        await device.reached.wait()
        await agent.interrupt()
        await saying
        messages = [item for item in agent.history.items if item.type == "message"]
        history = [message.text_content for message in messages]
        await agent.aclose()
    await synchronizer.aclose()
    return {"played_ms": device.played_ms, "history": history}


async def main(service: str, url: str, voice: str, text: str, moments: str) -> None:
    told = [await interrupt(service, url, voice, text, int(at_ms)) for at_ms in moments.split(",")]
    json.dump(told, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
