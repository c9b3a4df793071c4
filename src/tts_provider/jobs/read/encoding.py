"""Bytes → text, in whatever encoding people's files are."""

from __future__ import annotations

import codecs
import contextlib

from tts_provider.errors import InvalidRequest

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


def decode_text(data: bytes, name: str) -> tuple[str, str]:
    """The text, and the encoding that it was taken to be in: UTF-8 wherever it can be.

    Raises `InvalidRequest`, in which the file is called `name`, where it is no text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            data = data.removeprefix(mark) if encoding == "utf-8" else data
            try:
                return data.decode(encoding), "utf-8"
            except UnicodeDecodeError as error:
                raise _no_text(f"{name} is marked as {encoding} but is not: {error}") from None
    with contextlib.suppress(UnicodeDecodeError):
        if b"\0" not in data:
            return data.decode("utf-8"), "utf-8"
    from charset_normalizer import from_bytes

    guesses = from_bytes(data, cp_isolation=_WITH_ZEROS if b"\0" in data else _ENCODINGS)
    best = guesses.best()
    if best is None:
        raise _no_text(f"{name} is no text in an encoding that is known; save it as UTF-8")
    # Where a few accents fit several, it is the one that most files are in.
    fitting = {
        encoding
        for guess in guesses
        if (guess.chaos, guess.coherence) == (best.chaos, best.coherence)
        for encoding in guess.could_be_from_charset
    }
    encoding = "cp1252" if "cp1252" in fitting else best.encoding
    return data.decode(encoding), encoding


def _no_text(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_book")
