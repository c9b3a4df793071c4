"""English → Kokoro's sounds, by hibari's phonemizer: their alphabets are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tts_provider.engines.hibari.ipa import from_ipa
from tts_provider.engines.hibari.package import Phonemizer
from tts_provider.engines.hibari.unknown_words import unknown_word_reader
from tts_provider.engines.kokoro.phonemes.alphabet import of_dictionary, of_hibari
from tts_provider.engines.pronunciation import Pronunciation
from tts_provider.speech.engine import Phonemes


class English:
    """Call it from any thread."""

    def __init__(self, *, is_british: bool) -> None:
        """Takes half a second."""
        self._phonemizer = Phonemizer(
            is_british=is_british,
            read_unknown=unknown_word_reader(is_british=is_british),
            of_ipa=_british if is_british else from_ipa,
        )

    def pronounce(self, text: str, asked: Sequence[Phonemes] = ()) -> Pronunciation:
        said = self._phonemizer.pronounce(text, asked)
        return replace(said, phonemes=of_hibari(said.phonemes))


def _british(ipa: str) -> str | None:
    """What a dictionary asks for, as a British voice says it."""
    return " ".join(of_dictionary(word, is_british=True) for word in ipa.split()) or None
