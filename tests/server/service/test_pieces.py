"""Speech as bytes: what a listener gets, and which stretch of the timeline it is."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from tts_provider.audio.encode.encode import Output, create_encoder
from tts_provider.errors import InvalidRequest
from tts_provider.server.service.pieces import Piece, PieceEncoder
from tts_provider.speech.engine import SAMPLE_RATE
from tts_provider.speech.pipeline import AudioChunk, Segment

SOUND = np.sin(np.arange(SAMPLE_RATE) / 20, dtype=np.float32)


def chunks(size: int, start: int = 0) -> list[AudioChunk]:
    return [AudioChunk(SOUND[at : at + size], start + at) for at in range(0, len(SOUND), size)]


async def made(encoder: PieceEncoder, items: list[AudioChunk | Segment]) -> list[Piece | Segment]:
    with closing(encoder):
        told = [each for item in items for each in await encoder.push(item)]
        return [*told, *await encoder.flush()]


@pytest.mark.parametrize("name", ["wav", "pcm", "mp3", "opus", "flac", "mulaw"])
async def test_a_file_is_the_same_however_its_sound_was_cut(name):
    whole = create_encoder(name, SAMPLE_RATE, 48_000 if name == "opus" else 16_000)
    expected = whole.start() + whole.push(SOUND) + whole.finish()
    for size in (1000, 7000, len(SOUND)):
        encoder = PieceEncoder(Output(name, 48_000 if name == "opus" else 16_000))
        pieces = await made(encoder, chunks(size))
        assert b"".join(piece.data for piece in pieces) == expected
        assert all(piece.data for piece in pieces)
        assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
        assert pieces[-1].end == len(SOUND)
        assert encoder.patches == whole.patches()


async def test_bytes_are_counted_as_what_is_in_them():
    """A resampler holds samples back: they are in the next piece."""
    first, *_ = await made(PieceEncoder(Output("pcm", 16_000)), chunks(4800))
    assert first.end == len(first.data) // 2 * SAMPLE_RATE // 16_000 < 4800
    assert first.audio_s == first.end / SAMPLE_RATE
    assert (first.start_ms, first.end_ms) == (0, first.end * 1000 // SAMPLE_RATE)


@pytest.mark.parametrize(("name", "is_ended"), [("pcm", True), ("opus", True), ("mp3", False)])
async def test_a_segment_comes_behind_its_bytes_and_ends_what_can_be_ended(name, is_ended):
    end = len(SOUND)
    items = [
        *chunks(6000),
        Segment("one", 0, end),
        *chunks(6000, end),
        Segment("two", end, 2 * end),
    ]
    told = await made(PieceEncoder(Output(name, 48_000), is_cut=True), items)
    at = next(number for number, item in enumerate(told) if isinstance(item, Segment))
    alone = create_encoder(name, SAMPLE_RATE, 48_000, is_stream=True)
    whole = alone.start() + alone.push(SOUND) + alone.finish()
    assert (b"".join(item.data for item in told[:at]) == whole) is is_ended
    pieces = [item for item in told if isinstance(item, Piece)]
    assert pieces[-1].end == 2 * end
    assert isinstance(told[-1], Segment) is is_ended


async def test_nothing_is_no_bytes():
    encoder = PieceEncoder(Output("pcm", SAMPLE_RATE), is_cut=True)
    segment = Segment("", 0, 0)
    assert await made(encoder, [segment]) == [segment]


def test_an_output_that_there_is_not_is_told_at_once():
    with pytest.raises(InvalidRequest, match="sample_rate"):
        PieceEncoder(Output("opus", 44_100))
