"""Names and rare words that no dictionary has: by hibari's own network, and by espeak-ng.

    python benchmarks/unknown_words.py [--whisper FOLDER] [--words N]

Each is said in a sentence by hibari's man and woman, both ways, and heard by a recognizer: Whisper
tiny.en, or the model for faster-whisper in FOLDER. Printed: letters that it writes otherwise than
the word, words without a wrong one, and of words of the dictionary that are read as if it had them
not, the sounds that differ from the dictionary's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import soxr
from faster_whisper import WhisperModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import ears
from tts_provider.engines.hibari import package
from tts_provider.engines.hibari.engine import HibariEngine
from tts_provider.engines.hibari.package import read_model
from tts_provider.engines.hibari.unknown_words import unknown_word_reader
from tts_provider.speech.engine import SAMPLE_RATE, Utterance

WORDS = Path(__file__).with_suffix(".txt").read_text("utf-8").split()
_SENTENCE = "We talked about {} yesterday."
_BETWEEN = re.compile(r".*\babout\b(.*?)(?:,? *\byesterday\b.*|$)", re.DOTALL | re.IGNORECASE)


def letters_of(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.lower())
    return "".join(letter for letter in plain if letter.isascii() and letter.isalpha())


def compare_with_dictionary(readers) -> None:
    gold = json.loads(package._read("lexicon_us_gold.json.gz"))
    words = [word for word in gold if word.isalpha() and len(word) > 4]
    kinds = {
        "names": [word for word in words if word[0].isupper() and word[1:].islower()],
        "words": [word for word in words if word.islower()],
    }
    for kind, known in kinds.items():
        chosen = random.Random(5).sample(known, 3000)
        for name, reader in readers.items():
            wrong = count = right = 0
            for word in chosen:
                said = gold[word] if isinstance(gold[word], str) else gold[word]["DEFAULT"]
                said, read = (_plain_sounds(each or "") for each in (said, reader(word)))
                errors = ears.edit_distance(list(said), list(read))
                wrong, count, right = wrong + errors, count + len(said), right + (not errors)
            print(
                f"3000 {kind} of the dictionary, {name}: {100 * wrong / count:.1f} % of the sounds "
                f"wrong, {100 * right / len(chosen):.1f} % of the words right",
                flush=True,
            )


def _plain_sounds(phonemes: str) -> str:
    return phonemes.replace("ɾ", "T").replace("ʔ", "t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whisper", type=Path, metavar="FOLDER")
    parser.add_argument("--words", type=int, default=300, metavar="N")
    arguments = parser.parse_args()
    model = str(arguments.whisper) if arguments.whisper else None
    whisper = WhisperModel(model, device="cpu", cpu_threads=1) if model else ears._whisper()
    network = package._unknown_words(False)
    by_espeak = unknown_word_reader(is_british=False)
    assert by_espeak is not None, "espeak-ng is not installed"
    readers = {"hibari's network": network, "espeak-ng": by_espeak}
    asked = list[str]()
    reader = package.Phonemizer(read_unknown=lambda word: asked.append(word))
    unknown = []
    for word in dict.fromkeys(WORDS):
        asked.clear()
        reader.pronounce(_SENTENCE.format(word))
        if asked == [word]:
            unknown.append(word)
    unknown = unknown[: arguments.words]
    print(f"{len(unknown)} words that no dictionary has")
    compare_with_dictionary(readers)

    async def run() -> None:
        engine = HibariEngine(read_model(), 1)
        await engine.load(lambda line: None)
        rows = {}
        for speaker in engine.voices():
            for name, read_unknown in readers.items():
                engine._phonemizer = package.Phonemizer(read_unknown=read_unknown)
                wrong, begun = [], time.process_time()
                for word in unknown:
                    text = _SENTENCE.format(word)
                    spoken = [s.samples async for s in engine.speak(Utterance(text, speaker))]
                    audio = soxr.resample(np.concatenate(spoken), SAMPLE_RATE, 16_000)
                    segments, _ = whisper.transcribe(
                        np.pad(audio, (4800, 8000)), language="en", beam_size=5, temperature=0.0
                    )
                    heard = " ".join(segment.text for segment in segments)
                    between = _BETWEEN.match(heard)
                    said, got = letters_of(word), letters_of(between[1] if between else heard)
                    wrong.append(min(len(said), ears.edit_distance(list(said), list(got))))
                rows[speaker.id, name] = np.array(wrong)
                count = sum(len(letters_of(word)) for word in unknown)
                print(
                    f"{speaker.id}, {name}: {100 * sum(wrong) / count:.1f} % of the letters wrong, "
                    f"{100 * np.mean(rows[speaker.id, name] == 0):.1f} % of the words right "
                    f"({time.process_time() - begun:.0f} CPU s)",
                    flush=True,
                )
            ours, theirs = (rows[speaker.id, name] for name in readers)
            print(
                f"  espeak-ng is nearer in {np.sum(theirs < ours)}, further in "
                f"{np.sum(theirs > ours)}, alike in {np.sum(theirs == ours)}",
                flush=True,
            )
        await engine.close()

    asyncio.run(run())


if __name__ == "__main__":
    main()
