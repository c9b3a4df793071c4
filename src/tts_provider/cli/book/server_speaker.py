"""A book's lines, spoken by a server: as many at once as there are connections."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tts_provider.cli.say import Access
from tts_provider.client import AsyncTTSClient, RequestFailed, SpokenWord, TTSClientError
from tts_provider.errors import TTSError
from tts_provider.jobs.speaker import Speech, TimedWord
from tts_provider.speech.engine import SAMPLE_RATE

_ATTEMPTS = 30
"""A server that is busy is asked again for some five minutes: a book can wait."""
_PCM: Mapping[str, Any] = {"format": "pcm", "sample_rate": SAMPLE_RATE}
_SAMPLES_A_MS = SAMPLE_RATE // 1000


class ServerSpeaker:
    """A `jobs.speaker.Speaker`. Close it."""

    def __init__(
        self, access: Access, info: Mapping[str, Any], at_once: int, options: Mapping[str, Any]
    ) -> None:
        """`info` is what the server says of itself, `options` are a request's fields."""
        self._options = options
        self._clients = [access.async_client(attempts=_ATTEMPTS) for _ in range(at_once)]
        self._free = asyncio.LifoQueue[AsyncTTSClient]()
        for client in self._clients:
            self._free.put_nowait(client)
        self.facts = _facts(info, options)

    async def speak(self, text: str) -> Speech:
        client = await self._free.get()
        try:
            data = await client.speak(text, timestamps=True, **_PCM, **self._options)
            words = client.words
        except RequestFailed as problem:
            if problem.code == "no_speech":
                return Speech(np.zeros(0, np.int16))
            raise TTSError(f"{problem}: {text[:60]!r}") from None
        except TTSClientError as problem:
            raise TTSError(
                f"{problem}; what is made so far is kept, and the same command goes on with it"
            ) from None
        finally:
            self._free.put_nowait(client)
        samples = np.frombuffer(data, "<i2").astype(np.int16)
        return Speech(samples, tuple(_timed(word) for word in words))

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


def _timed(word: SpokenWord) -> TimedWord:
    start, end = word.start_ms * _SAMPLES_A_MS, word.end_ms * _SAMPLES_A_MS
    return TimedWord(start, end, word.start, word.end)


def _facts(info: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, str]:
    pronunciations = options.get("pronunciations")
    told = {
        "voice": str(options["voice"]),
        **{name: str(info[name]) for name in ("engine", "model", "precision", "version")},
        **{name: f"{options[name]:g}" for name in ("speed", "seed") if name in options},
    }
    if pronunciations:
        text = json.dumps(pronunciations, sort_keys=True)
        told["lexicon"] = hashlib.sha256(text.encode("ascii")).hexdigest()
    return told
