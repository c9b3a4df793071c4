"""Chapters in M4B and MP3: more than either's lists have room for, and odd names."""

from __future__ import annotations

import io

import av
import mutagen.id3
import mutagen.mp4
import numpy as np
import pytest

from recordings import speech
from tts_provider.audio.encode.id3 import write_id3
from tts_provider.audio.encode.mp4 import M4bEncoder
from tts_provider.audio.encode.tag import ChapterMark, FileTags

FRAME = 1024
"""Samples of a packet: FFmpeg plays the end of the last one, which the file says to leave out."""
TITLES = [f"Chapter {number} – the ‘Öl’ & <oil>" for number in range(600)]
TITLES[3] = "長い" * 200  # 1200 bytes in UTF-8
MARKS = [ChapterMark(title, 100 * n, 100 * n + 100) for n, title in enumerate(TITLES)]


def m4b(samples: np.ndarray, tags: FileTags, cut: int | None = None) -> bytes:
    encoder = M4bEncoder(24_000, 24_000, tags)
    cut = cut or max(len(samples), 1)
    data = bytearray(encoder.start())
    for at in range(0, len(samples), cut):
        data += encoder.push(samples[at : at + cut])
    data += encoder.finish()
    for at, patch in encoder.patches():
        data[at : at + len(patch)] = patch
    return bytes(data)


def test_an_m4b_has_all_chapters_for_quicktime_and_255_for_nero():
    sound = np.zeros(60 * 24_000, np.float32)
    data = m4b(sound, FileTags("T", "A", track="3/12", chapters=MARKS))
    with av.open(io.BytesIO(data)) as container:
        chapters = container.chapters()
        assert [chapter["metadata"]["title"] for chapter in chapters] == TITLES
        starts = [float(chapter["start"] * chapter["time_base"]) for chapter in chapters]
        assert starts == pytest.approx([mark.start_ms / 1000 for mark in MARKS])
        heard = sum(frame.samples for frame in container.decode(audio=0))
        assert 0 <= heard - len(sound) < FRAME
    told = mutagen.mp4.MP4(io.BytesIO(data))
    assert [chapter.title for chapter in told.chapters][:3] == TITLES[:3]
    assert len(told.chapters) == 255
    assert TITLES[3].startswith(told.chapters[3].title)
    assert told.tags["trkn"] == [(3, 12)]
    assert told.info.length == pytest.approx(60, abs=0.1)


def test_an_m4b_sounds_as_what_went_in_however_it_was_cut():
    sound = speech().astype(np.float32)
    data = m4b(sound, FileTags("T"))
    assert m4b(sound, FileTags("T"), cut=777) == data
    with av.open(io.BytesIO(data)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert 0 <= len(heard) - len(sound) < FRAME
    heard = heard[: len(sound)]
    error = heard - sound
    assert 10 * np.log10(np.mean(sound**2) / np.mean(error**2)) > 20  # at the same places
    with av.open(io.BytesIO(data)) as container:  # and from the middle on, as players seek
        container.seek(2_000_000)
        frame = next(container.decode(audio=0))
        assert 1.8 < frame.time <= 2.0


def test_an_m4b_of_nothing_is_one():
    with av.open(io.BytesIO(m4b(np.zeros(0, np.float32), FileTags("T")))) as container:
        assert container.chapters() == []
        assert sum(frame.samples for frame in container.decode(audio=0)) <= FRAME


def test_an_mp3_has_tables_of_tables():
    data = write_id3(FileTags("T", "A", album="B", track="3/12", chapters=MARKS))
    tags = mutagen.id3.ID3(io.BytesIO(data + bytes(4096)))
    top = tags["CTOC:toc"]
    assert len(top.child_element_ids) == 3
    tables = [tags[f"CTOC:{name}"] for name in top.child_element_ids]
    below = [name for table in tables for name in table.child_element_ids]
    assert [tags[f"CHAP:{name}"].sub_frames["TIT2"].text[0] for name in below] == TITLES
    assert [tags[f"CHAP:{name}"].start_time for name in below] == [m.start_ms for m in MARKS]
    assert (tags["TALB"].text, tags["TRCK"].text) == (["B"], ["3/12"])
