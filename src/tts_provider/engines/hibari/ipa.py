"""Converts IPA, as dictionaries write it, to the phonemes that the embedded voice has learned.

They are those of American English: one character for a diphthong, and the stress before the vowel.
"""

from __future__ import annotations

import re

_VOWELS = "iuæɑɔəɛɜɪʊʌᵊᵻAIOWY"
_LEARNED = frozenset(f"{_VOWELS}bdfhjklmnpstvwzðŋɡɹɾʃʒʔʤʧθˈˌ ")
# fmt: off
_SOUNDS = {
    "tʃ": "ʧ", "dʒ": "ʤ", "eɪ": "A", "aɪ": "I", "ɔɪ": "Y", "aʊ": "W", "oʊ": "O", "əʊ": "O",
    # British ones, as an American says them.
    "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "eəɹ": "ɛɹ", "eə": "ɛɹ", "ʊəɹ": "ʊɹ", "ʊə": "ʊɹ",
    "ɝ": "ɜɹ", "ɚ": "əɹ", "ɒ": "ɑ", "e": "ɛ", "a": "æ", "o": "O", "ɐ": "ə", "ɨ": "ᵻ", "ʉ": "u",
    "ɻ": "ɹ", "ɫ": "l", "ʍ": "w", "ɱ": "m", "n\u0329": "ᵊn", "l\u0329": "ᵊl", "m\u0329": "ᵊm",
    "ː": "", "A": "?", "I": "?", "O": "?", "W": "?", "Y": "?",  # capitals are no IPA
}
# fmt: on
_SOUND = re.compile("|".join(sorted(_SOUNDS, key=len, reverse=True)))
# r, g, : and ' are typed for their look-alikes; ties, syllables and breath say nothing more.
_TYPED = str.maketrans("rg:'", "ɹɡːˈ", "\u0361\u035c\u032f.‿ʰˑ")
_STRESS = re.compile(rf"([ˈˌ]+)([^{_VOWELS}ˈˌ ]*)")


def from_ipa(ipa: str) -> str | None:
    """The voice's phonemes, with a space between words; None if there is nothing to say, or a sound
    that the voice has not learned."""
    sounds = _SOUND.sub(lambda match: _SOUNDS[match[0]], ipa.translate(_TYPED))
    words = [_stressed(word) for word in sounds.split()]
    if not {*sounds} & {*_VOWELS} or not _LEARNED.issuperset("".join(words)):
        return None
    return " ".join(words)


def _stressed(word: str) -> str:
    """With its stress before the vowel; a word of one vowel has it, written or not."""
    vowels = [at for at, sound in enumerate(word) if sound in _VOWELS]
    if len(vowels) == 1 and not {"ˈ", "ˌ"} & {*word}:
        return f"{word[: vowels[0]]}ˈ{word[vowels[0] :]}"
    return _STRESS.sub(lambda match: match[2] + match[1][0], word)
