"""English words that are in no dictionary, as espeak-ng says them, in Kokoro's alphabet."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

from tts_provider.engines.espeak import engine as espeak

_REMEMBERED_WORDS = 8192

# What English has no sound of its own for, as an English speaker says it.
_ENGLISH = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "e^ɪ": "A",
    "ɔ^ɪ": "Y",
    "d^ʒ": "ʤ",
    "t^ʃ": "ʧ",
    "ə^l": "ᵊl",
    "ʔˌn\u0329": "tᵊn",
    "ʔn\u0329": "tᵊn",
    "ʔn": "tᵊn",
    "ʔ": "t",
    "ɚ": "əɹ",
    "ʲ": "",
    "e": "A",
    "ʲo": "jO",
    "ʲə": "jə",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ɐ": "ə",
    "ɬ": "l",
    "\u0303": "",
}
_AMERICAN = {
    "o^ʊ": "O",
    "ɜːɹ": "ɜɹ",
    "ɜː": "ɜɹ",
    "ɪə": "iə",
    "ː": "",
    "ɾ": "T",
    "o": "ɔ",
}
_BRITISH = {"e^ə": "ɛː", "iə": "ɪə", "ə^ʊ": "Q", "o^ʊ": "Q", "o": "ɔ"}


def unknown_word_reader(*, is_british: bool = False) -> Callable[[str], str | None] | None:
    """A function that asks espeak-ng how a word is said; None if espeak-ng is not installed."""
    if not espeak.is_installed():
        return None
    code = "en-gb" if is_british else "en-us"

    @functools.lru_cache(_REMEMBERED_WORDS)
    def read(word: str) -> str | None:
        (ipa,) = espeak.to_ipa([word], code)
        return of_espeak(ipa, is_british=is_british) or None

    return read


def of_espeak(ipa: str, *, is_british: bool = False) -> str:
    """Convert espeak's IPA of an English word to the sounds of American or British voices."""
    own = _BRITISH if is_british else _AMERICAN
    sounds = replace_sounds(as_typed(ipa), {**_ENGLISH, **own})
    return re.sub("(\\S)\u0329", r"ᵊ\1", sounds).replace("^", "")


def as_typed(ipa: str) -> str:
    """With the letters that look-alikes are typed for, and espeak's tie for IPA's own."""
    return ipa.replace("g", "ɡ").replace("\u0361", "^").replace("\u035c", "^").replace("'", "ˈ")


def replace_sounds(ipa: str, sounds: Mapping[str, str]) -> str:
    """Each as it is there; of those that begin alike, the longest."""
    longest_first = sorted(sounds, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return pattern.sub(lambda match: sounds[match[0]], ipa)
