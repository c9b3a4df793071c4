"""What is written in figures, read in languages other than English: numbers, times, dates, money.

`speech.normalize` is English's and knows much more. A language that is not here keeps its figures:
espeak-ng reads them itself.
"""

from __future__ import annotations

from tts_provider.speech.languages import chinese, japanese, romance
from tts_provider.speech.languages.tables import TABLES
from tts_provider.speech.mapped_text import MappedText


def read_figures(text: MappedText, language: str) -> MappedText:
    """`text` with words for its figures, in the language of this BCP 47 tag."""
    code = language.partition("-")[0].lower()
    if code in TABLES:
        return romance.read_figures(text, TABLES[code])
    if code == "ja":
        return japanese.read_figures(text)
    if code in ("zh", "cmn"):
        return chinese.read_figures(text)
    return text
