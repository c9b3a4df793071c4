"""English text → the words a speech model reads well: no digits, no symbols, no markup.

The passes run in one order, and two rules make the result a fixed point of them all:

1. What vanishes (markup, brackets, stray dashes) vanishes before anything becomes words, so no
   later deletion can join two pieces into something an earlier pass would have read.
2. What becomes words is set apart from its neighbours (`_as_words`), and no word we write is
   itself something to read.

Every pattern takes linear time: it either consumes what it scans, or starts only where a run of
its characters starts. Digits other than 0-9 are left to the model, like words of any language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from num2words import num2words  # type: ignore[import-untyped]

_LONGEST_CARDINAL = 36
"""Digits of the longest number said as one: beyond undecillions nobody follows the words."""

_LONGEST_PLAIN_CARDINAL = 6
"""Digits without separators beyond which a number is an identifier, unless it is round."""

_LETTER = r"[^\W\d_]"
_CURRENCY = r"[$£€¥₹]"
# Starts at the first digit of a run only, which keeps a failing match from being tried n times.
_NUMBER = r"(?<![0-9])(?<![0-9][.,])[0-9]+(?:[.,][0-9]+)*"

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def normalize(text: str) -> str:
    """Return the English text as words and plain punctuation, on one line.

    `normalize(normalize(text)) == normalize(text)`, and no digit 0-9 is left. Nothing is refused;
    a text without anything to say becomes the empty string.
    """
    for step in _STEPS:
        text = step(text)
    return text


# --- Numbers as words ----------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _cardinal(digits: str) -> str:
    """American style: no "and", no commas. Leading zeros and giants go digit by digit."""
    if len(digits) > _LONGEST_CARDINAL or (digits[0] == "0" and len(digits) > 1):
        return _spelled(digits)
    return str(num2words(int(digits))).replace(",", "").replace(" and ", " ")


@lru_cache(maxsize=4096)
def _ordinal(digits: str) -> str:
    if len(digits) > _LONGEST_CARDINAL:
        return f"{_spelled(digits)} th"
    return str(num2words(int(digits), to="ordinal")).replace(",", "").replace(" and ", " ")


def _spelled(digits: str) -> str:
    return " ".join(_DIGITS[int(digit)] for digit in digits)


def _integer(digits: str) -> str:
    """A number without separators: 2500000 is an amount, 5551234 is somebody's telephone."""
    if len(digits) > _LONGEST_PLAIN_CARDINAL and not digits.endswith("000"):
        return _spelled(digits)
    return _cardinal(digits)


def _number(token: str) -> str:
    """Digits with dots and commas between them: amount, decimal, version, address or list."""
    if re.fullmatch(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?", token):
        whole, _, decimals = token.replace(",", "").partition(".")
        return _cardinal(whole) + (f" point {_spelled(decimals)}" if decimals else "")
    return ", ".join(_dotted(piece) for piece in token.split(","))


def _dotted(token: str) -> str:
    parts = token.split(".")
    if len(parts) == 2:
        return f"{_integer(parts[0])} point {_spelled(parts[1])}"
    # Four parts are an IP address, which is read with "dot"; other chains are versions.
    return (" dot " if len(parts) == 4 else " point ").join(_integer(part) for part in parts)


def _year(digits: str) -> str:
    century, rest = digits[:2], digits[2:]
    if digits[1:3] == "00":
        return _cardinal(digits)
    return f"{_cardinal(century)} {'hundred' if rest == '00' else _two_digits(rest)}"


def _two_digits(digits: str) -> str:
    """Two digits as they are said after an hour or a century."""
    return f"oh {_cardinal(digits[1])}" if digits[0] == "0" else _cardinal(digits)


def _plural(words: str) -> str:
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("x", "ch")) else "s")


def _as_words(match: re.Match[str], words: str) -> str:
    """The words, with a space on each side where the neighbour would stick to them."""
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    left = "" if not before or before in " \"'-" else " "
    sticks = after in ".,;:!?" and text[end + 1 : end + 2].isalnum()
    right = "" if not after or (after in " \"'-.,;:!?" and not sticks) else " "
    return f"{left}{words}{right}"


# --- What vanishes -------------------------------------------------------------------------------

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‘’‚‛´′", "'"),
        **dict.fromkeys("‐‑−", "-"),
        **dict.fromkeys("—―", " -- "),
        **dict.fromkeys("→⇒➔➜", " to "),
        **dict.fromkeys("•‣◦·", "•"),
        # Soft hyphen, zero-width space, text direction, joiners, byte order mark.
        **dict.fromkeys("\xad\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"),
        **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
        "…": "...",
        "⁄": "/",
        "μ": "µ",
        "№": "#",
        "½": " 1/2",
        "⅓": " 1/3",
        "⅔": " 2/3",
        "¼": " 1/4",
        "¾": " 3/4",
        "⅛": " 1/8",
        "²": "^2",
        "³": "^3",
    }
)
# Pictures, arrows, boxes, trademark signs, control and private characters, lone surrogates.
_UNSPEAKABLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f©®™\u20e3\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\ufe0f"
    "\ue000-\uf8ff\ud800-\udfff\U0001f000-\U0001faff\U000e0000-\U000e007f]\u200d*"
)
_EN_DASH_RANGE = re.compile(r"(?<=[0-9]) ?– ?(?=[0-9$£€¥₹])")


def _plain_characters(text: str) -> str:
    text = _UNSPEAKABLE.sub(" ", text.translate(_CHARACTERS))
    return _EN_DASH_RANGE.sub("-", text).replace("–", " -- ")


_LIST_NUMBER = re.compile(r"^([0-9]{1,3})[.)]\s")
_BLOCK = re.compile(r"^(?:(?:#{1,6}|[-+*•])\s)+|^\|")


def _join_lines(text: str) -> str:
    """One line. Headings, list items, table rows and paragraphs end as sentences do."""
    parts: list[str] = []
    after_block = after_blank = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("```", "~~~")) or not line.strip("-=*_~|: "):
            after_blank = True
            continue
        line = line.lstrip("> ")
        block = _BLOCK.match(line) or _LIST_NUMBER.match(line)
        continues = raw[0].isspace() or not after_block
        if parts and (after_blank or block or not continues):
            parts[-1] = _end_sentence(parts[-1])
        line = _LIST_NUMBER.sub(r"\1, ", _BLOCK.sub("", line, count=1) if block else line, count=1)
        parts.append(line.strip("| "))
        after_block, after_blank = bool(block), False
    return " ".join(" ".join(parts).split())


def _end_sentence(part: str) -> str:
    return part if part.rstrip("\"')]}*_` ").endswith(tuple(".!?:;,")) else f"{part}."


_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\[\]\s]*\)")
_AUTOLINK = re.compile(r"<(https?://[^\s<>]+|[^\s<>@]+@[^\s<>]+)>")
_TAG = re.compile(
    r"</?(?:b|i|u|s|em|strong|p|br|hr|code|pre|ul|ol|li|sub|sup|div|span|h[1-6]|a) ?/?>"
    r"|<(?:a|img|div|span|p) [a-z]+=[^<>]*>",
    re.IGNORECASE,
)
_TIMES_SIGN = re.compile(r"(?<=[0-9])(?:\*| \* )(?=[0-9])")
_EMOTICON = re.compile(r"(?<!\S)[:;]-?[()](?!\S)")


def _drop_markup(text: str) -> str:
    text = _LINK.sub(r"\1", text)
    text = _AUTOLINK.sub(r" \1 ", text)
    text = _TAG.sub(" ", text)
    text = _EMOTICON.sub("", text)
    text = _TIMES_SIGN.sub("×", text)
    text = re.sub(r"[*`]|\\(?=[^\w\s])|#{2,}", "", text)
    text = re.sub(rf"(?<={_LETTER})\(s\)", "s", text)
    return re.sub(r"\(\)|\[\]|\{\}|\\", " ", text)


# --- Addresses and telephone numbers -------------------------------------------------------------

# fmt: off
_ADDRESS_SYMBOLS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "?": "question mark", "=": "equals",
    "&": "and", "#": "hash", "%": "percent", ":": "colon", "~": "tilde", "+": "plus", "@": "at",
}
# fmt: on
# No English word among them: "Tell me.It works" names no host.
_ENDINGS = (
    "com|org|net|edu|gov|info|io|ai|dev|app|tv|uk|de|eu|fr|ca|au|nl|ch|jp"
    "|py|js|ts|json|html|css|md|txt|csv|pdf|exe|zip|wav|mp3|png|jpg|yaml|toml"
)
_URL_BODY = r"[^\s<>\"()\[\]{}|]+"
_URL = re.compile(
    rf"(?<!{_LETTER})(?:https?://(?:www\.)?|www\.)(?=[^\W_])({_URL_BODY})", re.IGNORECASE
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[\w-]+")
# At most five labels before the ending, so that "a.a.a.a…" is not scanned from each label on.
_HOST = re.compile(
    rf"(?<![\w-])(?:[\w-]+\.){{1,5}}(?i:{_ENDINGS})(?!{_LETTER})(?:[/?]{_URL_BODY})?"
)


def _read_addresses(text: str) -> str:
    text = _URL.sub(lambda match: _address(match[1]), text)
    text = _EMAIL.sub(lambda match: _address(match[0]), text)
    return _HOST.sub(lambda match: _address(match[0]), text)


def _address(body: str) -> str:
    address = body.rstrip(".,;:!?'")
    tail, address = body[len(address) :], address.rstrip("/")
    spoken = "".join(f" {_ADDRESS_SYMBOLS[c]} " if c in _ADDRESS_SYMBOLS else c for c in address)
    return f" {spoken.strip()}{tail} "


_TELEPHONE = re.compile(
    r"(?<![\w.,-])\+[0-9]{1,3}(?:[ .-]?\(?[0-9]{2,4}\)?){2,4}(?![0-9])"
    r"|(?<![\w.,-])(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?![0-9])"
)


def _read_telephones(text: str) -> str:
    return _TELEPHONE.sub(lambda match: _as_words(match, _telephone(match[0])), text)


def _telephone(number: str) -> str:
    groups = ", ".join(_spelled(group) for group in re.findall(r"[0-9]+", number))
    return f"plus {groups}" if number.startswith("+") else groups


# --- Punctuation ---------------------------------------------------------------------------------

_LEADING_POINT = re.compile(r"(?<![\w.])\.(?=[0-9])")
_CLOSED_SENTENCE = re.compile(r"(?<=[.!?])[)\]}]")
_PAUSE = re.compile(r"[()\[\]{}|•]|--+| - ")
_SPACED_DASH = re.compile(rf"(?<![0-9])([0-9]+) - (?={_CURRENCY}?([0-9]+))")
_CURRENCY_MINUS = re.compile(rf"({_CURRENCY})-(?=[0-9])")
_STRAY = re.compile(
    rf"_|={{3,}}|~(?!-?{_CURRENCY}?[0-9])|\^(?![^\W_]|-[0-9])"
    rf"|(?<![^\W_])-(?!{_CURRENCY}?[0-9])|-(?![^\W_]|{_CURRENCY}[0-9])"
)
_MARKS = re.compile(r"[,.;:!?](?: ?[,.;:!?])+")
_COMMA_AFTER_QUOTED_MARK = re.compile(r"(?<=[,.;:!?][\"']) ?,")
_SPACE_BEFORE_MARK = re.compile(r" ([,.;:!?])(?!\w)")


def _tidy_punctuation(text: str) -> str:
    """Brackets and dashes become commas, and of several marks in a row the strongest stays."""
    text = _LEADING_POINT.sub("0.", text.rstrip(" ()[]{}"))
    text = _CLOSED_SENTENCE.sub(" ", text)
    text = _SPACED_DASH.sub(_spaced_dash, text)
    text = _PAUSE.sub(" , ", text)
    text = _CURRENCY_MINUS.sub(r"-\1", text)
    text = _STRAY.sub(" ", text)
    text = _MARKS.sub(_strongest_mark, " ".join(text.split()))
    text = _COMMA_AFTER_QUOTED_MARK.sub("", text)
    return _close_up(text).lstrip(" ,.;:!?")


def _spaced_dash(match: re.Match[str]) -> str:
    """Read "5 - 10" as a range and "10 - 5" as a subtraction; times and dates only make ranges."""
    left, right = match[1], match[2]
    part_of_more = match.string[max(0, match.start() - 1) : match.start()].endswith(tuple(":/.,"))
    ascends = (len(left), left) < (len(right), right)
    return f"{left} {'to' if part_of_more or ascends else 'minus'} "


def _strongest_mark(match: re.Match[str]) -> str:
    marks = match[0]
    strongest = next(mark for mark in "?!.:;," if mark in marks)
    following = match.string[match.end() : match.end() + 2]
    trails_off = marks.startswith("..") and following.lstrip()[:1].islower()
    # The comma of "etc., and" is the sentence's, the full stop only the abbreviation's.
    if strongest == "." and (marks == ".," or trails_off):
        strongest = ","
    return strongest + ("" if following[:1] in ("", " ", '"', "'") else " ")


def _close_up(text: str) -> str:
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))


# --- Abbreviations -------------------------------------------------------------------------------

# fmt: off
# With or without their full stop.
_ABBREVIATIONS = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor",
    "vs": "versus", "approx": "approximately", "e.g": "for example", "E.g": "For example",
    "i.e": "that is", "I.e": "That is", "a.k.a": "also known as",
}
_DOTTED_ABBREVIATIONS = {
    "Gen": "General", "Sen": "Senator", "Gov": "Governor", "Capt": "Captain", "Lt": "Lieutenant",
    "Sgt": "Sergeant", "Rev": "Reverend", "Mt": "Mount", "Ft": "Fort", "Dept": "Department",
}
# These may end a sentence, and then their full stop is the sentence's too.
_FINAL_ABBREVIATIONS = {
    "etc": "et cetera", "Inc": "Incorporated", "Ltd": "Limited", "Jr": "Junior", "Sr": "Senior",
}
_DOTTED_FINAL_ABBREVIATIONS = {
    "Corp": "Corporation", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "St": "Street",
}
_BEFORE_NUMBERS = {
    "No": "number", "Nos": "numbers", "Fig": "figure", "fig": "figure", "Vol": "volume",
    "vol": "volume", "Ch": "chapter", "p": "page", "pp": "pages", "ca": "circa",
}
# fmt: on
_FINAL = _FINAL_ABBREVIATIONS | _DOTTED_FINAL_ABBREVIATIONS
_ALL_ABBREVIATIONS = _ABBREVIATIONS | _DOTTED_ABBREVIATIONS | _FINAL


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_ABBREVIATION = re.compile(
    rf"(?<!{_LETTER})(?:({_any_of(_ABBREVIATIONS | _FINAL_ABBREVIATIONS)})(?:(\.)|(?!{_LETTER}))"
    rf"|({_any_of(_DOTTED_ABBREVIATIONS | _DOTTED_FINAL_ABBREVIATIONS)})(\.))"
)
_BEFORE_NUMBER = re.compile(rf"(?<!{_LETTER})({_any_of(_BEFORE_NUMBERS)})\. ?(?=[0-9])")
_HASH_NUMBER = re.compile(r"#(?=[0-9])")
_VERSION = re.compile(rf"(?<!{_LETTER})v\.? ?(?=[0-9])")


def _expand_abbreviations(text: str) -> str:
    text = _BEFORE_NUMBER.sub(lambda match: f"{_BEFORE_NUMBERS[match[1]]} ", text)
    text = _HASH_NUMBER.sub(lambda match: _as_words(match, "number"), text)
    text = _VERSION.sub("version ", text)
    return _ABBREVIATION.sub(_expanded, text)


def _expanded(match: re.Match[str]) -> str:
    short, dot = match[1] or match[3], match[2] or match[4]
    after = match.string[match.end() : match.end() + 2]
    words = _ALL_ABBREVIATIONS[short]
    if short == "St" and after[:1] == " " and after[1:].isupper():
        words, dot = "Saint", None
    if dot and short in _FINAL:
        words += _full_stop(match)
    return f"{words} " if dot and after[:1].isalnum() else words


def _full_stop(match: re.Match[str]) -> str:
    """The full stop of an abbreviation that ends its sentence, as far as one can see."""
    after = match.string[match.end() : match.end() + 2]
    ends = not after or after[0] in "\"'" or (after[0] == " " and after[1:].isupper())
    return "." if ends else ""


# --- Dates and times -----------------------------------------------------------------------------

# fmt: off
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)
# fmt: on
_MONTH_NUMBERS = {name: n for n, month in enumerate(_MONTHS, 1) for name in (month, month[:3])}
_MONTH_NUMBERS["Sept"] = 9
_MONTH = rf"(?<!{_LETTER})({_any_of(_MONTH_NUMBERS)})(?!{_LETTER})(?:\.(?=,? [0-9a-z]))?"
_DAY = rf"([0-9]{{1,2}})(?:st|nd|rd|th)?(?![0-9]|[.,:/][0-9]|{_LETTER})"
_YEAR_AFTER = r"(?:,? ([12][0-9]{3})(?![0-9]|[.,:/-][0-9]))?"

_DATE_YEAR_FIRST = re.compile(
    r"(?<![0-9])(?<![0-9][-/.,])([0-9]{4})([-/])([0-9]{1,2})\2([0-9]{1,2})(?![0-9]|[-/][0-9])"
    r"(T(?=[0-9]{2}:))?"
)
_DATE_YEAR_LAST = re.compile(
    r"(?<![0-9])(?<![0-9][-/.,])([0-9]{1,2})([-/])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})"
    r"(?![0-9]|[-/][0-9])"
)
_MONTH_DAY = re.compile(rf"{_MONTH} {_DAY}(?:-([0-9]{{1,2}})(?![0-9]))?{_YEAR_AFTER}")
_DAY_MONTH = re.compile(rf"(?<![0-9])(?<![0-9][.,:/-]){_DAY}(?: of)? {_MONTH}{_YEAR_AFTER}")
_MONTH_YEAR = re.compile(rf"{_MONTH},? ([12][0-9]{{3}})(?![0-9]|[.,:/-][0-9])")


def _read_dates(text: str) -> str:
    text = _DATE_YEAR_FIRST.sub(_date_year_first, text)
    text = _DATE_YEAR_LAST.sub(_date_year_last, text)
    text = _DAY_MONTH.sub(_day_month, text)
    text = _MONTH_DAY.sub(_month_day, text)
    return _MONTH_YEAR.sub(
        lambda match: _as_words(match, f"{_month(match[1])} {_any_year(match[2])}"), text
    )


def _date_year_first(match: re.Match[str]) -> str:
    date = _date(match[1], int(match[3]), int(match[4]))
    return _as_words(match, date + (" at" if match[5] else "")) if date else match[0]


def _date_year_last(match: re.Match[str]) -> str:
    """Month first, as Americans write it, unless only the other order is a date."""
    month, day, year = int(match[1]), int(match[3]), match[4]
    if len(year) == 2:
        if match[2] == "-":
            return match[0]
        year = ("20" if year < "69" else "19") + year  # as strptime's %y
    date = _date(year, month, day) or _date(year, day, month)
    return _as_words(match, date) if date else match[0]


def _date(year: str, month: int, day: int) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    return f"{_MONTHS[month - 1]} {_ordinal(str(day))}, {_any_year(year)}"


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    words = f"{_month(match[1])} {_ordinal(match[2])}"
    words += f" to {_ordinal(match[3])}" if match[3] else ""
    return _as_words(match, words + (f", {_any_year(match[4])}" if match[4] else ""))


def _day_month(match: re.Match[str]) -> str:
    if not 1 <= int(match[1]) <= 31:
        return match[0]
    words = f"{_ordinal(match[1])} of {_month(match[2])}"
    return _as_words(match, words + (f" {_any_year(match[3])}" if match[3] else ""))


def _month(name: str) -> str:
    return _MONTHS[_MONTH_NUMBERS[name] - 1]


def _any_year(digits: str) -> str:
    return _year(digits) if "1100" <= digits <= "2099" else _cardinal(str(int(digits)))


_MERIDIEM = rf"([AaPp])\.?[Mm](?!{_LETTER})(\.?)"
_CLOCK = re.compile(
    r"(?<![0-9])(?<![0-9][.,:])([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?(?![0-9]|[.:][0-9])"
    rf"(?: ?(?:{_MERIDIEM}|o'clock(?!{_LETTER})))?"
)
_HOUR = re.compile(rf"(?<![0-9])(?<![0-9][.,:])([0-9]{{1,2}}) ?{_MERIDIEM}")


def _read_times(text: str) -> str:
    return _HOUR.sub(_hour, _CLOCK.sub(_clock, text))


def _clock(match: re.Match[str]) -> str:
    hour, minute, second, half, dot = match.groups()
    if int(hour) > 24:
        return match[0]
    words = _cardinal(str(int(hour)))
    second = second if second != "00" else None
    if minute != "00":
        words += f" {_two_digits(minute)}"
    elif not half and not second:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second:
        words += f" and {_counted(str(int(second)), 'second')}"
    if half:
        words += f" {half.upper()} M{_full_stop(match) if dot else ''}"
    return _as_words(match, words)


def _hour(match: re.Match[str]) -> str:
    hour, half, dot = match.groups()
    if not 1 <= int(hour) <= 12:
        return match[0]
    words = f"{_cardinal(str(int(hour)))} {half.upper()} M"
    return _as_words(match, words + (_full_stop(match) if dot else ""))


# --- Money and units -----------------------------------------------------------------------------

# fmt: off
_UNITS = {
    "%": "percent", "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter",
    "µm": "micrometer", "nm": "nanometer", "mi": "mile", "yd": "yard", "ft": "foot",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "µg": "microgram", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter",
    "mL": "milliliter", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
    "s": "second", "sec": "second", "secs": "second", "ms": "millisecond", "µs": "microsecond",
    "ns": "nanosecond", "mph": "mile per hour", "kph": "kilometer per hour",
    "kmh": "kilometer per hour", "mpg": "mile per gallon", "fps": "frame per second",
    "rpm": "revolution per minute", "bps": "bit per second", "kbps": "kilobit per second",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "kB": "kilobyte", "KB": "kilobyte",
    "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte", "KiB": "kibibyte",
    "MiB": "mebibyte", "GiB": "gibibyte", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt hour",
    "V": "volt", "mA": "milliamp", "mAh": "milliamp hour", "kJ": "kilojoule", "kcal": "kilocalorie",
    "dB": "decibel", "px": "pixel", "pt": "point", "°": "degree", "°C": "degree Celsius",
    "°F": "degree Fahrenheit", "° C": "degree Celsius", "° F": "degree Fahrenheit", "¢": "cent",
    "M": "million", "bn": "billion", "USD": "US dollar", "EUR": "euro", "GBP": "pound",
}
# fmt: on
_INVARIABLE = ("hertz", "percent", "million", "billion", "yen")
_IRREGULAR = {
    "foot": "feet",
    "penny": "pence",
    "US dollar": "US dollars",
    "kilowatt hour": "kilowatt hours",
    "milliamp hour": "milliamp hours",
}
_CURRENCIES = {
    "$": ("dollar", "cent"),
    "£": ("pound", "penny"),
    "€": ("euro", "cent"),
    "¥": ("yen", None),
    "₹": ("rupee", "paisa"),
}
# fmt: off
_SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million",
    "b": "billion", "B": "billion", "bn": "billion", "T": "trillion", "tn": "trillion",
}
# fmt: on
_UNIT = _any_of(_UNITS)
_SCALE = (
    rf"(?:(?: ?(hundred|thousand|million|billion|trillion)|({_any_of(_SCALES)}))(?!{_LETTER}))?"
)
_PRICE = re.compile(rf"({_CURRENCY}) ?({_NUMBER}){_SCALE}(/(?={_LETTER}))?")
_PRICE_SIGN_LAST = re.compile(rf"({_NUMBER}) ?({_CURRENCY})(?!-?[0-9])")
# The full stop of "5 min. later" is the abbreviation's.
_MEASURE = re.compile(rf"({_NUMBER}) ?({_UNIT})(?!{_LETTER})(?:/([A-Za-z]+)|\.(?= [a-z]))?")
_HEIGHT = re.compile(r"(?<![0-9])([0-9])'([0-9]{1,2})(?![0-9])\"?")


def _read_money(text: str) -> str:
    text = _PRICE.sub(_price, text)
    return _PRICE_SIGN_LAST.sub(
        lambda match: _as_words(match, _counted(match[1], _CURRENCIES[match[2]][0])), text
    )


def _price(match: re.Match[str]) -> str:
    sign, amount, scale_word, scale_letter, per = match.groups()
    coin, small_coin = _CURRENCIES[sign]
    scale = scale_word or (scale_letter and _SCALES[scale_letter])
    if scale:
        words = f"{_amount(amount)} {scale} {_plural_unit(coin)}"
    elif small_coin and re.fullmatch(r"[0-9,]+\.[0-9]{2}", amount):
        words = _coins(amount, coin, small_coin)
    else:
        words = _counted(amount, coin)
    return _as_words(match, f"{words} per" if per else words)


def _coins(amount: str, coin: str, small_coin: str) -> str:
    whole, cents = amount[:-3], str(int(amount[-2:]))
    if cents == "0":
        return _counted(whole, coin)
    if not whole.strip("0"):
        return _counted(cents, small_coin)
    return f"{_counted(whole, coin)} and {_counted(cents, small_coin)}"


def _read_units(text: str) -> str:
    text = _HEIGHT.sub(
        lambda match: _as_words(match, f"{_cardinal(match[1])} foot {_cardinal(match[2])}"), text
    )
    return _MEASURE.sub(_measure, text)


def _measure(match: re.Match[str]) -> str:
    amount, unit, per = match.groups()
    words = _counted(amount, _UNITS[unit])
    return _as_words(match, f"{words} per {_UNITS.get(per, per)}" if per else words)


def _counted(amount: str, unit: str) -> str:
    return f"{_amount(amount)} {unit if amount == '1' else _plural_unit(unit)}"


def _amount(token: str) -> str:
    """A number that counts something is never an identifier, however long."""
    return _cardinal(token.lstrip("0") or "0") if token.isdecimal() else _number(token)


def _plural_unit(unit: str) -> str:
    if unit in _IRREGULAR:
        return _IRREGULAR[unit]
    noun, space, rest = unit.partition(" ")
    return (noun if noun.endswith(_INVARIABLE) else _plural(noun)) + space + rest


# --- Ranges, years, ordinals, fractions and what is left -----------------------------------------

_CHAIN = re.compile(r"(?<![0-9])(?<![0-9]-)[0-9]+(?:-[0-9]+)+")
_UNIT_RANGE = re.compile(rf"(?<=[0-9])( ?(?:{_UNIT}|[AaPp][Mm]))?-(?={_CURRENCY}?[0-9])")
_MINUS = re.compile(rf"(?<!\w)-(?={_CURRENCY}?[0-9])")
_DIGIT_HYPHEN = re.compile(rf"(?<=[0-9])-|-(?={_CURRENCY}?[0-9])")
_ABOUT = re.compile(rf"~(?=-?{_CURRENCY}?[0-9])")
_BY = re.compile(r"(?<=[0-9]) ?x ?(?=[0-9])")
_FOLD = re.compile(rf"(?<=[0-9])x(?!{_LETTER})")


def _read_signs(text: str) -> str:
    text = _ABOUT.sub(lambda match: _as_words(match, "about"), text)
    return _MINUS.sub(lambda match: _as_words(match, "minus"), text)


def _read_ranges(text: str) -> str:
    text = _CHAIN.sub(_chain, text)
    text = _UNIT_RANGE.sub(r"\1 to ", text)
    text = _DIGIT_HYPHEN.sub(" ", text)
    return _FOLD.sub(" times", _BY.sub(" by ", text))


def _chain(match: re.Match[str]) -> str:
    parts = match[0].split("-")
    if len(parts) > 2:
        return _as_words(match, ", ".join(_spelled(part) for part in parts))
    first, last = parts
    before = match.string[max(0, match.start() - 1) : match.start()]
    bare = not before or before not in "$£€¥₹.,:"
    if bare and "1100" <= first <= "2099" and len(first) == 4:
        if len(last) == 4 and first < last <= "2099":
            return _as_words(match, f"{_year(first)} to {_year(last)}")
        if len(last) == 2 and first[2:] < last:
            return _as_words(match, f"{_year(first)} to {_cardinal(last)}")
    if bare and (len(first), len(last)) == (3, 4) and last[-1] != "0":
        return _as_words(match, _telephone(match[0]))
    return f"{first} to {last}"


_DECADE = re.compile(
    rf"(?<![\w.,])((?:1[1-9]|20)[0-9]0)'?s(?!{_LETTER})"
    rf"|((?:(?<=')|(?<=[Tt]he )|(?<=his )|(?<=her )|(?<=their )|(?<=early )|(?<=mid )|(?<=late ))"
    rf"[1-9]0)'?s(?!{_LETTER})"
)
_YEAR_CUE = (
    r"(?:(?P<sure>[Ii]n|[Ss]ince|[Uu]ntil|[Dd]uring|[Cc]irca|[Yy]ear)"
    r"|(?P<likely>[Ff]rom|[Tt]o|[Oo]f|[Bb]y|[Bb]efore|[Aa]fter|[Bb]etween|[Aa]nd|[Ll]ate)) "
)
_YEAR = re.compile(
    rf"(?:(?<!{_LETTER}){_YEAR_CUE})?(?<![0-9])(?<![0-9][.,:/])(?<!{_LETTER})(?<!{_CURRENCY})"
    rf"(?P<year>(?:1[0-9]|20)[0-9]{{2}})(?![0-9]|[.,:/][0-9]|{_LETTER}| by [0-9])"
    r"(?P<era> (?:BCE?|AD|CE))?"
)
_COUNTED_NOUN = re.compile(
    r" (?:[a-z]+[^\Wsiua]s|people|men|women|children|other|more|different)\b"
)
_ORDINAL = re.compile(rf"({_NUMBER})(?:st|nd|rd|th)(?!{_LETTER})")
_MIXED_NUMBER = re.compile(
    r"(?<![0-9])(?<![0-9][/.,])([0-9]{1,3}) (?=[0-9]{1,2}/[0-9]{1,2}(?![0-9/]))"
)
_FRACTION = re.compile(rf"(?<![0-9])(?<![0-9][/.,])[0-9]+(?:/[0-9]+)+(?: ?({_UNIT})(?!{_LETTER}))?")
_FIXED_FRACTIONS = {"24/7": "twenty-four seven", "9/11": "nine eleven"}
_RATIO = re.compile(r"(?<=[0-9]):(?=[0-9])")
_PLAIN_NUMBER = re.compile(_NUMBER)


def _read_fractions(text: str) -> str:
    return _FRACTION.sub(_fraction, _MIXED_NUMBER.sub(r"\1 and ", text))


def _fraction(match: re.Match[str]) -> str:
    digits = match[0].removesuffix(match[1] or "").rstrip()
    parts = digits.split("/")
    if digits in _FIXED_FRACTIONS:
        words = _FIXED_FRACTIONS[digits]
    elif len(parts) > 2:
        words = " slash ".join(_integer(part) for part in parts)
    elif parts[0] == parts[1]:
        words = f"{_integer(parts[0])} {_integer(parts[1])}"
    elif max(map(len, parts)) > 2 or int(parts[1]) < 2:
        words = f"{_integer(parts[0])} over {_integer(parts[1])}"
    else:
        words = _parts_of_a_whole(parts[0], str(int(parts[1])))
    if match[1]:
        mixed = re.search(r"[0-9] and $", match.string[max(0, match.start() - 6) : match.start()])
        unit = _UNITS[match[1]]
        words += f" {_plural_unit(unit) if mixed else unit}"
    return _as_words(match, words)


def _parts_of_a_whole(numerator: str, denominator: str) -> str:
    part = {"2": "half", "4": "quarter"}.get(denominator) or _ordinal(denominator)
    if numerator == "1":
        return f"one {part}"
    return f"{_integer(numerator)} {'halves' if part == 'half' else _plural(part)}"


def _read_years(text: str) -> str:
    return _YEAR.sub(_year_in_context, text)


def _read_decades(text: str) -> str:
    return _DECADE.sub(_decade, text)


def _decade(match: re.Match[str]) -> str:
    return _as_words(match, _plural(_year(match[1]) if match[1] else _cardinal(match[2])))


def _year_in_context(match: re.Match[str]) -> str:
    """1900 to 2099 are years unless they count something; earlier ones need a word that says so."""
    counts = _COUNTED_NOUN.match(match.string, match.end())
    likely = match["year"] >= ("1100" if match["likely"] else "1900")
    if match["sure"] or match["era"] or (likely and not counts):
        start = match.start("year") - match.start()
        return _as_words(match, match[0][:start] + _year(match["year"]) + (match["era"] or ""))
    return match[0]


def _read_ordinals(text: str) -> str:
    return _ORDINAL.sub(lambda match: _as_words(match, _ordinal_token(match[1])), text)


def _ordinal_token(token: str) -> str:
    digits = token.replace(",", "")
    return _ordinal(digits) if digits.isdecimal() else f"{_number(token)} th"


def _read_numbers(text: str) -> str:
    text = _RATIO.sub(" to ", text)
    return _PLAIN_NUMBER.sub(lambda match: _as_words(match, _number(match[0])), text)


# fmt: off
_SYMBOLS = {
    "&": "and", "+": "plus", "±": "plus or minus", "×": "times", "÷": "divided by", "=": "equals",
    "==": "equals", "≠": "is not equal to", "!=": "is not equal to", "<": "less than",
    ">": "greater than", "≤": "less than or equal to", "≥": "greater than or equal to",
    "<=": "less than or equal to", ">=": "greater than or equal to", "->": "to", "=>": "to",
    "≈": "approximately", "~": "about", "√": "square root of", "∞": "infinity", "@": "at",
    "#": "hash", "%": "percent", "°": "degrees", "§": "section", "^": "to the power of",
    "/": "slash", "$": "dollar", "£": "pound", "€": "euro", "¥": "yen", "₹": "rupee", "¢": "cent",
}
# fmt: on
_POWER = re.compile(r"\^([23])(?![0-9]|[.,][0-9])")
_POWERS = {"2": "squared", "3": "cubed"}
_SHARP = re.compile(rf"(?<={_LETTER})#")
_HASHTAG = re.compile(rf"#(?={_LETTER})")
_SLASH_BETWEEN_WORDS = re.compile(rf"(?<={_LETTER})/(?={_LETTER})")
_SYMBOL = re.compile(_any_of(_SYMBOLS))


def _read_powers(text: str) -> str:
    return _POWER.sub(lambda match: _as_words(match, _POWERS[match[1]]), text)


def _read_symbols(text: str) -> str:
    text = _SHARP.sub(lambda match: _as_words(match, "sharp"), text)
    text = _HASHTAG.sub(lambda match: _as_words(match, "hashtag"), text)
    text = _SLASH_BETWEEN_WORDS.sub(" ", text)
    return _SYMBOL.sub(lambda match: _as_words(match, _SYMBOLS[match[0]]), text)


_STEPS: tuple[Callable[[str], str], ...] = (
    _plain_characters,
    _join_lines,
    _drop_markup,
    _read_addresses,
    _read_telephones,
    _tidy_punctuation,
    _expand_abbreviations,
    _read_signs,
    _read_dates,
    _read_ranges,
    _read_times,
    _read_money,
    _read_fractions,
    _read_powers,
    _read_decades,
    _read_units,
    _read_years,
    _read_ordinals,
    _read_numbers,
    _read_symbols,
    _close_up,
)
