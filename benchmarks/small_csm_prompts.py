"""Whose voice the small CSM in tests/data takes from a prompt, by the prompt's length.

    pip install soxr pocketsphinx
    python benchmarks/small_csm_prompts.py [--seeds 3]

Both voices of hibari and of espeak-ng read the model's own words, or ordinary sentences that it has
not learned, as speaker 0 and as speaker 1. What follows is in the reader's voice where its pitch is
on the reader's side of 165 Hz.
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
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.engines.hibari.engine import HibariEngine
from tts_provider.engines.hibari.package import read_model
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Manner, Utterance, Voice

LENGTHS_S = (2, 4, 6, 8, 12, 16, 20)
SENTENCES = """
Early in the morning my neighbor walks her old brown dog along the river, past the mill and the
little church. She says that the water was cleaner when she was young, and that the trains ran on
time. I listen, because she likes to talk, and because most of what she says is true. On Sundays we
drink coffee in her garden, where the roses grow over the wall. Last year a storm took the roof of
the barn, and the whole village came to help.
""".split()  # noqa: SIM905


async def speak(engine: Engine, utterance: Utterance) -> np.ndarray:
    return np.concatenate([chunk.samples async for chunk in engine.speak(utterance)])


async def record(
    reader: Engine, voice: Voice, kind: str, length_s: int, random: np.random.Generator
) -> tuple[str, np.ndarray]:
    """A text that takes about so long, and its sound."""
    count, samples = 2 * length_s, np.zeros(0)
    while True:
        words = SENTENCES[:count] if kind == "sentences" else random.choice(WORDS, count)
        text = " ".join(words).rstrip(",.") + "."
        samples = await speak(reader, Utterance(text, voice, Manner(seed=0)))
        missing_s = length_s - len(samples) / SAMPLE_RATE
        if missing_s <= 1 or count >= len(SENTENCES):
            return text, samples
        count += max(1, int(1.5 * missing_s))


async def follow(
    engine: Engine, speaker: int, said: tuple[str, np.ndarray], digits: list[str], seed: int
) -> np.ndarray:
    voice = next(v for v in engine.voices() if v.id == f"speaker-{speaker}")
    utterance = Utterance(" ".join(digits), voice, Manner(seed=seed))
    utterance.history.add(await engine.listen(said[0], speaker, said[1]))
    return await speak(engine, utterance)


async def measure(seeds: int) -> list[str]:
    hibari = HibariEngine(read_model(), threads=1)
    await hibari.load(lambda _: None)
    readers = [(hibari, voice) for voice in hibari.voices()]
    readers += [(EspeakEngine(), voice) for voice in VOICES]
    rows, wrong, said_words = [], 0, 0
    random = np.random.default_rng(99)
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine("float32", Path(folder))
        await engine.load(lambda _: None)
        for kind in ("own words", "sentences"):
            right = dict.fromkeys(LENGTHS_S, 0)
            for reader, voice in readers:
                for speaker in (0, 1):
                    for length_s in LENGTHS_S:
                        said = await record(reader, voice, kind, length_s, random)
                        for seed in range(seeds):
                            digits = list(map(str, random.choice(DIGITS, 4, replace=False)))
                            samples = await follow(engine, speaker, said, digits, seed)
                            is_woman = ears.median_pitch_hz(samples) > 165
                            right[length_s] += is_woman == (voice.gender == "female")
                            wrong += ears.edit_distance(digits, ears.hear_digits(samples))
                            said_words += len(digits)
            of = 2 * len(readers) * seeds
            rows.append(f"| {kind} | {' | '.join(f'{n} of {of}' for n in right.values())} |")
        await engine.close()
    await hibari.close()
    return [*rows, f"{wrong} of {said_words} digits wrong, as pocketsphinx hears them"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    print("| | " + " | ".join(f"{length_s} s" for length_s in LENGTHS_S) + " |")
    print("|" + " --- |" * (len(LENGTHS_S) + 1))
    for row in asyncio.run(measure(parser.parse_args().seeds)):
        print(row, flush=True)


if __name__ == "__main__":
    main()
