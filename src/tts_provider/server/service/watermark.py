"""Marks speech with the watermark, between the pipeline and the encoder, for every endpoint."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Literal

from tts_provider.audio.watermark.mark import LEAD, Marker
from tts_provider.audio.watermark.network import Decoder, Encoder
from tts_provider.audio.watermark.weights import INSTALL, is_installed, read_weights
from tts_provider.speech.engine import Voice
from tts_provider.speech.pipeline import Mark
from tts_provider.voices.store import ENROLLED

log = logging.getLogger(__name__)

Mode = Literal["auto", "on", "off"]

# The `source` of voices that sound like people, and so can imitate somebody.
LIKE_PEOPLE = ("csm", "kokoro", ENROLLED)


class Watermark:
    """`on` marks every voice; `auto` marks those that sound like people, if the extra is
    installed."""

    def __init__(self, mode: Mode, *, is_like_people: bool = False) -> None:
        """Reads its files now if they are certainly needed: with `on`, or with an engine that
        `is_like_people`. Raises `StartupError` if they are missing or damaged."""
        self._mode = mode
        if mode == "auto" and not is_installed():
            self._mode = "off"
            if is_like_people:
                log.warning("speech has no watermark; to add one, run %s", INSTALL)
        if self._mode == "on" or (is_like_people and self._mode == "auto"):
            _encoder()

    def marks(self, voice: Voice) -> bool:
        return self._mode == "on" or (self._mode == "auto" and voice.source in LIKE_PEOPLE)

    async def mark(self, voice: Voice) -> Mark | None:
        """Return what marks passages in this voice, if they are to be marked. It returns as many
        samples, at the same places. Somebody waits for the first sound, so the beginning of the
        first passage is not marked."""
        if not self.marks(voice):
            return None
        encoder = await asyncio.to_thread(_encoder)
        return lambda start: Marker(encoder, 0 if start else LEAD)


@functools.cache
def _encoder() -> Encoder:
    return Encoder(read_weights())


@functools.cache
def decoder() -> Decoder:
    """The watermark decoder, one for the whole process; the first call takes half a second. Raises
    `StartupError`."""
    return Decoder(read_weights())
