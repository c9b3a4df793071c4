"""How often written English is read as NeMo-text-processing's own test cases read it.

    git clone --depth 1 https://github.com/NVIDIA/NeMo-text-processing
    python benchmarks/reading.py \\
        NeMo-text-processing/tests/nemo_text_processing/en/data_text_normalization

The folder has files `test_cases_KIND.txt` of lines `written~spoken`. The comparison is loose:
without case, punctuation, spaces ("P M" is "PM") and "and". `--show` prints where they differ.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tts_provider.speech.reading import ReadingOptions, read

# Several spoken forms for each written one, with weights of an acoustic model: not comparable.
_OTHER_SHAPES = ("normalize_with_audio",)
# NeMo keeps tags for what speaks, as we do for an engine that acts them.
_AS_NEMO = ReadingOptions(acts=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print where they differ")
    options = parser.parse_args()
    agreed = total = 0
    for path in sorted(options.folder.glob("test_cases_*.txt")):
        kind = path.stem.removeprefix("test_cases_")
        if kind in _OTHER_SHAPES:
            continue
        cases = [line.split("~", 1) for line in path.read_text("utf-8").splitlines() if "~" in line]
        differing = [(written, spoken) for written, spoken in cases if not agree(written, spoken)]
        agreed, total = agreed + len(cases) - len(differing), total + len(cases)
        print(f"{kind:25} {percent(len(cases) - len(differing), len(cases))}  of {len(cases)}")
        for written, spoken in differing if options.show else ():
            print(f"    {written!r}\n        they: {spoken}\n        we:   {words_of(written)}")
    print(f"{'all':25} {percent(agreed, total)}  of {total}")


def agree(written: str, spoken: str) -> bool:
    return loosely(words_of(written)) == loosely(spoken)


def words_of(written: str) -> str:
    return " ".join(passage.words for passage in read(written, _AS_NEMO))


def loosely(words: str) -> str:
    plain = re.sub(r"[^\w]|_", " ", words.replace("'", "").replace("’", "").lower())
    return "".join(word for word in plain.split() if word != "and")


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:3.0f} %" if whole else "  – %"


if __name__ == "__main__":
    main()
