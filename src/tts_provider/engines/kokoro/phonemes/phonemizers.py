"""The phonemizer of each language, made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from tts_provider.engines.kokoro.phonemes.foreign import CODES
from tts_provider.engines.pronunciation import Pronunciation
from tts_provider.errors import InvalidRequest, StartupError
from tts_provider.speech.engine import Phonemes


class Phonemizer(Protocol):
    def pronounce(self, text: str, asked: Sequence[Phonemes] = ()) -> Pronunciation: ...


class Phonemizers:
    """Call it from any thread."""

    def __init__(self) -> None:
        self._made: dict[str, Phonemizer] = {}
        self._lock = threading.Lock()

    def pronounce(self, language: str, text: str, asked: Sequence[Phonemes]) -> Pronunciation:
        """Raises `InvalidRequest` where the language needs what is not installed."""
        with self._lock:
            if language not in self._made:
                try:
                    self._made[language] = _maker_of(language)()
                except StartupError as error:
                    raise InvalidRequest(
                        str(error), code="language_not_installed", param="voice"
                    ) from None
            phonemizer = self._made[language]
        return phonemizer.pronounce(text, asked)


def _maker_of(language: str) -> Callable[[], Phonemizer]:
    if language in CODES:
        from tts_provider.engines.kokoro.phonemes.foreign import Foreign

        return lambda: Foreign(language)
    if language == "ja":
        from tts_provider.engines.kokoro.phonemes.japanese import Japanese

        return Japanese
    if language == "zh":
        from tts_provider.engines.kokoro.phonemes.chinese import Chinese

        return Chinese
    from tts_provider.engines.kokoro.phonemes.english import English

    return lambda: English(is_british=language == "en-GB")
