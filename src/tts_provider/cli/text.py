"""The text that a command is given (its argument, standard input, a file of subtitles), and how it
will be spoken: `tts-provider words`."""

from __future__ import annotations

import codecs
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from tts_provider.errors import StartupError
from tts_provider.server.logs import printable
from tts_provider.speech.lexicon import Lexicon, load_lexicon
from tts_provider.speech.reading import Passage, ReadingOptions, read
from tts_provider.speech.structure.subtitles import read_subtitles, subtitle_format

_SUBTITLES = (".srt", ".vtt")
_NAMES = {"srt": "SubRip", "vtt": "WebVTT"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What people's files are in, the likeliest first; the detector knows a hundred more, in which a few
# accents look as well.
_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr", "mac_roman", "cp437", "cp850", "cp866"),
    "latin_1",
]
_WITH_ZEROS = ["utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be"]


def read_text(argument: str) -> str:
    """The argument itself; for `-` what stands on standard input, and for a file of subtitles what
    is spoken in it. Says on standard error what it took something for.

    Raises `StartupError` where a file cannot be read.
    """
    if argument == "-":
        name, text = "standard input", _standard_input()
    elif argument.lower().endswith(_SUBTITLES) and "\n" not in argument:
        name, text = argument, _file(argument)
    else:
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
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            data = data.removeprefix(mark) if encoding == "utf-8" else data
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise StartupError(f"{name} is marked as {encoding} but is not: {error}") from None
    with contextlib.suppress(UnicodeDecodeError):
        if b"\0" not in data:
            return data.decode("utf-8")
    from charset_normalizer import from_bytes

    guesses = from_bytes(data, cp_isolation=_WITH_ZEROS if b"\0" in data else _ENCODINGS)
    best = guesses.best()
    if best is None:
        raise StartupError(f"{name} is no text in an encoding that is known; save it as UTF-8")
    # Where a few accents fit several, it is the one that most files are in.
    fitting = {
        encoding
        for guess in guesses
        if (guess.chaos, guess.coherence) == (best.chaos, best.coherence)
        for encoding in guess.could_be_from_charset
    }
    encoding = "cp1252" if "cp1252" in fitting else best.encoding
    _say(f"{name} is not UTF-8; it is read as {encoding}")
    return data.decode(encoding)


def _standard_input() -> str:
    binary = getattr(sys.stdin, "buffer", None)
    return decode(binary.read(), "standard input") if binary is not None else sys.stdin.read()


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
