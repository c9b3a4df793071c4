"""Whose speech is marked: between the pipeline and whatever encodes it, for every endpoint."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal, TypeVar

from tts_provider.audio.background import Background, pieces
from tts_provider.audio.watermark.mark import LEAD, Marker
from tts_provider.audio.watermark.network import Decoder, Encoder
from tts_provider.audio.watermark.weights import INSTALL, is_installed, read_weights
from tts_provider.speech.engine import Voice
from tts_provider.speech.pipeline import AudioChunk, Segment
from tts_provider.voices.store import ENROLLED

log = logging.getLogger(__name__)

Mode = Literal["auto", "on", "off"]

# The `source` of voices that sound like people: what anybody can be imitated with.
LIKE_PEOPLE = ("csm", "kokoro", ENROLLED)

_Item = TypeVar("_Item", bound=AudioChunk | Segment)


class Watermark:
    """`on` marks every voice, `auto` those that sound like people, where the extra is installed."""

    def __init__(self, mode: Mode, *, is_like_people: bool = False) -> None:
        """Its files are read where they are needed for sure: `on`, or with an engine that
        `is_like_people`. Raises `StartupError` where they are missing or damaged."""
        self._mode = mode
        if mode == "auto" and not is_installed():
            self._mode = "off"
            if is_like_people:
                log.warning("speech is not marked as synthetic, which takes %s", INSTALL)
        if self._mode == "on" or (is_like_people and self._mode == "auto"):
            _encoder()

    def marks(self, voice: Voice) -> bool:
        return self._mode == "on" or (self._mode == "auto" and voice.source in LIKE_PEOPLE)

    def mark(
        self, items: AsyncGenerator[_Item, None], voice: Voice, *, start: int = 0
    ) -> AsyncGenerator[AudioChunk | _Item, None]:
        """The same speech, marked where the voice asks for it: as many samples, at the same
        places. Where `start` is 0 somebody waits for the first sound, and it leaves as it is."""
        return _marked(items, 0 if start else LEAD) if self.marks(voice) else items


@functools.cache
def _encoder() -> Encoder:
    return Encoder(read_weights())


@functools.cache
def decoder() -> Decoder:
    """What finds marks, for the whole process; the first call takes half a second. Raises
    `StartupError`."""
    return Decoder(read_weights())


async def _marked(
    items: AsyncGenerator[_Item, None], lead: int
) -> AsyncGenerator[AudioChunk | _Item, None]:
    encoder = await asyncio.to_thread(_encoder)
    marker, background = Marker(encoder, lead), Background()
    position = 0
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Segment):
                rest = await background.run(marker.finish)
                if len(rest):
                    yield AudioChunk(rest, item.end - len(rest))
                yield item
                marker = Marker(encoder)
                continue
            position = item.start
            for piece in pieces(item.samples):
                position += len(piece)
                done = await background.run(functools.partial(marker.push, piece))
                if len(done):
                    start = position - marker.held - len(done)
                    yield AudioChunk(done, start)
    rest = await background.run(marker.finish)
    if len(rest):
        yield AudioChunk(rest, position - len(rest))
