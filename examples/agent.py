"""A voice agent: a language model's words are spoken as they come, and an interruption stops it and
tells what was heard, for the model's history.

    python agent.py [URL]

`think` stands for your model, `Device` for your sound card: its callback takes what it plays next.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator

from tts_provider import AsyncTTSClient, PlaybackBuffer, SpeechSession

ANSWERS = {
    "How are you?": "I am fine, thank you. It is a bright day, and I have nothing to do but talk.",
    "Count for me.": "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. And so on.",
}


async def think(question: str) -> AsyncIterator[str]:
    for token in re.findall(r"\s*\S{1,4}", ANSWERS[question]):
        await asyncio.sleep(0.002)
        yield token


async def write(speech: SpeechSession, question: str) -> None:
    async for token in think(question):
        speech.append(token)
    speech.end()


async def run_device(buffer: PlaybackBuffer) -> None:
    """Ten times as fast as one that is heard."""
    while True:
        buffer.take(960)  # 20 ms of 16-bit samples at 24 kHz
        await asyncio.sleep(0.002)


async def answer(
    speech: SpeechSession, buffer: PlaybackBuffer, question: str, interrupt_at_ms: int | None = None
) -> None:
    tasks = [asyncio.create_task(write(speech, question)), asyncio.create_task(speech.play(buffer))]
    while not all(task.done() for task in tasks) or buffer.waiting_ms:
        await asyncio.sleep(0.01)
        if interrupt_at_ms is not None and buffer.played_ms > interrupt_at_ms:  # somebody speaks
            tasks[0].cancel()
            said = await speech.interrupt()
            print(f"> {question}\n{said.heard} … interrupted")
            return
    print(f"> {question}\n{ANSWERS[question]}")


async def main(url: str = "ws://localhost:8765") -> None:
    buffer = PlaybackBuffer()
    device = asyncio.create_task(run_device(buffer))
    async with AsyncTTSClient(url).session(voice="nova", words=True) as speech:
        await answer(speech, buffer, "How are you?")
        await answer(speech, buffer, "Count for me.", interrupt_at_ms=1500)
        await answer(speech, buffer, "How are you?")
    device.cancel()


asyncio.run(main(*sys.argv[1:]))
