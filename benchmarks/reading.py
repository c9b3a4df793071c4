"""How written English is read: as NeMo-text-processing reads its test cases, over many texts, and
as somebody who listens hears it.

    git clone --depth 1 https://github.com/NVIDIA/NeMo-text-processing
    python benchmarks/reading.py \\
        NeMo-text-processing/tests/nemo_text_processing/en/data_text_normalization
    apt-get install fortunes
    python benchmarks/reading.py --texts /usr/share/games/fortunes
    python benchmarks/reading.py --listen 200

NeMo's folder has files `test_cases_KIND.txt` of lines `written~spoken`. The comparison is loose:
without case, punctuation, spaces ("P M" is "PM") and "and"; tags are kept, as for an engine that
acts them. `--show` prints where they differ.

`--texts` reads all texts of a folder of fortunes, and prints which words are said letter by letter,
and what is left that is neither a letter nor a mark.

`--listen` speaks so many sentences by the embedded voice, which Whisper tiny.en writes down, and
prints how many words are wrong. Both sides are read alike, and their numbers are compared as
digits: the recognizer writes 1700 where "seventeen hundred" was said.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from tts_provider.speech.normalize.capitals import find_spelled
from tts_provider.speech.reading import ReadingOptions, read

# Several spoken forms for each written one, with weights of an acoustic model: not comparable.
_OTHER_SHAPES = ("normalize_with_audio",)
# NeMo keeps tags for what speaks, as we do for an engine that acts them.
_AS_NEMO = ReadingOptions(acts=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    parser.add_argument("folder", type=Path, nargs="?", help="NeMo's test cases")
    parser.add_argument("--show", action="store_true", help="print where they differ")
    parser.add_argument("--texts", type=Path, metavar="FOLDER", help="of fortunes, to read")
    parser.add_argument("--listen", type=int, metavar="N", help="speak N sentences and listen")
    options = parser.parse_args()
    if options.folder:
        compare(options.folder, show=options.show)
    if options.texts:
        survey(options.texts)
    if options.listen:
        asyncio.run(listen(options.listen, show=options.show))


# --- NeMo's cases --------------------------------------------------------------------------------


def compare(folder: Path, *, show: bool) -> None:
    agreed = total = 0
    for path in sorted(folder.glob("test_cases_*.txt")):
        kind = path.stem.removeprefix("test_cases_")
        if kind in _OTHER_SHAPES:
            continue
        cases = [line.split("~", 1) for line in path.read_text("utf-8").splitlines() if "~" in line]
        differing = [(written, spoken) for written, spoken in cases if not agree(written, spoken)]
        agreed, total = agreed + len(cases) - len(differing), total + len(cases)
        print(f"{kind:25} {percent(len(cases) - len(differing), len(cases))}  of {len(cases)}")
        for written, spoken in differing if show else ():
            print(f"    {written!r}\n        they: {spoken}\n        we:   {words_of(written)}")
    print(f"{'all':25} {percent(agreed, total)}  of {total}: {agreed}")


def agree(written: str, spoken: str) -> bool:
    return loosely(words_of(written)) == loosely(spoken)


def words_of(written: str) -> str:
    return " ".join(passage.spoken for passage in read(written, _AS_NEMO))


def loosely(words: str) -> str:
    plain = re.sub(r"[^\w]|_", " ", words.replace("'", "").replace("’", "").lower())
    return "".join(word for word in plain.split() if word != "and")


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:3.0f} %" if whole else "  – %"


# --- Many texts ----------------------------------------------------------------------------------


def survey(folder: Path) -> None:
    spelled, left, count = Counter[str](), Counter[str](), 0
    for path in sorted(folder.glob("*.u8")):
        for text in path.read_text("utf-8", "replace").split("\n%\n"):
            count += 1
            for passage in read(text):
                places = find_spelled(passage.spoken)
                spelled.update(passage.spoken[start:end] for start, end in places)
                left.update(re.findall(r"[^\w\s.,;:!?'\"-]|[0-9_]", passage.spoken))
    print(f"{count} texts; neither letters nor marks: {sum(left.values())} {dict(left) or ''}")
    print(f"{len(spelled)} words are said letter by letter, {sum(spelled.values())} times:")
    print(", ".join(f"{word} {times}" for word, times in spelled.most_common()))


# --- A listener ----------------------------------------------------------------------------------

_SENTENCES = Path(__file__).with_name("pasted.txt")


def sentences(count: int) -> Iterator[str]:
    """These, and with other numbers in the place of theirs."""
    lines = _SENTENCES.read_text("utf-8").splitlines()
    for number in range(count):
        sentence, turn = lines[number % len(lines)].replace("\\n", "\n"), number // len(lines)
        yield re.sub(
            r"(?<![\w:/.-])([1-9])(?=(?:[0-9]| of| cup| ft| lbs|° ?C|h ))",
            lambda match, turn=turn: str((int(match[1]) + turn - 1) % 9 + 1),
            sentence,
        )


async def listen(count: int, *, show: bool) -> None:
    import numpy as np

    import ears
    from tts_provider.engines.espeak.engine import EspeakEngine
    from tts_provider.engines.hibari.engine import HibariEngine
    from tts_provider.engines.hibari.package import read_model
    from tts_provider.speech import pipeline
    from tts_provider.speech.engine import Manner, Utterance
    from tts_provider.speech.pipeline import AudioChunk

    engine = HibariEngine(read_model(), threads=2, foreign=EspeakEngine())
    await engine.load(lambda _: None)
    wrong = total = 0
    for number, sentence in enumerate(sentences(count)):
        voice = engine.voices()[number % 2]
        items = pipeline.speak(engine, Utterance(sentence, voice, Manner(seed=1)), read(sentence))
        pieces = [item.samples async for item in items if isinstance(item, AudioChunk)]
        said = comparable(ears.plain_words(" ".join(p.spoken for p in read(sentence))))
        heard = comparable(ears.hear_words(np.concatenate(pieces)))
        errors = ears.edit_distance(said, heard)
        wrong, total = wrong + errors, total + len(said)
        if errors and show:
            print(f"{sentence!r}\n    said  {' '.join(said)}\n    heard {' '.join(heard)}")
        if (number + 1) % 20 == 0:
            print(f"{number + 1}: {wrong} of {total} words wrong", file=sys.stderr, flush=True)
    await engine.close()
    print(f"{count} sentences, {total} words: {100 * wrong / total:.1f} % wrong ({wrong})")


_UNITS = {
    word: value
    for value, word in enumerate(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen
        """.split()  # noqa: SIM905
    )
} | {"oh": 0, "o": 0}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(),  # noqa: SIM905
        2,
    )
}


def comparable(words: list[str]) -> list[str]:
    """Numbers as digits, however they are grouped, and letters together: "seventeen hundred" and
    "one thousand seven hundred" are both 1700, "p m" is "pm"."""
    out, letters = list[str](), ""
    number = Number()
    for word in [*words, ""]:
        if number.take(word):
            continue
        out += number.end()
        if len(word) == 1 and (letters or word not in "ai"):
            letters += word
            continue
        out += [letters] if letters else []
        out += [word] if word else []
        letters = ""
    return out


class Number:
    """The words of a number that are said one after the other."""

    def __init__(self) -> None:
        self._begin("")

    def _begin(self, digits: str) -> None:
        self._digits = digits
        self._value: int | None = None
        self._thousands = self._size = 0  # what it may still take is below the size

    def take(self, word: str) -> bool:
        """Whether the word is one of a number's."""
        value = _UNITS.get(word, _TENS.get(word))
        if value is not None and not (word in ("oh", "o") and self._is_empty):
            if self._value is not None and value >= self._size:
                self._begin(self._digits + str(self._thousands + self._value))
            self._value = (self._value or 0) + value
            self._size = 10 if word in _TENS else 0
        elif word == "hundred" and self._value:
            self._value, self._size = self._value * 100, 100
        elif word == "thousand" and self._value:
            self._thousands, self._value, self._size = self._value * 1000, 0, 1000
        else:
            return False
        return True

    @property
    def _is_empty(self) -> bool:
        return self._value is None and not self._digits

    def end(self) -> list[str]:
        if self._value is None:
            return []
        digits = self._digits + str(self._thousands + self._value)
        self._begin("")
        return [digits]


if __name__ == "__main__":
    main()
