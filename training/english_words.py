"""Makes `src/tts_provider/speech/normalize/english/`: which words in capitals are words.

    apt-get install wamerican-small wamerican
    python training/english_words.py

* `words.txt`: English words from SCOWL's list of 50 000 (Debian's wamerican-small 2020.12), and
  names of four letters at least from its list of 100 000 (wamerican). Its notice is in
  `words.LICENSE`, as its license asks.
* `acronyms.txt`: what is written in capitals and said as a word, NASA: the words in capitals of the
  pronouncing dictionary in hibari-tts (misaki's, Apache-2.0) whose sounds are not their letters'.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from pathlib import Path

OUT = Path(__file__).parents[1] / "src/tts_provider/speech/normalize/english"
SCOWL = Path("/usr/share/dict/american-english-small")
NAMES = Path("/usr/share/dict/american-english")
NOTICE = Path("/usr/share/doc/wamerican-small/copyright")
_STRESSES = str.maketrans("", "", "ˈˌ")
_NUMERAL = re.compile("(?=[ivxl])(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
# Said as letters, or no acronyms.
_OTHERS = (
    "SQL",
    "NVIDIA",
    "COM",
    "CAL",
    "SAM",
    "UNO",
    "OLE",
    "SAR",
    "UCCA",
    "ROFL",
    "DAX",
    "BBQ",
    "NAACP",
)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    words = {word for word in SCOWL.read_text("utf-8").split() if is_word(word)}
    names = NAMES.read_text("utf-8").split()
    words |= {name for name in names if re.fullmatch("[A-Z][a-z]{3,}", name)}
    (OUT / "words.txt").write_text("\n".join(sorted(words)) + "\n", "utf-8")
    (OUT / "words.LICENSE").write_text(NOTICE.read_text("utf-8"), "utf-8")
    plain = {word.upper() for word in words}
    acronyms = sorted(acronym for acronym in find_acronyms() if acronym not in plain)
    (OUT / "acronyms.txt").write_text("\n".join(acronyms) + "\n", "utf-8")


def is_word(word: str) -> bool:
    """No possessives: they are a word and `'s`; nothing that is in capitals anyway."""
    if _NUMERAL.fullmatch(word):
        return False
    return bool(re.fullmatch(r"[A-Za-z]?[a-z]+(?:'(?:t|ll|re|ve|d|m))?", word))


def find_acronyms() -> list[str]:
    spec = importlib.util.find_spec("hibari")
    assert spec is not None, "pip install hibari-tts"
    assert spec.origin is not None
    path = Path(spec.origin).parent / "assets" / "lexicon_us_gold.json.gz"
    sounds = json.loads(gzip.decompress(path.read_bytes()))
    return [
        word
        for word, said in sounds.items()
        if re.fullmatch("[A-Z]{3,}", word)
        and isinstance(said, str)
        and word not in _OTHERS
        # MILF and forty like it are somebody's joke, and a test of medicine's in each state.
        and not re.fullmatch("[A-Z](?:ILF|AFTA|SAT|CAT|MAT)", word)
        and said.translate(_STRESSES)
        != "".join(sounds[letter] for letter in word).translate(_STRESSES)
    ] + ["NAFTA", "GMAT", "LSAT", "MCAT", "PSAT"]


if __name__ == "__main__":
    main()
