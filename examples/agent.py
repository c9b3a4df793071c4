"""A voice agent: a language model's words are spoken as they come, and an interruption stops it and
tells what was heard, for the model's history.

    python agent.py [URL]

`think` stands for your model. The session plays with whatever player the machine has; where your
sound device has a callback of its own, docs/python.md says how it plays.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator

from tts_provider import AsyncTTSClient, SpeechSession

ANSWERS = {"How are you?": "Fine, thank you.", "Count for me.": "One. Two. Three. And so on."}


async def think(question: str) -> AsyncIterator[str]:
    for token in re.findall(r"\s*\S{1,4}", ANSWERS[question]):
        await asyncio.sleep(0.002)
        yield token


async def write(speech: SpeechSession, question: str) -> None:
    async for token in think(question):
        speech.append(token)
    speech.end()


async def answer(speech: SpeechSession, question: str, patience_s: float | None = None) -> None:
    writing = asyncio.create_task(write(speech, question))
    playing = asyncio.create_task(speech.play())
    await asyncio.wait({playing}, timeout=patience_s)  # or until somebody speaks
    writing.cancel()
    said = await speech.interrupt()  # all of it, where it was heard to its end
    await playing
    print(f"> {question}\n{said.heard}{' … interrupted' * bool(said.unheard)}")


async def main(url: str = "ws://localhost:8765") -> None:
    settings = {"voice": "nova", "words": True, "reconnect": True}
    async with AsyncTTSClient(url).session(**settings) as speech:
        await answer(speech, "How are you?")
        await answer(speech, "Count for me.", patience_s=1)
        await answer(speech, "How are you?")


asyncio.run(main(*sys.argv[1:]))
