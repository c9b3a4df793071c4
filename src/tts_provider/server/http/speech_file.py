"""One utterance over HTTP: a file, in pieces as it is made."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from tts_provider.audio.encode.encode import Output, StreamEncoder
from tts_provider.errors import Loading, text_named
from tts_provider.server.http.answers import Piece
from tts_provider.server.service.service import SpeechService
from tts_provider.speech.engine import SAMPLE_RATE, Utterance
from tts_provider.speech.pipeline import LONGEST_LEAD_S, AudioChunk, Segment
from tts_provider.speech.reading import AS_WRITTEN, ReadingOptions

# Silence is kept back until it is known that there is more; an engine's own, before its first word,
# comes behind the pauses.
_LONGEST_HELD = round(2 * LONGEST_LEAD_S * SAMPLE_RATE)


def speak_file(
    utterance: Utterance,
    output: Output,
    endpoint: str,
    service: SpeechService,
    text_name: str,
    *,
    reading: ReadingOptions = AS_WRITTEN,
) -> AsyncGenerator[Piece, None]:
    """The audio's file, in pieces that are never empty; where the utterance is `word_times`, those
    of each segment are followed by one without bytes that has its words. `text_name` is the
    request's field that the text came in.

    Raises `InvalidRequest` where there is no such file, and `Loading`: over HTTP nobody can be told
    to wait.
    """
    made = StreamEncoder(output, SAMPLE_RATE)
    if not service.is_ready_for(utterance.voice) and service.admission.refusal is None:
        raise Loading("the model is still loading; try again later")
    return _pieces(service.speak(utterance, endpoint, reading=reading), made, text_name)


async def _pieces(
    speech: AsyncGenerator[AudioChunk | Segment, None], made: StreamEncoder, text_name: str
) -> AsyncGenerator[Piece, None]:
    with contextlib.closing(made) as encoder:
        # `sent` and `end` are positions on the timeline: what is `held` lies between.
        held, sent, end, audible = [await encoder.start()], 0, 0, False
        with text_named(text_name):
            async with contextlib.aclosing(speech) as items:
                async for item in items:
                    if isinstance(item, Segment):
                        if audible and item.words:
                            yield Piece(b"", 0.0, item.words, item.is_estimated)
                        continue
                    held.append(await encoder.push(item.samples))
                    end = item.end
                    # Silence alone may turn out to be all there is, which is an error.
                    audible = audible or bool(item.samples.any()) or end > _LONGEST_HELD
                    if audible and (data := b"".join(held)):
                        yield Piece(data, (end - sent) / SAMPLE_RATE)
                        held, sent = [], end
        held.append(await encoder.finish())
        if data := b"".join(held):
            yield Piece(data, (end - sent) / SAMPLE_RATE)
