"""Captions, as SubRip or WebVTT.

https://www.matroska.org/technical/subtitles.html#srt-subtitles, https://www.w3.org/TR/webvtt1/
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tts_provider.cli.output.cues import Cue, CueWord, divide, one_word_each
from tts_provider.client import SpokenWord
from tts_provider.errors import StartupError

CaptionFormat = Literal["srt", "vtt"]


def caption_format(name: str) -> CaptionFormat:
    """What a file of that name holds. Raises `StartupError` where it holds no captions."""
    ending = Path(name).suffix.lower()
    if ending == ".srt":
        return "srt"
    if ending == ".vtt":
        return "vtt"
    raise StartupError(f"captions are written as .srt or .vtt; got {name!r}")


def write_captions(
    text: str, words: Sequence[SpokenWord], kind: CaptionFormat, *, by_word: bool = False
) -> str:
    """The file's text; `words` are those of `text`, in order. WebVTT says who speaks, where they
    have a `voice`. `by_word` is for karaoke: WebVTT with the time of each word in its cue, SubRip
    with a cue for each word."""
    cues = one_word_each(text, words) if by_word and kind == "srt" else divide(text, words)
    shown = [_cue(cue, kind, by_word=by_word) for cue in cues]
    if kind == "vtt":
        return "\n".join(["WEBVTT\n", *shown])
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(shown, 1))


def _cue(cue: Cue, kind: CaptionFormat, *, by_word: bool) -> str:
    if kind == "srt":  # it has no way to write an arrow
        shown = "\n".join(map(_plain, cue.lines)).replace("-->", "→")
    else:
        shown = _with_times(cue) if by_word else _escape("\n".join(map(_plain, cue.lines)))
        if cue.voice:
            shown = f"<v {_escape(cue.voice)}>{shown}"
    return f"{_time(cue.start_ms, kind)} --> {_time(cue.end_ms, kind)}\n{shown}\n"


def _plain(line: Sequence[CueWord]) -> str:
    return "".join(f"{' ' * word.is_spaced}{word.text}" for word in line).strip()


def _with_times(cue: Cue) -> str:
    """Before each word the time at which it is spoken, where that is later than those before it and
    within the cue, as WebVTT has it."""
    shown, last_ms = "", cue.start_ms
    for number, line in enumerate(cue.lines):
        for at, word in enumerate(line):
            shown += "\n" if number and at == 0 else " " * (word.is_spaced and at > 0)
            if last_ms < word.start_ms < cue.end_ms:
                shown += f"<{_time(word.start_ms, 'vtt')}>"
                last_ms = word.start_ms
            shown += _escape(word.text)
    return shown


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(at_ms: int, kind: CaptionFormat) -> str:
    seconds, milliseconds = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    point = "." if kind == "vtt" else ","
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
