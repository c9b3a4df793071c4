"""Where the time to hibari's first sound goes: CPU milliseconds of each step, medians.

python benchmarks/first_sound.py
"""

from __future__ import annotations

import time

import numpy as np

from tts_provider.engines.hibari.graph import Graph
from tts_provider.engines.hibari.package import Phonemizer, read_model
from tts_provider.engines.hibari.voice import CHARACTERS, Performance
from tts_provider.engines.inference import Inference

TEXTS = (
    "Hello there.",
    "I can answer at once, and then I go on for a while.",
    "The night train leaves the harbour at ten, and it crosses the long bridge before the tide "
    "comes in.",
)
TIMES = 40
STEPS = ("phonemes", "graph", "first spectra", "the rest")


def measure(graph: Graph, phonemizer: Phonemizer, text: str, voice: str) -> tuple[list[float], int]:
    """CPU milliseconds of each step, and the samples of the first sound."""
    character, clock = CHARACTERS[voice], time.process_time
    times = [clock()]
    (piece,) = phonemizer.pronounce(text, ()).parts(400)
    ids = phonemizer.encode(piece.phonemes)
    times.append(clock())
    spectra = graph.compute(ids, character.rate, character.pitch, Inference())
    times.append(clock())
    performance = Performance(spectra, character, piece.phonemes)
    pieces = performance.make(np.random.default_rng(0))
    first = next(samples for samples in pieces if len(samples))
    times.append(clock())
    for _ in pieces:
        pass
    performance.finish()
    times.append(clock())
    return [1000 * took_s for took_s in np.diff(times)], len(first)


def main() -> None:
    graph, phonemizer = Graph(read_model()), Phonemizer()
    print(f"{'voice':8} {'characters':>10} " + " ".join(f"{step:>14}" for step in STEPS))
    for voice in CHARACTERS:
        for text in TEXTS:
            measure(graph, phonemizer, text, voice)
            rows = [measure(graph, phonemizer, text, voice)[0] for _ in range(TIMES)]
            figures = " ".join(f"{ms:14.1f}" for ms in np.median(rows, 0))
            print(f"{voice:8} {len(text):10} {figures}", flush=True)


if __name__ == "__main__":
    main()
