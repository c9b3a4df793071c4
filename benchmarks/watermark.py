"""The watermark: what it survives, whether it is seen where it is not, its sound and its cost.

    pip install --no-deps speechmos==0.0.1.1      # optional: DNSMOS
    python benchmarks/watermark.py [--clips N]

hibari speaks N clips (60), one sentence each, a man and a woman in turn. Each is marked as a server
marks it, with its first 320 ms left as they are, and both, the marked and the plain, go through
every change. A clip is found where its score reaches `THRESHOLD`. Printed: the share of clips found
among the marked and among the plain, and the lowest and the highest score; SNR and DNSMOS; seconds
of one core for a second of audio, to mark and to look; and the time to first audio of two servers
on loopback that are asked in turn, one that marks and one that does not.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from sentences import SENTENCES
from servers import embedded_engine, open_socket, running_server, send
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.audio.encode.encode import create_encoder
from tts_provider.audio.tempo import Tempo
from tts_provider.audio.watermark.detect import THRESHOLD, detect
from tts_provider.audio.watermark.mark import LEAD, Marker
from tts_provider.audio.watermark.network import Decoder, Encoder
from tts_provider.audio.watermark.weights import read_weights
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, Utterance
from tts_provider.speech.reading import read
from voices import dnsmos

Change = Callable[[np.ndarray], np.ndarray]
_ASKED = 30


def sent(audio_format: str, rate: int = SAMPLE_RATE, bits_per_second: int | None = None) -> Change:
    def change(samples: np.ndarray) -> np.ndarray:
        encoder = create_encoder(audio_format, SAMPLE_RATE, rate, bits_per_second=bits_per_second)
        data = encoder.start() + encoder.push(samples) + encoder.finish()
        encoder.close()
        return decode_audio(data)

    return change


def resampled(speed: float) -> Change:
    return lambda samples: soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE / speed)


def stretched(speed: float) -> Change:
    def change(samples: np.ndarray) -> np.ndarray:
        tempo = Tempo(SAMPLE_RATE, speed)
        return np.concatenate([tempo.push(samples), tempo.finish()])

    return change


def noisy(snr_db: float) -> Change:
    def change(samples: np.ndarray) -> np.ndarray:
        level = np.sqrt(np.mean(samples**2) / 10 ** (snr_db / 10))
        noise = np.random.default_rng(len(samples)).normal(0, level, len(samples))
        return (samples + noise).astype(np.float32)

    return change


CHANGES: dict[str, Change] = {
    "nothing": lambda samples: samples,
    "MP3, 64 kbit/s": sent("mp3", bits_per_second=64_000),
    "MP3, 32 kbit/s": sent("mp3", bits_per_second=32_000),
    "AAC": sent("aac"),
    "Opus, 24 kbit/s": sent("opus", bits_per_second=24_000),
    "Opus, 16 kbit/s": sent("opus", bits_per_second=16_000),
    "telephone (μ-law, 8 kHz)": sent("wav-mulaw", 8000),
    "16 kHz and back": sent("wav", 16_000),
    "two seconds of it": lambda samples: samples[SAMPLE_RATE // 2 :][: 2 * SAMPLE_RATE],
    "one second of it": lambda samples: samples[SAMPLE_RATE // 2 :][:SAMPLE_RATE],
    "noise, 20 dB below": noisy(20),
    "noise, 10 dB below": noisy(10),
    "5 % faster, and higher": resampled(1.05),
    "5 % slower, and lower": resampled(0.95),
    "5 % faster, as high": stretched(1.05),
    "5 % slower, as high": stretched(0.95),
}


async def speak(count: int) -> list[np.ndarray]:
    engine = embedded_engine()
    await engine.load(lambda message: None)
    voices, clips = engine.voices()[:2], []
    for number in range(count):
        text = SENTENCES[number // 2 % len(SENTENCES)]
        items = pipeline.speak(engine, Utterance(text, voices[number % 2]), read(text))
        clips.append(np.concatenate([chunk.samples async for chunk in items]))
    await engine.close()
    return clips


def mark(encoder: Encoder, samples: np.ndarray) -> np.ndarray:
    marker = Marker(encoder, LEAD)
    return np.concatenate([marker.push(samples), marker.finish()])


async def first_audio_ms() -> tuple[list[float], list[float]]:
    """With and without, in turn."""
    taken: tuple[list[float], list[float]] = [], []
    async with (
        running_server(embedded_engine(), watermark="on") as marking,
        running_server(embedded_engine(), watermark="off") as plain,
        open_socket(marking) as first,
        open_socket(plain) as second,
    ):
        for number in range(_ASKED + 2):
            for times, socket in zip(taken, (first, second), strict=True):
                began, heard = time.perf_counter(), False
                await send(socket, text=SENTENCES[number], stream=True)
                while isinstance(message := await socket.recv(), bytes) or "success" not in message:
                    if isinstance(message, bytes) and not heard and len(message) > 44:
                        heard = True
                        times.append(1000 * (time.perf_counter() - began))
    return taken[0][2:], taken[1][2:]  # the first two warm up


def seconds_of(work: Callable[[], object]) -> float:
    """Of this process's CPU; networks here run on one thread."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=60, metavar="N")
    arguments = parser.parse_args()
    plain = asyncio.run(speak(arguments.clips))
    audio_s = sum(map(len, plain)) / SAMPLE_RATE
    weights = read_weights()
    encoder, decoder = Encoder(weights), Decoder(weights)
    marked = [mark(encoder, clip) for clip in plain]

    print(f"{len(plain)} clips, {audio_s:.0f} s; found from a score of {THRESHOLD}\n")
    print("| changed by | marked, found | lowest score | plain, found | highest score |")
    print("| --- | --- | --- | --- | --- |")
    for name, change in CHANGES.items():
        scores = [
            np.array([detect(decoder, change(clip)).score for clip in clips])
            for clips in (marked, plain)
        ]
        shares = [100 * np.mean(each >= THRESHOLD) for each in scores]
        print(
            f"| {name} | {shares[0]:.0f} % | {scores[0].min():.2f} "
            f"| {shares[1]:.0f} % | {scores[1].max():.2f} |",
            flush=True,
        )

    snr = [
        10 * np.log10(np.sum(a[LEAD:] ** 2) / np.sum((a - b)[LEAD:] ** 2))
        for a, b in zip(plain, marked, strict=True)
    ]
    quality = [np.mean([dnsmos(clip) for clip in clips]) for clips in (plain, marked)]
    print(f"\nSNR {np.mean(snr):.1f} dB; DNSMOS {quality[0]:.2f} plain, {quality[1]:.2f} marked")
    costs = [
        seconds_of(lambda: [mark(encoder, clip) for clip in plain]),
        seconds_of(lambda: [detect(decoder, clip) for clip in marked]),
        seconds_of(lambda: [detect(decoder, clip) for clip in plain]),
    ]
    shares = [100 * cost / audio_s for cost in costs]
    print(
        f"of one core, for a second of audio: {shares[0]:.1f} % to mark, {shares[1]:.1f} % to look "
        f"where there is a mark, {shares[2]:.1f} % where there is none"
    )
    times = asyncio.run(first_audio_ms())
    told = (f"{statistics.median(each):.1f} ms" for each in times)
    print("median time to first audio: {} with, {} without".format(*told))


if __name__ == "__main__":
    main()
