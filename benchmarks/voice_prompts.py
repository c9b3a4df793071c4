"""What a voice prompt costs on the CPU: time to first audio with it fresh, kept, and without one.

    python benchmarks/voice_prompts.py FOLDER [--precision int4] [--seconds 10]

FOLDER as written by full_size.py. The prompt is so many seconds of the embedded voice. Fresh: the
codec encodes it and the model reads it, as for an enrolled voice's first request. Encoded: only the
model reads it. Kept: both were done before, as for every later request. The engine is driven
directly; the server adds what docs/benchmarks.md says of it. Medians of five; ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import aclosing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from csm_cpu import build
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.speech import pipeline
from tts_provider.speech.engine import Manner, Utterance, Voice
from tts_provider.speech.reading import read
from tts_provider.voices.builtin import Candidate, Chosen

SPOKEN = "The quick brown fox jumps over the lazy dog. " * 10
TEXT = "Hello there, how are you today?"
ROUNDS = 5


async def record(seconds: float) -> np.ndarray:
    utterance = Utterance(SPOKEN, VOICES[0], Manner(max_audio_ms=int(1000 * seconds)))
    chunks = pipeline.speak(EspeakEngine(), utterance, read(SPOKEN))
    return np.concatenate([chunk.samples async for chunk in chunks])


async def first_audio_ms(engine: CsmEngine, voice: Voice) -> float:
    began = time.perf_counter()
    async with aclosing(engine.speak(Utterance(TEXT, voice, Manner(seed=1)))) as chunks:
        await anext(chunks)
        return 1000 * (time.perf_counter() - began)


async def measure(folder: Path, precision: str, seconds: float) -> None:
    samples = await record(seconds)
    transcript = SPOKEN[: int(15 * seconds)]
    prompts = Chosen(Candidate("prompt", transcript, samples, 105.0), None, [])
    engine = CsmEngine(
        open_checkpoint(folder),
        folder / "tokenizer.json",
        lambda report: build(folder, precision)[0],
        device="cpu",
        codec="benchmark",
        precision=precision,
        prompts=prompts,
    )
    await engine.load(lambda line: None)
    with_prompt, without = engine.voices()
    times: dict[str, list[float]] = {"fresh": [], "encoded": [], "kept": [], "no prompt": []}
    for _ in range(ROUNDS):
        assert engine._loop is not None
        engine._prompts._spoken.clear()
        engine._loop._prefixes.clear()
        times["fresh"].append(await first_audio_ms(engine, with_prompt))
        engine._loop._prefixes.clear()
        times["encoded"].append(await first_audio_ms(engine, with_prompt))
        times["kept"].append(await first_audio_ms(engine, with_prompt))
        times["no prompt"].append(await first_audio_ms(engine, without))
    await engine.close()
    print(f"{precision}, a prompt of {seconds:g} s: TTFA, ms")
    for name, found in times.items():
        print(f"  {name:10} {np.median(found):8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.folder, arguments.precision, arguments.seconds))


if __name__ == "__main__":
    main()
