"""The embedded voices side by side: understood, clean, level, fast, small.

    pip install --no-deps speechmos==0.0.1.1      # optional: DNSMOS
    python benchmarks/voices.py [--sentences N] [--kokoro-path FOLDER]

With Kokoro-82M's files its speakers and a British voice are among them.

Each voice speaks the same 40 sentences in a process of its own. Printed: words that Whisper tiny.en
gets wrong, DNSMOS (overall; how clean it sounds, not how natural), median pitch, level, silence at
both ends, CPU time to make a second of audio on one thread, and memory: after the sentences, and
after 32 streams at once of hard texts (300 digits, no full stop, 300 letters), or as many as the
engine lets in.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from sentences import SENTENCES
from tts_provider.config import Settings
from tts_provider.selection import Choice, build_engine
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, Engine, Utterance, Voice
from tts_provider.speech.reading import read

KOKORO = ("am_michael", "af_heart", "bf_emma")
HARD = ("1" * 300, "word " * 400, "a" * 300, "Is this a question? " * 10)
AUDIBLE = 0.01
_DNSMOS_SAMPLES, _DNSMOS_HZ = 144_160, 16_000
# From speechmos: what the network says → the scale of the listeners.
_DNSMOS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


async def speak(engine: Engine, text: str, voice: Voice) -> np.ndarray:
    items = pipeline.speak(engine, Utterance(text, voice), read(text))
    return np.concatenate([chunk.samples async for chunk in items])


async def speak_to_nobody(engine: Engine, text: str, voice: Voice) -> None:
    async for _ in pipeline.speak(engine, Utterance(text, voice), read(text)):
        pass


def measure(
    engine_name: str, voice_id: str, count: int, kokoro: Path | None, pipe: Connection
) -> None:
    async def run() -> None:
        settings = Settings(threads=1, kokoro_path=kokoro, _env_file=None)
        engine = build_engine(Choice(engine_name, "it is measured"), settings)
        await engine.load(lambda message: None)
        voice = next(voice for voice in engine.voices() if voice.id == voice_id)
        started, spoken = time.process_time(), []
        for text in SENTENCES[:count]:
            spoken.append(await speak(engine, text, voice))
        elapsed, used = time.process_time() - started, memory_mb()
        streams = engine.own_max_streams or 32
        await asyncio.gather(
            *(speak_to_nobody(engine, HARD[n % len(HARD)], voice) for n in range(streams))
        )
        pipe.send((spoken, elapsed, used, memory_mb()))

    asyncio.run(run())


def memory_mb() -> int:
    """The most that this process had, as Linux tells: getrusage begins with the parent's."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def dnsmos(samples: np.ndarray) -> float:
    """NaN where speechmos is not installed."""
    spec = importlib.util.find_spec("speechmos")
    if spec is None or spec.origin is None:
        return float("nan")
    import onnxruntime

    model = Path(spec.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    session = onnxruntime.InferenceSession(model)
    audio = np.resize(soxr.resample(samples, SAMPLE_RATE, _DNSMOS_HZ), _DNSMOS_SAMPLES)
    (scores,) = session.run(None, {"input_1": audio[np.newaxis].astype(np.float32)})
    return float(np.polyval(_DNSMOS_OVERALL, scores[0][2]))


def judge(spoken: list[np.ndarray]) -> dict[str, float]:
    import ears

    errors = words = 0
    for text, samples in zip(SENTENCES, spoken, strict=False):
        said = ears.plain_words(text)
        errors += ears.edit_distance(said, ears.hear_words(samples))
        words += len(said)
    heard = [np.flatnonzero(np.abs(samples) > AUDIBLE) for samples in spoken]
    levels = [20 * np.log10(np.sqrt(np.mean(samples**2))) for samples in spoken]
    return {
        "words wrong %": 100 * errors / words,
        "DNSMOS": float(np.mean([dnsmos(samples) for samples in spoken])),
        "pitch Hz": float(np.median([ears.median_pitch_hz(samples) for samples in spoken])),
        "level dB": float(np.mean(levels)),
        "peak": float(max(np.abs(samples).max() for samples in spoken)),
        "before ms": float(np.mean([1000 * at[0] / SAMPLE_RATE for at in heard])),
        "behind ms": float(
            np.mean(
                [
                    1000 * (len(s) - at[-1]) / SAMPLE_RATE
                    for s, at in zip(spoken, heard, strict=True)
                ]
            )
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=len(SENTENCES), metavar="N")
    parser.add_argument("--kokoro-path", type=Path, metavar="FOLDER")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    context, rows = multiprocessing.get_context("spawn"), []
    for engine_name, voice_id in (
        *(("hibari", "male"), ("hibari", "female")),
        *(("espeak", "male"), ("espeak", "female")),
        *((("kokoro", name) for name in KOKORO) if arguments.kokoro_path else ()),
    ):
        ours, theirs = context.Pipe()
        parameters = (engine_name, voice_id, arguments.sentences, arguments.kokoro_path, theirs)
        process = context.Process(target=measure, args=parameters)
        process.start()
        spoken, elapsed, used, most = ours.recv()
        process.join()
        row = {"voice": f"{engine_name} {voice_id}", **judge(spoken)}
        row["RTF"] = elapsed * SAMPLE_RATE / sum(map(len, spoken))
        row["MB"], row["MB, 32 hard"] = used, most
        rows.append(row)
        if len(rows) == 1:
            print(" | ".join(row))
        print(
            " | ".join(
                f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()
            ),
            flush=True,
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
