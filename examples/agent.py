"""A voice agent: a language model's words are spoken as they come, and an interruption stops it.

    python agent.py [URL]

`think` stands for your model; whatever yields pieces of text takes its place.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator

from tts_provider import AsyncTTSClient, SpeechSession

ANSWERS = {
    "How are you?": "I am fine, thank you. It is a bright day, and I have nothing to do but talk.",
    "Count for me.": "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. And so on.",
}


async def think(question: str) -> AsyncIterator[str]:
    for token in re.findall(r"\s*\S{1,4}", ANSWERS[question]):
        await asyncio.sleep(0.02)
        yield token


async def write(speech: SpeechSession, question: str) -> None:
    async for token in think(question):
        speech.append(token)
    speech.end()


async def answer(speech: SpeechSession, question: str, interrupt_after_s: float = 1e9) -> None:
    print(f"> {question}")
    speech.append("")  # begins the turn, so that it can be heard before the first word
    writing = asyncio.create_task(write(speech, question))
    heard_s = 0.0
    async for pcm in speech:
        heard_s += len(pcm) / 48_000  # 16-bit samples, 24 kHz: a player takes them here
        if heard_s > interrupt_after_s:
            writing.cancel()
            print(" ".join(spoken.text for spoken in speech.segments), "… interrupted")
            await speech.cancel()
            return
    await writing
    print(" ".join(spoken.text for spoken in speech.segments))


async def main(url: str = "ws://localhost:8765") -> None:
    async with AsyncTTSClient(url).session(voice="nova") as speech:
        await answer(speech, "How are you?")
        await answer(speech, "Count for me.", interrupt_after_s=1.5)
        await answer(speech, "How are you?")


asyncio.run(main(*sys.argv[1:]))
