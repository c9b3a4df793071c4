"""Times of day, with their zones, and durations → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import cardinal, two_digits
from tts_provider.speech.normalize.pattern import LETTER, as_words, full_stop
from tts_provider.speech.normalize.units import counted

_MERIDIEM = rf"([AaPp])\.?[Mm](?!{LETTER}{LETTER})(\.?)"
# fmt: off
_ZONES = "utc gmt est edt cst cdt mst mdt pst pdt akst hst bst cet cest eet eest ist jst aest aedt et pt ct".split()  # noqa: SIM905, E501
# fmt: on
_ZONE = re.compile(
    r"(?<=[0-9mM])\.? ?(?=[^\W\d_])(?i:(?P<zone>"
    + "|".join(r"\.?".join(zone) for zone in _ZONES)
    + r")\.?)"
    rf"(?!{LETTER})(?=(?P<offset>[-+][0-9])?)"
)
_OFFSET = re.compile(r"([-+])(?<=[0-9]:[0-9]{2}.)([01][0-9]):?([0-5][0-9])(?![0-9:])")
_ZONE_OFFSET = re.compile(
    r"(?<![^\W\d_])(GMT|UTC|G M T|U T C) ?([-+])([0-9]{1,2})(?::([0-5][0-9]))?(?![0-9])"
)
_DURATION = re.compile(
    r"([0-9](?<![0-9].)(?<![0-9][.,:].)[0-9]{0,2}):([0-5][0-9]):([0-5][0-9])(?![0-9]|[.:][0-9])"
    rf"(?! ?(?:[AaPp]\.?[Mm](?!{LETTER}{LETTER})|Z\b| (?:plus|minus) [a-z]))"
)
_CLOCK = re.compile(
    r"([0-9](?<![0-9].)(?<![0-9][.,:].)[0-9]?):([0-5][0-9])(?::([0-5][0-9]))?(?:\.[0-9]{1,6}(?=Z))?(?![0-9]|[.:][0-9])"
    rf"(?: ?(?:{_MERIDIEM}|o'clock(?!{LETTER})))?"
)
_DOTTED = re.compile(rf"([0-9](?<![0-9.,$].)[0-9]?)\.([0-5][0-9])(?= ?{_MERIDIEM})")
_HOUR = re.compile(rf"([0-9](?<![0-9].)(?<![0-9][.,:].)[0-9]?) ?{_MERIDIEM}")
_RANGE = re.compile(r"-(?<=[0-9]:[0-9]{2}-)(?=[0-9]{1,2}:[0-9]{2})")


def read_zones(text: MappedText) -> MappedText:
    text = text.sub(_ZONE, _zone)
    text = text.sub(_ZONE_OFFSET, _zone_offset)
    return text.sub(_OFFSET, lambda match: as_words(match, f" {_offset(*match.groups())}"))


def read_times(text: MappedText) -> MappedText:
    text = text.sub(_RANGE, " to ")
    text = text.sub(_DOTTED, r"\1:\2")
    text = text.sub(_DURATION, _duration)
    return text.sub(_CLOCK, _clock).sub(_HOUR, _hour)


def _zone_offset(match: re.Match[str]) -> Replacement:
    offset = Part(_offset(*match.groups()[1:]), match.start(2), match.end())
    return as_words(match, part(match, 1), " ", offset)


def _zone(match: re.Match[str]) -> Replacement:
    """`3 p.m. e.s.t.`, `11:30EST`; not the "est" of "10 est omnes"."""
    before = match.string[max(0, match.start() - 5) : match.start()]
    if not re.search(r"[0-9]:[0-9]{2}\Z|(?<![^\W\d_])[ap]\.?m\Z", before, re.IGNORECASE):
        return match[0]
    return " ", part(match, "zone", " ".join(match["zone"].replace(".", "").upper()))


def _offset(sign: str, hours: str, minutes: str | None) -> str:
    words = f"{'plus' if sign == '+' else 'minus'} {cardinal(str(int(hours)))}"
    return words + (f" {two_digits(minutes)}" if minutes and minutes != "00" else "")


def _duration(match: re.Match[str]) -> Replacement:
    hours, minutes, seconds = (str(int(group)) for group in match.groups())
    parts = [(hours, "hour"), (minutes, "minute"), (seconds, "second")]
    words = [counted(count, unit) for count, unit in parts if count != "0" or unit == "hour"]
    return as_words(match, ", ".join(words[:-1]) + " and " * (len(words) > 1) + words[-1])


def _clock(match: re.Match[str]) -> Replacement:
    hour, minute, second, half, _ = match.groups()
    if int(hour) > 24:
        return match[0]
    words = cardinal(str(int(hour)))
    second = second if second != "00" else None
    if minute != "00":
        words += f" {two_digits(minute)}"
    elif not half and not second:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second:
        words += f" and {counted(str(int(second)), 'second')}"
    time = Part(words, match.start(), match.end(3 if match[3] else 2))
    if half:
        return as_words(match, time, " ", _meridiem(match, 4))
    if match[0].endswith("clock") and words.endswith("clock"):
        return as_words(match, time._replace(text=words.removesuffix(" o'clock")), " o'clock")
    return as_words(match, time)


def _hour(match: re.Match[str]) -> Replacement:
    if not 1 <= int(match[1]) <= 12:
        return match[0]
    hour = part(match, 1, cardinal(str(int(match[1]))))
    return as_words(match, hour, " ", _meridiem(match, 2))


def _meridiem(match: re.Match[str], group: int) -> Part:
    """`p.m.`, whose first letter the group is, and the full stop the next one."""
    stop = full_stop(match) if match[group + 1] else ""
    return Part(f"{match[group].upper()} M{stop}", match.start(group), match.end())
