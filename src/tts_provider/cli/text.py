"""The text that a command is given (its argument, standard input, a file of subtitles), and how it
will be spoken: `tts-provider words`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tts_provider.errors import InvalidRequest, StartupError
from tts_provider.jobs.read.encoding import decode_text
from tts_provider.server.logs import printable
from tts_provider.speech.lexicon import Lexicon, load_lexicon
from tts_provider.speech.reading import Passage, ReadingOptions, read
from tts_provider.speech.structure.subtitles import read_subtitles, subtitle_format

_SUBTITLES = (".srt", ".vtt")
_NAMES = {"srt": "SubRip", "vtt": "WebVTT"}


def read_text(argument: str) -> str:
    """The argument itself; for `-` what stands on standard input, and for a file of subtitles what
    is spoken in it. Says on standard error what it took something for, or that it is a file's name.

    Raises `StartupError` where a file cannot be read.
    """
    if argument == "-":
        name, text = "standard input", _standard_input()
    elif argument.lower().endswith(_SUBTITLES) and "\n" not in argument:
        name, text = argument, _file(argument)
    else:
        if _is_file(argument):
            _say(f"{argument} is a file; what is in it is read so: - < {argument}")
        return argument
    kind = subtitle_format(text)
    if kind is None:
        return text
    _say(f"{name} has {_NAMES[kind]} subtitles; only their text is read")
    return read_subtitles(text)


def read_file(name: str) -> str:
    """The text of that file, or of standard input where it is `-`. Raises `StartupError`."""
    return _standard_input() if name == "-" else _file(name)


def decode(data: bytes, name: str) -> str:
    """Text in UTF-8; in another encoding where it is none, which is said.

    Raises `StartupError` where it is no text.
    """
    try:
        text, encoding = decode_text(data, name)
    except InvalidRequest as problem:
        raise StartupError(problem.message) from None
    if encoding != "utf-8":
        _say(f"{name} is not UTF-8; it is read as {encoding}")
    return text


def _standard_input() -> str:
    binary = getattr(sys.stdin, "buffer", None)
    return decode(binary.read(), "standard input") if binary is not None else sys.stdin.read()


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):  # too long for a name, or a NUL
        return False


def _file(name: str) -> str:
    try:
        return decode(Path(name).read_bytes(), name)
    except OSError as error:
        raise StartupError(f"cannot read {name}: {error.strerror}") from None


def _say(sentence: str) -> None:
    print(f"tts-provider: {sentence}", file=sys.stderr)


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
    return f"[pause {passage.pause_s:g}s]" if passage.pause_s else printable(passage.spoken)
