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
# A hyphen behind hours and minutes is a range: "9:00-17:00".
_OFFSET = re.compile(
    r"(?:\+(?<=[0-9]:[0-9]{2}.)|-(?<=[0-9]:[0-9]{2}:[0-9]{2}.)|-(?<=T[0-9]{2}:[0-9]{2}.))"
    r"([01][0-9]):?([0-5][0-9])(?![0-9:])"
)
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
_RANGE = re.compile(
    rf"(?:(?P<hour>[0-9](?<![0-9].)(?<![0-9][.,:].)[0-9]?):00|(?<=[0-9]:[0-9]{{2}}))(?P<hyphen>-)"
    rf"(?=[0-9]{{1,2}}(?::[0-5][0-9](?![0-9:])| ?{_MERIDIEM}))"
)
_UNITS_OF_TIME = {
    "d": "day", "h": "hour", "hr": "hour", "hrs": "hour", "m": "minute", "min": "minute",
    "mins": "minute", "s": "second", "sec": "second", "secs": "second",
}  # fmt: skip
_AMOUNTS = re.compile(
    r"[0-9](?<![\w.,:$].)[0-9]{0,3} ?(?:d|h(?:rs?)?|m(?:ins?)?)"
    r"(?: ?[0-9]{1,4} ?(?:h(?:rs?)?|m(?:ins?)?|s(?:ecs?)?)){1,3}(?![^\W_]|/)"
)
_AMOUNT = re.compile("([0-9]{1,4}) ?([a-z]{1,4})")


def read_offsets(text: MappedText) -> MappedText:
    """What is nearer to a date than to a time, before the dates are read."""
    return text.sub(
        _OFFSET, lambda match: as_words(match, f" {_offset(match[0][0], *match.groups())}")
    )


def read_amounts(text: MappedText) -> MappedText:
    """`1h 30m`, `5m 30s`, `3d 2h 5m`."""
    return text.sub(_AMOUNTS, _amounts)


def read_zones(text: MappedText) -> MappedText:
    text = text.sub(_ZONE, _zone)
    text = text.sub(_ZONE_OFFSET, _zone_offset)
    return text.sub(_RANGE, _range)


def read_times(text: MappedText) -> MappedText:
    text = text.sub(_DOTTED, r"\1:\2")
    text = text.sub(_DURATION, _duration)
    return text.sub(_CLOCK, _clock).sub(_HOUR, _hour)


def _amounts(match: re.Match[str]) -> Replacement:
    pieces = list(_AMOUNT.finditer(match[0]))
    sizes = ["dhms".index(piece[2][0]) for piece in pieces]
    if sizes != sorted(set(sizes)):
        return match[0]
    words = list[str | Part]()
    for piece in pieces:
        said = counted(piece[1].lstrip("0") or "0", _UNITS_OF_TIME[piece[2]])
        words += [" "] if words else []
        words.append(Part(said, match.start() + piece.start(), match.start() + piece.end()))
    return as_words(match, *words)


def _range(match: re.Match[str]) -> Replacement:
    """`9:00-17:00` is "nine to seventeen hundred"."""
    if match["hour"] and 1 <= int(match["hour"]) <= 12:
        return part(match, "hour", cardinal(str(int(match["hour"])))), part(match, "hyphen", " to ")
    kept = Part(
        match.string[match.start() : match.start("hyphen")], match.start(), match.start("hyphen")
    )
    return kept, part(match, "hyphen", " to ")


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
