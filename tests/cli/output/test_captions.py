"""Captions as FFmpeg's readers of SubRip and WebVTT see them."""

from __future__ import annotations

import io
import itertools
import random
import re
from dataclasses import replace

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import TEXT
from sentences import SENTENCES
from tts_provider.cli.output.captions import write_captions
from tts_provider.client import SpokenWord

BOTH = pytest.mark.parametrize("kind", ["srt", "vtt"])
_DEMUXERS = {"srt": "srt", "vtt": "webvtt"}


def timed(text: str, *, ms: int = 300, pauses: dict[int, int] | None = None) -> list[SpokenWord]:
    """Every word takes `ms`, and a pause is before some of them."""
    words, now = [], 0
    for number, match in enumerate(re.finditer(r"\S+", text)):
        now += (pauses or {}).get(number, 0)
        words.append(SpokenWord(match[0], now, now + ms, *match.span()))
        now += ms
    return words


def read(captions: str, kind: str) -> list[tuple[int, int, str]]:
    """Of each cue the start and end in ms, and what is shown."""
    if not captions.removeprefix("WEBVTT\n"):
        return []
    cues = []
    with av.open(io.BytesIO(captions.encode()), format=_DEMUXERS[kind]) as file:
        for packet in file.demux():
            if packet.pts is not None:
                (subtitle,) = packet.decode()
                shown = subtitle.ass.decode().split(",", 8)[8].replace(r"\N", "\n")
                cues.append((packet.pts, packet.pts + packet.duration, shown))
    return cues


def cues_of(text: str, words: list[SpokenWord], kind: str = "vtt") -> list[tuple[int, int, str]]:
    return read(write_captions(text, words, kind), kind)


def by_word(text: str, words: list[SpokenWord], kind: str) -> str:
    return write_captions(text, words, kind, by_word=True)


@BOTH
def test_a_cue_ends_with_its_sentence(kind):
    text = "Dr. Smith is in. He says hello!"
    assert cues_of(text, timed(text), kind) == [
        (0, 1200, "Dr. Smith is in."),
        (1200, 2200, "He says hello!"),
    ]


@BOTH
def test_a_cue_ends_at_a_pause_and_stays_where_nothing_follows_soon(kind):
    text = "One two three four, five six"
    words = timed(text, pauses={2: 699, 4: 700})
    assert cues_of(text, words, kind) == [
        (0, 1899, "One two three four,"),
        (2599, 3599, "five six"),
    ]
    words = timed(text, ms=500, pauses={2: 499, 4: 2000})
    assert cues_of(text, words, kind)[0][:2] == (0, 2499)
    words = timed(text, ms=700, pauses={2: 1200})
    assert [cue[:2] for cue in cues_of(text, words, kind)] == [(0, 1400), (2600, 5400)]


@BOTH
def test_near_cues_leave_no_gap(kind):
    text = "This is one sentence. This is another one. And this is the last."
    assert [
        cue[:2] for cue in cues_of(text, timed(text, ms=300, pauses={4: 450, 8: 550}), kind)
    ] == [
        (0, 1650),
        (1650, 2850),
        (3400, 4900),
    ]


def test_cues_and_lines_end_at_phrases():
    text = (
        "The north wind and the sun were disputing which was the stronger, when a traveller came "
        "along wrapped in a warm cloak, and they agreed that the one who first made him take it "
        "off should win."
    )
    assert [shown for _, _, shown in cues_of(text, timed(text))] == [
        "The north wind and the sun were disputing\nwhich was the stronger,",
        "when a traveller came\nalong wrapped in a warm cloak,",
        "and they agreed that the one\nwho first made him take it off should win.",
    ]


def test_a_cue_lasts_seven_seconds_at_most():
    text = "a very slow speaker who takes his time"
    cues = cues_of(text, timed(text, ms=2000))
    assert max(end - start for start, end, _ in cues) <= 7000
    assert " ".join(shown for _, _, shown in cues) == text
    assert cues_of("Long.", timed("Long.", ms=9000)) == [(0, 7000, "Long.")]


SPOKEN_TEXTS = [*SENTENCES, TEXT, " ".join(SENTENCES), " ".join(SENTENCES).replace(". ", ", ")]


@pytest.mark.parametrize("seed", range(20))
def test_every_text_as_broadcasters_have_it(seed):
    """Ordinary texts at ordinary rates: words of 120 to 500 ms, pauses where people make them."""
    draw = random.Random(seed)
    for count in (1, 3, 12):
        text = " ".join(draw.sample(SPOKEN_TEXTS, count))
        words, now = [], 0
        for match in re.finditer(r"\S+", text):
            length_ms = draw.randrange(120, 500)
            words.append(SpokenWord(match[0], now, now + length_ms, *match.span()))
            now += length_ms + (draw.randrange(50, 900) if match[0][-1] in ",.?" else 0)
        cues = cues_of(text, words, "srt")
        assert " ".join(shown.replace("\n", " ") for _, _, shown in cues) == text
        for start, end, shown in cues:
            assert 1000 <= end - start <= 7000, shown
            lines = shown.split("\n")
            assert len(lines) <= 2
            assert max(map(len, lines)) <= 42
            assert min(len(line.split()) for line in lines) >= 2, shown
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(cues))
        assert all(not 0 < other[0] - one[1] < 500 for one, other in itertools.pairwise(cues))
        starts = {word.start_ms for word in words}
        assert {start for start, _, _ in cues} <= starts
        ends = sum(shown.rstrip('”"')[-1] in ",.?!" for _, _, shown in cues)
        assert ends >= 0.6 * len(cues)


def test_karaoke_in_webvtt_has_each_words_time():
    text = "Say **he**llo, you & me."
    words = [
        SpokenWord("Say", 0, 100, 0, 3),
        SpokenWord("he", 100, 200, 6, 8),
        SpokenWord("llo,", 200, 300, 10, 14),
        SpokenWord("you", 300, 300, 15, 18),
        SpokenWord("&", 300, 400, 19, 20),
        SpokenWord("me.", 1400, 1500, 21, 24),
    ]
    assert by_word(text, words, "vtt").split("\n")[2:4] == [
        "00:00:00.000 --> 00:00:01.500",
        "Say <00:00:00.100>hello, <00:00:00.300>you &amp; <00:00:01.400>me.",
    ]
    # FFmpeg takes the times for tags, and shows the text.
    assert read(by_word(text, words, "vtt"), "vtt") == [(0, 1500, "Say hello, you & me.")]
    said = [replace(word, voice="Ann") for word in words]
    assert "\n<v Ann>Say <00:00:00.100>" in by_word(text, said, "vtt")


def test_karaoke_in_subrip_is_a_word_a_cue():
    text = "One two, **thr**ee."
    words = [
        SpokenWord("One", 0, 300, 0, 3),
        SpokenWord("two,", 400, 700, 4, 8),
        SpokenWord("thr", 1300, 1400, 11, 14),
        SpokenWord("ee.", 1400, 1500, 16, 19),
    ]
    assert read(by_word(text, words, "srt"), "srt") == [
        (0, 400, "One"),
        (400, 700, "two,"),
        (1300, 1500, "three."),
    ]


@BOTH
def test_text_that_looks_like_the_formats_own_is_only_text(kind):
    text = "a --> b\n\n2\n00:00:01.000 --> 00:00:02.000\n\nNOTE R&D &amp; c < d"
    shown = "\n".join(shown for _, _, shown in cues_of(text, timed(text, ms=10), kind))
    arrow = "-->" if kind == "vtt" else "→"
    assert shown.split() == text.replace("-->", arrow).split()


def test_tags_are_shown_in_webvtt():
    text = "<b>bold</b> {words}"
    assert "&lt;b&gt;bold&lt;/b&gt;" in write_captions(text, timed(text), "vtt")


def test_a_sentence_without_spaces_is_divided_with_its_time():
    text = "字" * 210
    assert cues_of(text, timed(text, ms=21_000)) == [
        *((at, at + 4200, f"{'字' * 21}\n{'字' * 21}") for at in range(0, 21_000, 4200)),
    ]


def test_markup_is_not_shown_and_spaces_are_where_they_were():
    text = "Say **he**llo, *you*"
    words = [
        SpokenWord("Say", 0, 100, 0, 3),
        SpokenWord("he", 100, 200, 6, 8),
        SpokenWord("llo,", 200, 300, 10, 14),
        SpokenWord("you", 300, 400, 16, 19),
    ]
    assert cues_of(text, words) == [(0, 1000, "Say hello, you")]


def test_hours_and_milliseconds():
    word = SpokenWord("late", 3 * 3_600_000 + 25 * 60_000 + 45_678, 12_345_700, 0, 4)
    assert "03:25:45,678 --> 03:25:46,678\n" in write_captions("late", [word], "srt")
    assert "03:25:45.678 --> 03:25:46.678\n" in write_captions("late", [word], "vtt")


@BOTH
def test_nothing_spoken_is_no_cue(kind):
    assert cues_of("...", [], kind) == []


@BOTH
@settings(deadline=None)
@given(
    st.lists(st.text("ab&<>-.!é字{}", min_size=1, max_size=30), min_size=1, max_size=30),
    st.lists(st.integers(0, 3000), min_size=30, max_size=30),
    st.integers(0, 900),
)
def test_whatever_is_said_every_cue_is_readable(kind, chosen, gaps, ms):
    text = " ".join(chosen)
    words = timed(text, ms=ms, pauses=dict(enumerate(gaps)))
    for cues in (cues_of(text, words, kind), read(by_word(text, words, kind), kind)):
        assert all(start < end <= start + 7000 for start, end, _ in cues)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(cues))
        assert cues[0][0] == words[0].start_ms
        assert all(shown.count("\n") <= 1 for _, _, shown in cues)
