"""`tts-provider words`: a text as it will be spoken, one segment a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tts_provider.server.logs import printable
from tts_provider.speech.lexicon import Lexicon, load_lexicon
from tts_provider.speech.reading import Passage, ReadingOptions, read


def print_words(
    text: str,
    *,
    each_line: bool = False,
    language: str = "en",
    ssml: bool = False,
    read_aloud: Iterable[str] = (),
    lexicon: Path | None = None,
    voice: str = "",
) -> None:
    """Print what is said. Raises `InvalidRequest` for wrong SSML, `StartupError` for a lexicon."""
    options = ReadingOptions(
        language=language,
        ssml=ssml,
        aloud=frozenset(read_aloud),
        lexicon=load_lexicon(Path(lexicon)).for_voice(voice) if lexicon else Lexicon(),
    )
    if each_line:
        for line in text.splitlines():
            print(" ".join(map(_said, read(line, options))))
    else:
        for passage in read(text, options):
            print(_said(passage))


def _said(passage: Passage) -> str:
    return f"[pause {passage.pause_s:g}s]" if passage.pause_s else printable(passage.words)
