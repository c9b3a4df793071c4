"""What each audio format costs: how long its encoder holds audio back, and CPU time.

    python benchmarks/formats.py [SAMPLE_RATE …]

The embedded voice speaks once. Printed as a Markdown table: how much audio, pushed 1 ms at a time,
had gone into the encoder when the first bytes of audio came out; and, as medians of rounds in which
the formats take turns, CPU milliseconds for a second of audio in pieces of 80 ms, and for making
and closing an encoder.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from contextlib import aclosing

import numpy as np

from tts_provider.audio.encode.compress import OPUS_RATES
from tts_provider.audio.encode.encode import FORMATS, create_encoder
from tts_provider.audio.encode.format import Format
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.speech.engine import SAMPLE_RATE, Utterance

TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows how it came to be there. " * 4
ROUNDS = 15
PIECE = SAMPLE_RATE * 80 // 1000


async def speak() -> np.ndarray:
    engine = EspeakEngine()
    await engine.load(lambda message: None)
    utterance = Utterance(text=TEXT, voice=engine.voices()[0])
    async with aclosing(engine.speak(utterance)) as chunks:
        samples = np.concatenate([chunk.samples async for chunk in chunks])
    await engine.close()
    return samples


def held_back_ms(audio_format: Format, rate: int, samples: np.ndarray) -> int:
    encoder = create_encoder(audio_format, SAMPLE_RATE, rate)
    encoder.start()
    step = SAMPLE_RATE // 1000
    pushes = iter(range(1, len(samples) // step))
    held_ms = next(ms for ms in pushes if encoder.push(samples[(ms - 1) * step : ms * step]))
    encoder.close()
    return held_ms


def encode(audio_format: Format, rate: int, samples: np.ndarray) -> tuple[float, float, int]:
    """CPU seconds to make and close an encoder, CPU seconds to encode, and bytes."""
    began = time.process_time()
    encoder = create_encoder(audio_format, SAMPLE_RATE, rate)
    size_bytes = len(encoder.start())
    made = time.process_time()
    for start in range(0, len(samples), PIECE):
        size_bytes += len(encoder.push(samples[start : start + PIECE]))
    size_bytes += len(encoder.finish())
    encoded = time.process_time()
    encoder.close()
    return made - began + time.process_time() - encoded, encoded - made, size_bytes


def main() -> None:
    rates = [int(rate) for rate in sys.argv[1:]] or [SAMPLE_RATE]
    samples = asyncio.run(speak())
    audio_s = len(samples) / SAMPLE_RATE
    print(f"{audio_s:.1f} s of speech, {ROUNDS} rounds\n")
    print("| format | sample rate | first bytes after | CPU for 1 s | to begin and end | kbit/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for rate in rates:
        formats = [name for name in FORMATS if name != "opus" or rate in OPUS_RATES]
        made_ms, cost_ms, size_bytes = defaultdict(list), defaultdict(list), {}
        for _ in range(ROUNDS):
            for name in formats:
                made_s, encoded_s, size_bytes[name] = encode(name, rate, samples)
                made_ms[name].append(1000 * made_s)
                cost_ms[name].append(1000 * encoded_s / audio_s)
        for name in formats:
            cost, made = statistics.median(cost_ms[name]), statistics.median(made_ms[name])
            kilobits = size_bytes[name] * 8 / audio_s / 1000
            held_ms = held_back_ms(name, rate, samples)
            print(
                f"| {name} | {rate} | {held_ms} ms | {cost:.2f} ms | {made:.2f} ms "
                f"| {kilobits:.0f} |"
            )


if __name__ == "__main__":
    main()
