"""How exactly words are found in speech of an engine that does not say when it speaks them.

    python benchmarks/word_times.py [--sentences N]

Voices that do say it are taken as if they did not, and their words found by what another one says.
Printed: how far the starts and ends of words are from where the voice says they are, medians and
95 %; a silence at the end of a word is none of it. espeak-ng tells starts only, and words are
compared where both engines have the same one. Then what it costs, in CPU time for a second of
audio.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from sentences import SENTENCES
from tts_provider.audio.chain import Chain
from tts_provider.audio.tempo import Tempo
from tts_provider.config import Settings
from tts_provider.selection import Choice, build_engine
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Manner, Samples, Utterance
from tts_provider.speech.timing.dtw import Span, find_spans

_MS = SAMPLE_RATE / 1000
Place = tuple[int, int]
"""Of a word in its text."""


@dataclass(frozen=True)
class Speech:
    samples: Samples
    words: dict[Place, Span]

    def with_noise(self, below_db: float) -> Speech:
        level = np.sqrt(np.mean(self.samples**2)) * 10 ** (-below_db / 20)
        noise = np.random.default_rng(0).normal(0, level, len(self.samples))
        return Speech(self.samples + noise.astype(np.float32), self.words)

    async def at_speed(self, speed: float) -> Speech:
        samples = await Chain([Tempo(SAMPLE_RATE, speed)]).finish(self.samples)
        words = {
            place: (round(start / speed), round(end / speed))
            for place, (start, end) in self.words.items()
        }
        return Speech(samples, words)


async def speak(engine: Engine, voice_id: str, text: str) -> Speech:
    voice = next(voice for voice in engine.voices() if voice.id == voice_id)
    chunks = [chunk async for chunk in engine.speak(Utterance(text, voice, Manner(seed=1)))]
    samples = np.concatenate([chunk.samples for chunk in chunks])
    is_loud = np.abs(samples) > 0.01 * np.abs(samples).max()
    words = {}
    for word in (word for chunk in chunks for word in chunk.words):
        loud = np.flatnonzero(is_loud[word.start : word.end])
        end = word.start + int(loud[-1]) + 1 if len(loud) else word.end
        words[word.text_start, word.text_end] = word.start, end
    return Speech(samples, words)


def compare(name: str, spoken: list[Speech], known: list[Speech], *, has_ends: bool = True) -> None:
    errors, spent, heard = list[tuple[int, int]](), 0.0, 0
    for speech, reference in zip(spoken, known, strict=True):
        places = [place for place in reference.words if place in speech.words]
        begun = time.process_time()
        found = find_spans(
            speech.samples, reference.samples, [reference.words[place] for place in places]
        )
        spent += time.process_time() - begun
        heard += len(speech.samples)
        truth = [speech.words[place] for place in places]
        errors += [(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in zip(found, truth, strict=True)]
    starts, ends = np.array(errors).T / _MS
    told = quantiles(ends) if has_ends else "–"
    cost = 1000 * spent * SAMPLE_RATE / heard
    print(f"| {name} | {len(errors)} | {quantiles(starts)} | {told} | {cost:.1f} ms |", flush=True)


def quantiles(errors: np.ndarray) -> str:
    return f"{np.median(errors):.0f}, {np.percentile(errors, 95):.0f} ms"


async def run(count: int) -> None:
    engines = {}
    for name in ("hibari", "espeak"):
        engines[name] = build_engine(Choice(name, "it is measured"), Settings(_env_file=None))
        await engines[name].load(lambda line: None)
    texts = SENTENCES[:count]

    async def speeches(engine: str, voice: str, texts: tuple[str, ...] = texts) -> list[Speech]:
        return [await speak(engines[engine], voice, text) for text in texts]

    man, woman = await speeches("hibari", "male"), await speeches("hibari", "female")
    robot = await speeches("espeak", "male")
    print("| whose words are found, by whose | words | starts | ends | cost |")
    print("| --- | --- | --- | --- | --- |")
    compare("hibari's woman, by its man", woman, man)
    compare("hibari's man, by its woman", man, woman)
    for speed in (0.7, 1.5):
        stretched = [await speech.at_speed(speed) for speech in woman]
        compare(f"hibari's woman at {speed} times the speed, by its man", stretched, man)
    compare("hibari's woman in noise of −20 dB, by its man", [s.with_noise(20) for s in woman], man)
    long = tuple(" ".join(texts[at : at + 5]) for at in range(0, len(texts), 5))
    compare(
        "hibari's woman, five sentences at once, by its man",
        await speeches("hibari", "female", long),
        await speeches("hibari", "male", long),
    )
    compare("espeak-ng's man, by hibari's man", robot, man, has_ends=False)
    compare("espeak-ng's man, by hibari's woman", robot, woman, has_ends=False)
    noisy = [speech.with_noise(20) for speech in robot]
    compare("espeak-ng's man in noise of −20 dB, by hibari's man", noisy, man, has_ends=False)
    compare("hibari's woman, by espeak-ng's man", woman, robot, has_ends=False)
    for engine in engines.values():
        await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sentences", type=int, default=len(SENTENCES), metavar="N")
    asyncio.run(run(parser.parse_args().sentences))


if __name__ == "__main__":
    main()
