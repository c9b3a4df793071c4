"""Speech over HTTP, in pieces as it is made: a file, or events that have pieces of it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import replace

from tts_provider.audio.encode.encode import Output
from tts_provider.errors import Loading, WireError
from tts_provider.server.service.pieces import Piece, PieceEncoder
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.dialogue import Dialogue
from tts_provider.speech.engine import Utterance
from tts_provider.speech.pipeline import Segment
from tts_provider.speech.reading import AS_WRITTEN, ReadingOptions

Speech = AsyncGenerator[Piece | Segment, None]


def speak_file(
    asked: Utterance | Dialogue,
    output: Output,
    endpoint: str,
    service: SpeechService,
    text_name: str,
    *,
    reading: ReadingOptions = AS_WRITTEN,
) -> Speech:
    """The audio's file, and its segments where it is `word_times`. `text_name` is the request's
    field that the text came in.

    Raises `InvalidRequest` where there is no such file, and `Loading`: over HTTP nobody can be told
    to wait.
    """
    encoder = PieceEncoder(output)
    is_ready = all(map(service.is_ready_for, Dialogue.of(asked).voices))
    if not is_ready and service.admission.refusal is None:
        raise Loading("the model is still loading; try again later")
    return service.speak(
        asked, encoder, endpoint, reading=reading, text_name=text_name, holds_silence=True
    )


class Wording(ABC):
    """What a service says in a body of its own; empty where it says nothing."""

    @abstractmethod
    def audio(self, data: bytes) -> bytes: ...

    @abstractmethod
    def words(self, segment: Segment) -> bytes: ...

    def problem(self, problem: WireError) -> bytes:
        """Behind audio that was sent: before, an error is an answer of its own."""
        return b""

    def end(self, samples: int) -> bytes:
        """Of the whole, so long."""
        return b""


async def worded(speech: Speech, wording: Wording) -> AsyncGenerator[Piece, None]:
    """The same, as a service words it. Raises what it raises, when that is told."""
    end = 0
    try:
        async with contextlib.aclosing(speech):
            async for item in speech:
                if isinstance(item, Piece):
                    yield replace(item, data=wording.audio(item.data))
                    end = item.end
                elif item.words and (data := wording.words(item)):
                    yield Piece(data, end, end)
    except WireError as problem:
        if end and (data := wording.problem(problem)):
            yield Piece(data, end, end)
        raise
    if data := wording.end(end):
        yield Piece(data, end, end)
