"""Speech that one replica began and another goes on with, cut anyhow."""

from __future__ import annotations

import numpy as np
import pytest

from tts_provider.engines.remote.frames import SamplesFrame, WordsFrame
from tts_provider.engines.remote.hedging.continuation import CannotContinue, Continuation, Heard
from tts_provider.speech.engine import Word

SPEECH = np.random.default_rng(1).uniform(-0.5, 0.5, 24_000).astype(np.float32)
WORDS = [Word(n * 6000, n * 6000 + 5000, n * 6, n * 6 + 5) for n in range(4)]
FADE = 120


def frames(speech, words, cuts, delay=0):
    """Each word with the sound that completes it, as engines tell it."""
    told, done = [], 0
    for begin, end in zip([0, *cuts], [*cuts, len(speech)], strict=True):
        known = [word for word in words[done:] if word.end + delay <= end]
        if known:
            told.append(WordsFrame(known))
            done += len(known)
        told.append(SamplesFrame(speech[begin:end]))
    return told


def heard_until(count, words=WORDS, speech=SPEECH):
    heard = Heard()
    for frame in frames(speech[:count], [w for w in words if w.end <= count], [count // 2]):
        heard.add(frame)
    return heard


def go_on(heard, replay, **options):
    continuation = Continuation(heard, **{"must_be_same": False, **options})
    out = [f for frame in replay for f in continuation.push(frame)] + list(continuation.finish())
    samples = [f.samples for f in out if isinstance(f, SamplesFrame)]
    words = [word for f in out if isinstance(f, WordsFrame) for word in f.times]
    return np.concatenate(samples), words


@pytest.mark.parametrize("count", [0, 1, 100, 4999, 5000, 7000, 12_345, 23_999, 24_000])
@pytest.mark.parametrize("cuts", [[], [3000, 9000], list(range(480, 24_000, 480))])
def test_the_same_samples_go_on_without_a_seam(count, cuts):
    heard = heard_until(count)
    rest, words = go_on(heard, frames(SPEECH, WORDS, cuts), must_be_same=True)
    assert np.array_equal(rest, SPEECH[count:])
    assert heard.words + words == WORDS


@pytest.mark.parametrize("count", [4999, 5000, 7000, 12_345, 23_999])
@pytest.mark.parametrize("stretch", [0.9, 1.1])
def test_other_samples_go_on_behind_the_last_whole_word(count, stretch):
    other = np.random.default_rng(2).uniform(-0.5, 0.5, round(24_000 * stretch))
    other = other.astype(np.float32)
    moved = [Word(*(round(n * stretch) for n in (w.start, w.end)), w.text_start, w.text_end)
             for w in WORDS]  # fmt: skip
    heard = heard_until(count)
    rest, words = go_on(heard, frames(other, moved, list(range(480, len(other), 480))))
    whole = [w for w in WORDS if w.end <= count]
    cut = moved[len(whole) - 1].end if whole else 0
    assert np.array_equal(rest[FADE:], other[cut + FADE :])
    assert np.abs(rest[:FADE]).max() <= np.abs(other[cut : cut + FADE]).max()
    shift = count - cut
    assert words == [w.moved(shift) for w in moved[len(whole) :]]
    with pytest.raises(CannotContinue, match="never mixed"):
        go_on(heard, frames(other, moved, []), must_be_same=True)


def test_who_does_not_say_its_words_cannot_go_on_in_other_samples():
    with pytest.raises(CannotContinue, match="does not say when"):
        go_on(heard_until(7000), [SamplesFrame(SPEECH[::-1])])
    speech = np.tile(SPEECH, 3)
    with pytest.raises(CannotContinue, match="too long ago"):
        go_on(heard_until(60_000, WORDS, speech), [SamplesFrame(speech[::-1])])
    # Nothing whole was heard: it begins anew.
    rest, _ = go_on(heard_until(4000), [SamplesFrame(SPEECH[::-1])])
    assert len(rest) == 24_000


def test_more_may_be_heard_while_another_one_catches_up():
    heard = heard_until(6000)
    continuation = Continuation(heard, must_be_same=True)
    replay = frames(SPEECH, WORDS, list(range(1000, 24_000, 1000)))
    out = [f for frame in replay[:5] for f in continuation.push(frame)]
    assert not out
    heard.add(SamplesFrame(SPEECH[6000:9500]))
    out = [f for frame in replay[5:] for f in continuation.push(frame)]
    samples = np.concatenate([f.samples for f in out if isinstance(f, SamplesFrame)])
    assert np.array_equal(samples, SPEECH[9500:])
