"""How long a text takes to say, by its words: before anything is spoken."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Engine, Utterance
from tts_provider.speech.reading import Passage

MARGIN = 1.25
"""An estimate says surely that audio is too long only from so many times the limit on: hibari's two
voices are within a tenth of their rate in prose, and who speaks slower is longer still."""

SPLIT = (
    "split the text, write it into a session (/v1/stream) or send it as a job (POST /v1/audio/jobs)"
)
"""What to do with a text that is too long for one request."""

_MOST_LETTER_S = 1.0  # one that is read as words, `½` or `²`
_LONGEST_WORD = 30  # letters; a longer one is noise that a voice hurries through

_WORD = re.compile(r"[^\W_]+")
# A character of Chinese or kana is three letters' worth, and a syllable of Korean is two.
_HAN_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_HAN_KANA_LETTERS, _HANGUL_LETTERS = 3, 2


def may_exceed(characters: int, speed: float, longest_s: float) -> bool:
    """Whether so much of any text could be `check_duration`'s business: else it need not be read
    before the first of it is spoken."""
    return characters * _MOST_LETTER_S / speed > longest_s * MARGIN


def expected_s(engine: Engine, utterance: Utterance, passages: Iterable[Passage]) -> float:
    """Seconds that the passages take in the utterance's voice and at its speed, pauses included."""
    seconds = 0.0
    for passage in passages:
        voice = passage.voice or utterance.voice
        rate = engine.of(voice).letters_per_s * utterance.manner.speed
        seconds += passage.pause_s + _letters(passage.spoken) / rate
    return seconds


def check_duration(expected: float, longest_s: float) -> None:
    """Raises `InvalidRequest` where so many expected seconds surely are more than `longest_s`."""
    if expected > MARGIN * longest_s:
        raise speech_too_long(
            f"the speech would be about {_duration(expected)} long; one request may have "
            f"{_duration(longest_s)}"
        )


def check_pauses(pauses_s: float, longest_s: float) -> None:
    """Raises `InvalidRequest` where a text asks for more silence than a request may have."""
    if pauses_s > longest_s:
        raise speech_too_long(
            f"the pauses are {pauses_s:g} s long together; one request may have {longest_s:g} s",
            "ask for shorter ones",
        )


def speech_too_long(fact: str, advice: str = SPLIT) -> InvalidRequest:
    """What is wrong, and what there is to do about it."""
    return InvalidRequest(
        f"{fact}: {advice}, or raise TTS_PROVIDER_MAX_REPLY_AUDIO_S",
        code="speech_too_long",
        param="text",
    )


def _letters(spoken: str) -> int:
    """Those of Latin script, and what others are worth."""
    spoken, han_kana = _HAN_KANA.subn(" ", spoken)
    spoken, hangul = _HANGUL.subn(" ", spoken)
    letters = sum(min(len(word), _LONGEST_WORD) for word in _WORD.findall(spoken))
    return letters + _HAN_KANA_LETTERS * han_kana + _HANGUL_LETTERS * hangul


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
