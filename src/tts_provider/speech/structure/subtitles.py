"""SubRip and WebVTT → the text that is spoken in them, without its times and numbers.

https://www.matroska.org/technical/subtitles.html#srt-subtitles, https://www.w3.org/TR/webvtt1/
"""

from __future__ import annotations

import html
import re
from typing import Literal

SubtitleFormat = Literal["srt", "vtt"]

_TIME = r"(?:[0-9]{1,3}:)?[0-5]?[0-9]:[0-5][0-9][,.][0-9]{1,3}"
_TIMING = re.compile(rf"[ \t]{{0,8}}{_TIME}[ \t]{{1,8}}-->[ \t]{{1,8}}{_TIME}")
_FIRST_CUE = re.compile(rf"\s{{0,40}}[0-9]{{1,6}}[ \t]{{0,8}}\r?\n{_TIMING.pattern}")
_IS_VTT = re.compile(r"WEBVTT(?:[ \t\r\n]|\Z)")
# <i>, <v Roger>, <00:01.000>, {\an8}
_MARKUP = re.compile(r"<[^<>\n]{1,200}>|\{\\[^{}\n]{1,100}\}|[♪♫]")
_SENTENCE_END = (".", "!", "?", "…", '"', "”", ":", ")")


def subtitle_format(text: str) -> SubtitleFormat | None:
    """The kind of subtitles that a file's text is; None if it is something else."""
    if _IS_VTT.match(text):
        return "vtt"
    return "srt" if _FIRST_CUE.match(text) else None


def read_subtitles(text: str) -> str:
    """The spoken text. Sentences that are spread over several cues are joined."""
    spoken, last = "", ""
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip("\n").split("\n")
        timings = [at for at, line in enumerate(lines) if _TIMING.match(line)]
        if not timings:
            continue  # the header, NOTE, STYLE
        for line in lines[timings[0] + 1 :]:
            words = " ".join(html.unescape(_MARKUP.sub(" ", line)).split())
            if not words or words == last:  # captions that roll say each line twice
                continue
            ends = not spoken or spoken.endswith(_SENTENCE_END) or words.startswith(("- ", "– "))
            spoken += ("\n" if ends and spoken else " " if spoken else "") + words
            last = words
    return spoken
