"""Which of espeak's variants is understood best: how its man and its woman were chosen.

    python benchmarks/espeak_voices.py [VARIANT …]

Each variant speaks the same 60 strings of seven digits; a recognizer with a digits grammar writes
down what it hears. Printed: word error rate, median pitch, seconds of audio for all.
"""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import ears
from tts_provider.engines.espeak import engine as espeak

VARIANTS = ("edward", "klatt", "klatt4", "m5", "m6", "f1", "f2", "f4", "f5")


def main() -> None:
    variants = sys.argv[1:] or VARIANTS
    library = espeak._library()
    draw = random.Random(7)
    strings = [draw.choices(ears.DIGITS, k=7) for _ in range(60)]
    for variant in variants:
        espeak.VARIANTS = {"male": variant}
        errors, pitches, samples = 0, [], 0
        for said in strings:
            pieces: list[np.ndarray] = []
            job = library.thread.submit(
                library.synthesize,
                " ".join(said) + ".",
                espeak.VOICES[0],
                1.0,
                threading.Event(),
                lambda heard, pieces=pieces: pieces.append(heard[0]),
            )
            job.result()
            audio = np.concatenate(pieces)
            heard = ears.hear_digits(audio, library.sample_rate)
            errors += ears.edit_distance(said, heard)
            pitches.append(ears.median_pitch_hz(audio, library.sample_rate))
            samples += len(audio)
        rate = errors / sum(map(len, strings))
        seconds = samples / library.sample_rate
        print(f"{variant:12} {rate:7.2%} {np.median(pitches):5.0f} Hz {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
