"""What is made of a book survives what ends the program."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.tones import Tones, a_book
from tts_provider.audio.loudness import block_energies, loudness_lufs
from tts_provider.errors import EngineFailed, StartupError, TTSError
from tts_provider.jobs import parts
from tts_provider.jobs.parts import PartFolder
from tts_provider.jobs.plan import plan_book
from tts_provider.jobs.timeline import TARGET_LUFS, Timeline
from tts_provider.jobs.work import make_parts

PLAN = plan_book(a_book(chapters=2, paragraphs=40))


@pytest.fixture(name="folder")
def make_folder(tmp_path):
    folder = PartFolder(tmp_path / "book.m4b.partial")
    folder.open({"voice": "tones"})
    yield folder
    folder.close()


async def made(folder, speaker=None, at_once=2):
    return [done async for done in make_parts(PLAN, folder, speaker or Tones(), at_once)]


async def test_parts_are_made_once(folder):
    first = await made(folder)
    assert sorted(done.part.number for done in first) == list(range(len(PLAN.parts)))
    assert not any(done.was_there for done in first)
    speaker = Tones()
    again = await made(folder, speaker)
    assert speaker.said == []
    assert all(done.was_there for done in again)
    assert {d.part.number: d.facts for d in first} == {d.part.number: d.facts for d in again}


async def test_a_part_has_the_same_samples_when_it_is_read(folder):
    await made(folder)
    speech = await Tones().speak(PLAN.parts[0].lines[0].text)
    loud = np.flatnonzero(speech.samples)
    sound = folder.sound(0)[: folder.facts(0).lines[0].samples]
    kept = speech.samples[loud[0] : loud[-1] + 1]
    start = int(np.flatnonzero(sound)[0])
    assert np.array_equal(sound[start : start + len(kept)], kept)
    assert start <= 24_000 * 25 // 1000  # a chapter begins with its first word


async def test_what_fails_keeps_what_was_made(folder):
    with pytest.raises(EngineFailed):
        await made(folder, Tones(fails_at=40), at_once=1)
    there = [part.number for part in PLAN.parts if folder.find(part.number)]
    assert 0 < len(there) < len(PLAN.parts)
    speaker = Tones()
    await made(folder, speaker)
    missing = [line for part in PLAN.parts if part.number not in there for line in part.lines]
    assert sorted(speaker.said) == sorted(line.text for line in missing)


async def test_a_damaged_part_is_made_again(folder):
    await made(folder)
    path = folder.path / "000001.part"
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"x" * 99):
        path.write_bytes(damaged)
        done = [one for one in await made(folder) if not one.was_there]
        assert [one.part.number for one in done] == [1]
        assert path.read_bytes() == whole


async def test_a_full_disk_leaves_no_half_part(folder, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.os, "fsync", full)
    with pytest.raises(TTSError, match="No space left on device; what is made so far is kept"):
        await made(folder)
    assert sorted(path.name for path in folder.path.iterdir()) == ["lock", "settings.json"]


def test_other_settings_are_refused_with_what_differs(folder):
    folder.close()
    with pytest.raises(StartupError) as caught:
        folder.open({"voice": "bells", "speed": "2"})
    told = str(caught.value)
    assert "voice was tones and is bells; speed was not set and is 2" in told
    assert "--restart" in told
    folder.open({"voice": "tones"})


async def test_who_begins_anew_has_nothing_of_before(folder):
    await made(folder)
    with pytest.raises(StartupError, match="another process"):
        PartFolder(folder.path).open({"voice": "bells"}, restart=True)
    assert folder.find(0) is not None
    folder.close()
    folder.open({"voice": "bells"}, restart=True)
    assert folder.find(0) is None
    assert (folder.settings() or {})["voice"] == "bells"


def test_two_do_not_work_on_the_same_book(folder):
    with pytest.raises(StartupError, match="another process is at work"):
        PartFolder(folder.path).open({"voice": "tones"})


async def test_what_is_removed_is_ours(folder):
    await made(folder)
    (folder.path / "notes.txt").write_text("mine")
    folder.remove()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


async def test_every_part_is_as_loud(tmp_path):
    for level in (0.02, 0.6):
        folder = PartFolder(tmp_path / str(level))
        folder.open({})
        [_ async for _ in make_parts(PLAN, folder, Tones(level), 4)]
        sound = np.concatenate(list(Timeline(PLAN, folder).chapter_sound(1)))
        assert loudness_lufs(block_energies(sound)) == pytest.approx(TARGET_LUFS, abs=0.5)
        assert np.abs(sound).max() <= 10 ** (-1 / 20)
        folder.close()


async def test_chapters_begin_where_they_are_heard(folder):
    await made(folder)
    timeline = Timeline(PLAN, folder)
    sound = np.concatenate(list(timeline.sound()))
    assert len(sound) == timeline.samples == timeline.chapters[-1].end
    for number, chapter in enumerate(timeline.chapters):
        own = sound[chapter.start : chapter.end]
        assert np.flatnonzero(own)[0] < 24_000 * 25 // 1000
        assert np.array_equal(own, np.concatenate(list(timeline.chapter_sound(number))))
        for line in timeline.lines(number):
            assert np.abs(own[line.end : line.end + 4800]).max() == 0
            for word in line.words:
                assert np.abs(own[word.start : word.end]).max() > 0.05
