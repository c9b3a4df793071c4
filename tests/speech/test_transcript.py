"""What was heard of passages whose words' times are known, in part, or not at all."""

from __future__ import annotations

import numpy as np

from rows import rows
from tts_provider.speech.engine import CODE_SAMPLES, History, Spoken, Word
from tts_provider.speech.reading import read
from tts_provider.speech.transcript import SpokenPassage, Transcript, Written

TEXT = "One two three four. It is **$5**."
SAMPLES = 24  # a millisecond's


def spoken_text(known: str, *, is_over: bool) -> tuple[Transcript, History]:
    """Two seconds for each sentence, 400 ms a word; of the second one is `known` up to there."""
    written, history = Written(1000), History()
    written.add(TEXT)
    transcript = Transcript(written, history, 1000)
    first, second = read(TEXT)
    for number, passage in enumerate((first, second)):
        start = 2000 * SAMPLES * number
        record = SpokenPassage(passage, start)
        at = 0
        for count, word in enumerate(passage.spoken.split()):
            begin = passage.spoken.index(word, at)
            at = begin + len(word)
            if number == 0 or at <= len(known):
                place = 400 * SAMPLES * count, 400 * SAMPLES * (count + 1)
                record.times.append(Word(*place, begin, at))
        if number == 0 or is_over:
            record.end = start + 2000 * SAMPLES
        history.add(Spoken(passage.spoken, 0, np.zeros((25, 2), np.int64), "v"))
        record.remembered = history.segments[-1]
        transcript.begin(record)
    return transcript, history


@rows(
    ("known", "is_over", "played_ms", "heard"),
    [
        ("", True, 0, ""),
        ("", True, 700, "One two"),
        ("", True, 1990, "One two three four."),
        ("It is five dollars.", True, 2300, "One two three four. It"),
        ("It is five dollars.", True, 9999, TEXT),
        ("It is", False, 2700, "One two three four. It is"),
        ("It is", False, 2850, "One two three four. It is"),
        ("It is", False, 3900, "One two three four. It is"),
        ("", False, 2200, "One two three four. It"),
        ("", True, 2900, "One two three four. It is"),
        ("", True, 3900, TEXT),
    ],
)
def test_the_word_that_was_playing(known, is_over, played_ms, heard):
    transcript, _ = spoken_text(known, is_over=is_over)
    assert transcript.interrupt(played_ms * SAMPLES) == (heard, TEXT.removeprefix(heard))


@rows(
    ("played_ms", "texts", "frames"),
    [
        (0, [], []),
        (700, ["One two"], [9]),
        (2000, ["One two three four."], [25]),
        (2010, ["One two three four."], [25]),
        (2700, ["One two three four.", "It is"], [25, 9]),
        (4000, ["One two three four.", "It is five dollars."], [25, 25]),
    ],
)
def test_the_history_is_as_short_as_what_was_heard(played_ms, texts, frames):
    transcript, history = spoken_text("It is five dollars.", is_over=True)
    assert CODE_SAMPLES == 80 * SAMPLES
    history.add(Spoken("Yes?", 1, np.zeros((3, 2), np.int64)))  # somebody else's
    for _ in range(2):  # who is told twice has heard no more
        transcript.interrupt(played_ms * SAMPLES)
        assert [spoken.text for spoken in history.segments] == [*texts, "Yes?"]
        assert [len(spoken.codes) for spoken in history.segments] == [*frames, 3]
        assert history.count == len(texts) + 1


def test_a_long_text_keeps_its_end():
    written = Written(10)
    for _ in range(50):
        written.add("abc")
    before, behind = written.split(149)
    assert (("abc" * 50)[:-1].endswith(before), len(before) >= 10, behind) == (True, True, "c")
    assert written.size_characters <= 20
    assert written.split(3) == ("", written.split(0)[1])
