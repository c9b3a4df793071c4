from __future__ import annotations

import numpy as np
import pytest

from tts_provider.speech.chunker import CHUNKS_MS, Chunker
from tts_provider.speech.engine import SAMPLE_RATE

MS = SAMPLE_RATE // 1000
SOUND = np.arange(2000 * MS, dtype=np.float32)


def lengths_ms(chunker: Chunker, *pieces: np.ndarray) -> list[int]:
    chunks = [chunk for piece in pieces for chunk in chunker.push(piece)]
    return [len(chunk) // MS for chunk in [*chunks, chunker.finish()] if len(chunk)]


@pytest.mark.parametrize("piece_ms", [1, 7, 40, 80, 333, 2000])
def test_chunks_grow_however_the_sound_came_and_nothing_is_lost(piece_ms):
    pieces = np.split(SOUND, range(piece_ms * MS, len(SOUND), piece_ms * MS))
    assert lengths_ms(Chunker(), *pieces)[:5] == [*CHUNKS_MS, 320]
    chunker = Chunker()
    chunks = [chunk for piece in pieces for chunk in chunker.push(piece)]
    assert np.array_equal(np.concatenate([*chunks, chunker.finish()]), SOUND)


def test_frames_that_are_as_long_as_a_chunk_leave_at_once():
    chunker = Chunker()
    for ms in CHUNKS_MS:
        assert [len(chunk) for chunk in chunker.push(SOUND[: ms * MS])] == [ms * MS]
    assert len(chunker.finish()) == 0


def test_no_splinter_is_left_behind_a_chunk():
    assert lengths_ms(Chunker(), SOUND[: 150 * MS]) == [150]
    assert lengths_ms(Chunker(), SOUND[: 240 * MS]) == [80, 160]


def test_the_next_passage_goes_on_with_chunks_as_long():
    chunker = Chunker()
    assert lengths_ms(chunker, SOUND) == [80, 160, 240, 320, 320, 320, 320, 240]
    assert lengths_ms(chunker, SOUND[: 700 * MS]) == [320, 380]
    assert lengths_ms(chunker, SOUND[:0]) == []


def test_what_will_be_heard_faster_is_cut_as_much_later():
    assert lengths_ms(Chunker(2.0), SOUND)[:4] == [2 * ms for ms in CHUNKS_MS]
    assert lengths_ms(Chunker(0.5), SOUND)[:4] == [ms // 2 for ms in CHUNKS_MS]
