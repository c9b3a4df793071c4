"""When each word that somebody wrote is spoken."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import groupby

from tts_provider.speech.engine import Word
from tts_provider.speech.reading import Passage
from tts_provider.speech.timing.alignment import AlignedWord


def time_words(passage: Passage, times: Sequence[Word]) -> list[Word]:
    """The passage's written words that are spoken, in order; `times` are of its `words`, in order,
    and so are the times of what is given back.

    A word that the engine says nothing of has a part of the one before it: espeak-ng says "of the"
    in one go.
    """
    places = passage.written_words()
    if not places or not times:
        return []
    spans = _spans(places, times)
    timed = []
    together = zip(places, spans, strict=True)
    for (text_start, text_end), group in groupby(together, lambda one: (one[0].start, one[0].end)):
        spoken = list(group)
        text = passage.written_between(spoken[0][0].text_start, spoken[-1][0].text_end)
        start, end = spoken[0][1][0], spoken[-1][1][1]
        timed.append(Word(start, end, text_start, text_end, times[0].is_estimated, text))
    return timed


def _spans(places: Sequence[AlignedWord], times: Sequence[Word]) -> list[tuple[int, int]]:
    """From when to when each place is spoken."""
    starts, ends = [time.text_start for time in times], [time.text_end for time in times]
    owned: list[list[int]] = [[] for _ in times]
    for number, place in enumerate(places):
        first, after = bisect_right(ends, place.spoken_start), bisect_left(starts, place.spoken_end)
        for owner in range(first, after) or [max(after - 1, 0)]:
            owned[owner].append(number)
    parts: list[list[tuple[int, int]]] = [[] for _ in places]
    for time, numbers in zip(times, owned, strict=True):
        lengths = [places[number].spoken_end - places[number].spoken_start for number in numbers]
        done = 0
        for number, length in zip(numbers, lengths, strict=True):
            start = time.start + (time.end - time.start) * done // sum(lengths)
            done += length
            end = time.start + (time.end - time.start) * done // sum(lengths)
            parts[number].append((start, end))
    return [(part[0][0], part[-1][1]) for part in parts]
