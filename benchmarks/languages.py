"""Whether sentences are told to be in the language that they are in.

    python benchmarks/languages.py en=/usr/share/games/fortunes/fortunes it=FOLDER

Each argument is a language and a file, or a folder of files, that are written in it, in UTF-8 or
Latin-1. A row says how many of its sentences surely are in that language, and how many surely in
another, so that a voice of the other would read them. Debian has such files: `fortunes`,
`fortunes-it`, `fortunes-es`, ….
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from pathlib import Path

from tts_provider.speech.languages.identify import identify, load

_SENTENCE_END = re.compile(r"\n%\n|\n\n|(?<=[.!?])\s+")


def main() -> None:
    load()
    for argument in sys.argv[1:]:
        language, _, place = argument.partition("=")
        paths = [Path(place)] if Path(place).is_file() else [*Path(place).rglob("*")]
        texts = [_text(path) for path in paths if path.is_file()]
        sentences = [one for text in texts for one in _SENTENCE_END.split(text) if one.strip()]
        begun = time.process_time()
        guesses = [identify(" ".join(sentence.split())) for sentence in sentences]
        each_us = (time.process_time() - begun) / len(sentences) * 1e6
        sure = Counter(guess.language for guess in guesses if guess and guess.is_sure)
        right = sure.pop(language, 0)
        wrong = ", ".join(f"{other} {count}" for other, count in sure.most_common())
        print(
            f"{language}: {len(sentences)} sentences, surely in it {right / len(sentences):.1%}, "
            f"surely in another {sure.total() / len(sentences):.2%} ({wrong}); "
            f"{each_us:.0f} µs each"
        )


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


if __name__ == "__main__":
    main()
