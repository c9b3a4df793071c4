"""The sounds that Kokoro has learned, and how others write them."""

from __future__ import annotations

import re

from tts_provider.engines.hibari.unknown_words import as_typed, replace_sounds

# fmt: off
IDS = {
    ";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, "—": 9, "…": 10, '"': 11, "(": 12, ")": 13,
    "“": 14, "”": 15, " ": 16, "\u0303": 17, "ʣ": 18, "ʥ": 19, "ʦ": 20, "ʨ": 21, "ᵝ": 22, "ꭧ": 23,
    "A": 24, "I": 25, "O": 31, "Q": 33, "S": 35, "T": 36, "W": 39, "Y": 41, "ᵊ": 42, "a": 43,
    "b": 44, "c": 45, "d": 46, "e": 47, "f": 48, "h": 50, "i": 51, "j": 52, "k": 53, "l": 54,
    "m": 55, "n": 56, "o": 57, "p": 58, "q": 59, "r": 60, "s": 61, "t": 62, "u": 63, "v": 64,
    "w": 65, "x": 66, "y": 67, "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "β": 75, "ɔ": 76,
    "ɕ": 77, "ç": 78, "ɖ": 80, "ð": 81, "ʤ": 82, "ə": 83, "ɚ": 85, "ɛ": 86, "ɜ": 87, "ɟ": 90,
    "ɡ": 92, "ɥ": 99, "ɨ": 101, "ɪ": 102, "ʝ": 103, "ɯ": 110, "ɰ": 111, "ŋ": 112, "ɳ": 113,
    "ɲ": 114, "ɴ": 115, "ø": 116, "ɸ": 118, "θ": 119, "œ": 120, "ɹ": 123, "ɾ": 125, "ɻ": 126,
    "ʁ": 128, "ɽ": 129, "ʂ": 130, "ʃ": 131, "ʈ": 132, "ʧ": 133, "ʊ": 135, "ʋ": 136, "ʌ": 138,
    "ɣ": 139, "ɤ": 140, "χ": 142, "ʎ": 143, "ʒ": 147, "ʔ": 148, "ˈ": 156, "ˌ": 157, "ː": 158,
    "ʰ": 162, "ʲ": 164, "↓": 169, "→": 171, "↗": 172, "↘": 173, "ᵻ": 177,
}
# fmt: on
"""Of Kokoro-82M v1.0's config.json. 0 is the silence at both ends."""

MOST_PHONEMES = 400
"""In one run. The model takes 510, and speaks more of them hurriedly."""

# One letter for two sounds, as the model was trained with; `^` is espeak's tie.
_FOREIGN = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "e^ɪ": "A",
    "o^ʊ": "O",
    "ə^ʊ": "Q",
    "ɔ^ɪ": "Y",
    "d^z": "ʣ",
    "d^ʒ": "ʤ",
    "t^s": "ʦ",
    "t^ʃ": "ʧ",
    "s^s": "S",
    "r.": "ɽ",
}
_TIED = {"tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ"}
_BRITISH_WRITTEN = {
    "eɪ": "A",
    "aɪ": "I",
    "ɔɪ": "Y",
    "aʊ": "W",
    "əʊ": "Q",
    "oʊ": "Q",
    "eə": "ɛː",
    "e": "ɛ",
    "æ": "a",
    "r": "ɹ",
    "ɝ": "ɜː",
    "ɚ": "ə",
    "ɐ": "ə",
    "iə": "ɪə",
}
_VOWELS = "aeiouyɑɐɒæɔəɚɛɜɨɪɯøœʊʌɤᵊᵻAIOQWY"
_STRESS = re.compile(rf"([ˈˌ])([^{_VOWELS}ˈˌ ]*)")


def encode(phonemes: str) -> list[int]:
    """Their ids, with the silence at both ends."""
    return [0, *(IDS[phoneme] for phoneme in phonemes), 0]


def of_foreign(ipa: str) -> str:
    """IPA of espeak's or a dictionary's, in a language that is not English, in Kokoro's sounds."""
    return _known(replace_sounds(as_typed(ipa), _FOREIGN))


def of_dictionary(ipa: str, *, is_british: bool = False) -> str:
    """IPA as dictionaries write it, without ties and with the stress before the syllable; nothing
    where no vowel is in it."""
    pairs = {**_TIED, **(_BRITISH_WRITTEN if is_british else {})}
    sounds = _known(replace_sounds(as_typed(ipa).replace("^", ""), pairs))
    return _STRESS.sub(r"\2\1", sounds) if {*sounds} & {*_VOWELS} else ""


def of_hibari(phonemes: str) -> str:
    """What hibari's phonemizer wrote: its alphabet is Kokoro's, but for two letters."""
    return phonemes.replace("ɾ", "T").replace("ʔ", "t")


def _known(sounds: str) -> str:
    return "".join(filter(IDS.__contains__, sounds))
