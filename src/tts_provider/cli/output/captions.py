"""Words and when they are spoken → captions, as SubRip or WebVTT.

https://www.matroska.org/technical/subtitles.html#srt-subtitles, https://www.w3.org/TR/webvtt1/
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tts_provider.client import SpokenWord
from tts_provider.errors import StartupError
from tts_provider.speech.segment import Segmenter

CaptionFormat = Literal["srt", "vtt"]

# What is read at one look, as subtitles usually are: two lines of 42 characters, seven seconds.
_LINE_CHARACTERS = 42
_CUE_CHARACTERS = 2 * _LINE_CHARACTERS
_LONGEST_MS = 7000
_PAUSE_MS = 700


def caption_format(name: str) -> CaptionFormat:
    """What a file of that name holds. Raises `StartupError` where it holds no captions."""
    ending = Path(name).suffix.lower()
    if ending == ".srt":
        return "srt"
    if ending == ".vtt":
        return "vtt"
    raise StartupError(f"captions are written as .srt or .vtt; got {name!r}")


def write_captions(text: str, words: Sequence[SpokenWord], kind: CaptionFormat) -> str:
    """The file's text; `words` are those of `text`, in order. WebVTT says who speaks, where they
    have a `voice`."""
    cues = [_cue(text, cue, kind) for cue in _divide(text, words)]
    if kind == "vtt":
        return "\n".join(["WEBVTT\n", *cues])
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, 1))


def _divide(text: str, words: Sequence[SpokenWord]) -> Iterator[list[SpokenWord]]:
    """The words of each cue."""
    segmenter = Segmenter()
    ends = [end for _, end in [*segmenter.push(text), *segmenter.flush()]]
    cue: list[SpokenWord] = []
    for word in (part for whole in words for part in _parts(whole)):
        if cue and (
            (cue[-1].turn, cue[-1].voice) != (word.turn, word.voice)
            or bisect_left(ends, cue[-1].end) != bisect_left(ends, word.end)
            or word.start_ms - cue[-1].end_ms >= _PAUSE_MS
            or word.end_ms - cue[0].start_ms > _LONGEST_MS
            or len(_joined(text, [*cue, word])) > _CUE_CHARACTERS
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _parts(word: SpokenWord) -> Iterator[SpokenWord]:
    """A word that fits into no cue, as a sentence without spaces, in equal parts of its time."""
    characters, length_ms = len(word.text), word.end_ms - word.start_ms
    for at in range(0, characters, _CUE_CHARACTERS):
        part = word.text[at : at + _CUE_CHARACTERS]
        start_ms = word.start_ms + length_ms * at // characters
        end_ms = word.start_ms + length_ms * (at + len(part)) // characters
        yield replace(word, text=part, start_ms=start_ms, end_ms=end_ms)


def _joined(text: str, words: Sequence[SpokenWord]) -> str:
    """What the words are together: spaces where `text` has some between them, and no markup."""
    joined, end = "", words[0].start
    for word in words:
        joined += " " * any(map(str.isspace, text[end : word.start])) + word.text
        end = word.end
    return " ".join(joined.split())


def _cue(text: str, words: Sequence[SpokenWord], kind: CaptionFormat) -> str:
    shown = _lines(_joined(text, words))
    start_ms = words[0].start_ms
    end_ms = max(words[-1].end_ms, start_ms + 1)  # WebVTT knows no cue of no time
    if kind == "vtt":
        shown = _escape(shown)
        if words[0].voice:
            shown = f"<v {_escape(words[0].voice)}>{shown}"
    else:  # SubRip has no way to write an arrow
        shown = shown.replace("-->", "→")
    return f"{_time(start_ms, kind)} --> {_time(end_ms, kind)}\n{shown}\n"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _lines(text: str) -> str:
    """Two of them where one is too long, cut at the space that is next to the middle."""
    spaces = [at for at, character in enumerate(text) if character == " "]
    if len(text) <= _LINE_CHARACTERS or not spaces:
        return text
    cut = min(spaces, key=lambda at: abs(2 * at - len(text)))
    return f"{text[:cut]}\n{text[cut + 1 :]}"


def _time(at_ms: int, kind: CaptionFormat) -> str:
    seconds, milliseconds = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    point = "." if kind == "vtt" else ","
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
