"""A book, made by `tts-provider book` alone: how fast, how much memory, and whether it is right.

    python benchmarks/books.py FILE            make it, in a folder that goes afterwards
    python benchmarks/books.py FILE --made OUT.m4b    look at one that was made

Chapters must begin within 50 ms of their first word; at ten places a recognizer listens to twenty
seconds, of which the words that are in the book's text in that order are counted.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from difflib import SequenceMatcher
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import ears
from tts_provider.jobs.book import Book
from tts_provider.jobs.read.read import format_of, read_book

PLACES, LISTENED_S, AROUND_S = 10, 20, 40
LOUD = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--made", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = arguments.made
        if made is None:
            made = Path(folder) / "book.m4b"
            make(arguments.file, made)
        with arguments.file.open("rb") as file:
            book = read_book(file, format_of(arguments.file.name), arguments.file.name)
        check(book, made)


def make(file: Path, made: Path) -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "tts_provider", "book", str(file), "-o", str(made), "--json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took_s = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = json.loads(told.splitlines()[-1])
    cpu_s = used.ru_utime + used.ru_stime
    print(f"{done['audio_s'] / 3600:.2f} h of speech in {took_s:.0f} s, {cpu_s:.0f} s of CPU time")
    print(f"{done['audio_s'] / cpu_s:.0f} times real time a core; {used.ru_maxrss / 1024:.0f} MiB")


def check(book: Book, made: Path) -> None:
    with av.open(str(made)) as container:
        chapters = [
            (chapter["metadata"]["title"], float(chapter["start"] * chapter["time_base"]))
            for chapter in container.chapters()
        ]
        length_s = float(container.duration / av.time_base)
    assert [title for title, _ in chapters] == [chapter.title for chapter in book.chapters]
    late_ms = [abs(first_sound_s(made, at) - at) * 1000 for _, at in chapters]
    print(f"{len(chapters)} chapters, {max(late_ms):.0f} ms from their first word at most")
    texts = [" ".join(block.text for block in chapter.blocks) for chapter in book.chapters]
    written = [ears.plain_words(text) for text in texts]
    chance, shares = random.Random(36), []
    for _ in range(PLACES):
        at = chance.uniform(0, length_s - LISTENED_S)
        number = max(n for n, (_, start) in enumerate(chapters) if start <= at)
        heard = ears.hear_words(sound(made, at, LISTENED_S))
        said = [word for words in written[number : number + 2] for word in words]
        blocks = SequenceMatcher(None, heard, said, autojunk=False).get_matching_blocks()
        shares.append(sum(block.size for block in blocks) / max(len(heard), 1))
        print(
            f"  {at / 60:6.1f} min, {chapters[number][0]}: {shares[-1]:.0%} of {len(heard)} words"
        )
    print(f"{np.mean(shares):.1%} of the words that are heard are the text's")


def first_sound_s(made: Path, at: float) -> float:
    start = max(at - 0.2, 0.0)
    loud = np.flatnonzero(np.abs(sound(made, start, 2.0)) > LOUD)
    later = [one for one in loud if start + one / 24_000 >= at - 0.05]
    return start + later[0] / 24_000


def sound(made: Path, start_s: float, length_s: float) -> np.ndarray:
    """(n,) at 24 kHz, from exactly there on."""
    pieces, begin = [], None
    with av.open(str(made)) as container:
        container.seek(int(max(start_s - 0.2, 0) * av.time_base))
        for frame in container.decode(audio=0):
            if begin is None:
                begin = frame.time
            pieces.append(frame.to_ndarray()[0])
            if frame.time > start_s + length_s:
                break
    samples = np.concatenate(pieces)
    skip = round((start_s - begin) * 24_000)
    return samples[max(skip, 0) : skip + round(length_s * 24_000)]


if __name__ == "__main__":
    main()
