"""The languages of espeak-ng's data, and their tags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# BCP 47 tags of languages that espeak names otherwise.
_TAGS = {
    "ca-ba": "ca-x-balear",
    "ca-nw": "ca-x-nw",
    "ca-va": "ca-valencia",
    "chr-us-qaaa-x-west": "chr-x-west",
    "en-shaw": "en-Shaw",
    "en-us-nyc": "en-US-x-nyc",
    "piqd": "tlh",
    "py": "mis-x-pyash",
    "qdb": "mis-x-belter",
    "ru-cl": "ru-x-cl",
}


@dataclass(frozen=True)
class Language:
    code: str
    """As espeak calls it, in small letters: `en-us`, `cmn`."""
    name: str
    file: Path

    @property
    def tag(self) -> str:
        """Of BCP 47, its parts in the usual case (RFC 5646, section 2.1.1)."""
        if self.code in _TAGS:
            return _TAGS[self.code]
        first, *rest = self.code.split("-")
        private = rest.index("x") if "x" in rest else len(rest)
        cased = [_cased(part) for part in rest[:private]]
        return "-".join([first, *cased, *rest[private:]])


def _cased(part: str) -> str:
    if len(part) == 2:
        return part.upper()
    return part.title() if len(part) == 4 and part.isalpha() else part


def find_languages(data: Path) -> dict[str, Language]:
    """The languages that have a dictionary, by code, in the order of their names. Raises
    `OSError`."""
    found = {}
    for file in (path for path in (data / "lang").rglob("*") if path.is_file()):
        # Comments in some of the files are not UTF-8.
        facts = [line.split() for line in file.read_text("utf-8", "replace").splitlines()]
        names = [" ".join(words[1:]) for words in facts if words[:1] == ["name"]]
        codes = [words[1].lower() for words in facts if words[:1] == ["language"]]
        dictionaries = [words[1] for words in facts if words[:1] == ["dictionary"]]
        if not names or not codes:
            continue
        dictionary = dictionaries[0] if dictionaries else codes[0].split("-")[0]
        if (data / f"{dictionary}_dict").exists():
            found[codes[0]] = Language(codes[0], names[0], file)
    return dict(sorted(found.items(), key=lambda item: item[1].name))
