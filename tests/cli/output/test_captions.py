"""Captions as FFmpeg's readers of SubRip and WebVTT see them."""

from __future__ import annotations

import io
import itertools
import re

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@BOTH
def test_a_cue_ends_with_its_sentence(kind):
    text = "Dr. Smith is in. He says hello!"
    assert cues_of(text, timed(text), kind) == [
        (0, 1200, "Dr. Smith is in."),
        (1200, 2100, "He says hello!"),
    ]


@BOTH
def test_a_cue_ends_at_a_pause(kind):
    text = "One two three four"
    words = timed(text, pauses={1: 699, 2: 700})
    assert cues_of(text, words, kind) == [(0, 1299, "One two"), (1999, 2599, "three four")]


def test_a_cue_has_two_lines_of_about_the_same_length_at_most():
    text = (
        "this is a sentence of words that goes on and on and on without any end to it at all " * 5
    )
    cues = cues_of(text, timed(text, ms=100))
    assert " ".join(shown.replace("\n", " ") for _, _, shown in cues) == text.strip()
    for _, _, shown in cues:
        assert len(shown) <= 84
        lines = shown.split("\n")
        assert len(lines) == (1 if len(shown) <= 42 else 2)
        assert max(map(len, lines)) - min(map(len, lines)) <= 2 * len("sentence")


def test_a_cue_lasts_seven_seconds_at_most():
    text = "a very slow speaker who takes his time"
    assert [(start, end) for start, end, _ in cues_of(text, timed(text, ms=2000))] == (
        [(0, 6000), (6000, 12_000), (12_000, 16_000)]
    )


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
        (0, 8400, "字" * 84),
        (8400, 16_800, "字" * 84),
        (16_800, 21_000, "字" * 42),
    ]


def test_markup_is_not_shown_and_spaces_are_where_they_were():
    text = "Say **he**llo, *you*"
    words = [
        SpokenWord("Say", 0, 100, 0, 3),
        SpokenWord("he", 100, 200, 6, 8),
        SpokenWord("llo,", 200, 300, 10, 14),
        SpokenWord("you", 300, 400, 16, 19),
    ]
    assert cues_of(text, words) == [(0, 400, "Say hello, you")]


def test_hours_and_milliseconds():
    word = SpokenWord("late", 3 * 3_600_000 + 25 * 60_000 + 45_678, 12_345_700, 0, 4)
    assert "03:25:45,678 --> 03:25:45,700\n" in write_captions("late", [word], "srt")
    assert "03:25:45.678 --> 03:25:45.700\n" in write_captions("late", [word], "vtt")


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
    cues = cues_of(text, words, kind)
    assert all(start < end for start, end, _ in cues)
    assert all(a[1] <= b[0] + 1 for a, b in itertools.pairwise(cues))
    assert cues[0][0] == words[0].start_ms
    assert cues[-1][1] in (words[-1].end_ms, cues[-1][0] + 1)
    assert all(shown.count("\n") <= 1 for _, _, shown in cues)
