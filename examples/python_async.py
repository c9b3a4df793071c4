"""Three texts at once, a connection each: python python_async.py [URL]"""

import asyncio
import sys
from pathlib import Path

from tts_provider import AsyncTTSClient

TEXTS = ["The first.", "The second is spoken beside it.", "And so is the third."]


async def speak(url: str, number: int, text: str) -> None:
    async with AsyncTTSClient(url) as client:
        stream = client.stream(text, format="opus", speaker=number % 2)
        data = b"".join([piece async for piece in stream])
    Path(f"{number}.ogg").write_bytes(data)
    print(f"{number}.ogg: {len(data)} bytes")


async def main(url: str = "ws://localhost:8765") -> None:
    await asyncio.gather(*(speak(url, number, text) for number, text in enumerate(TEXTS)))


asyncio.run(main(*sys.argv[1:]))
