"""What is not words: odd characters, line breaks, Markdown and HTML, brackets and dashes."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.pattern import CURRENCY, LETTER

# --- Characters ----------------------------------------------------------------------------------

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


def plain_characters(text: str) -> str:
    text = _UNSPEAKABLE.sub(" ", text.translate(_CHARACTERS))
    return _EN_DASH_RANGE.sub("-", text).replace("–", " -- ")


# --- Lines ---------------------------------------------------------------------------------------

_LIST_NUMBER = re.compile(r"^([0-9]{1,3})[.)]\s")
_BLOCK = re.compile(r"^(?:(?:#{1,6}|[-+*•])\s)+|^\|")


def join_lines(text: str) -> str:
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


# --- Markdown and HTML ---------------------------------------------------------------------------

_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\[\]\s]*\)")
_AUTOLINK = re.compile(r"<(https?://[^\s<>]+|[^\s<>@]+@[^\s<>]+)>")
_TAG = re.compile(
    r"</?(?:b|i|u|s|em|strong|p|br|hr|code|pre|ul|ol|li|sub|sup|div|span|h[1-6]|a) ?/?>"
    r"|<(?:a|img|div|span|p) [a-z]+=[^<>]*>",
    re.IGNORECASE,
)
_TIMES_SIGN = re.compile(r"(?<=[0-9])(?:\*| \* )(?=[0-9])")
_EMOTICON = re.compile(r"(?<!\S)[:;]-?[()](?!\S)")


def drop_markup(text: str) -> str:
    text = _LINK.sub(r"\1", text)
    text = _AUTOLINK.sub(r" \1 ", text)
    text = _TAG.sub(" ", text)
    text = _EMOTICON.sub("", text)
    text = _TIMES_SIGN.sub("×", text)
    text = re.sub(r"[*`]|\\(?=[^\w\s])|#{2,}", "", text)
    text = re.sub(rf"(?<={LETTER})\(s\)", "s", text)
    return re.sub(r"\(\)|\[\]|\{\}|\\", " ", text)


# --- Punctuation ---------------------------------------------------------------------------------

_LEADING_POINT = re.compile(r"(?<![\w.])\.(?=[0-9])")
_CLOSED_SENTENCE = re.compile(r"(?<=[.!?])[)\]}]")
_PAUSE = re.compile(r"[()\[\]{}|•]|--+| - ")
_SPACED_DASH = re.compile(rf"(?<![0-9])([0-9]+) - (?={CURRENCY}?([0-9]+))")
_CURRENCY_MINUS = re.compile(rf"({CURRENCY})-(?=[0-9])")
_STRAY = re.compile(
    rf"_|={{3,}}|~(?!-?{CURRENCY}?[0-9])|\^(?![^\W_]|-[0-9])"
    rf"|(?<![^\W_])-(?!{CURRENCY}?[0-9])|-(?![^\W_]|{CURRENCY}[0-9])"
)
_MARKS = re.compile(r"[,.;:!?](?: ?[,.;:!?])+")
_COMMA_AFTER_QUOTED_MARK = re.compile(r"(?<=[,.;:!?][\"']) ?,")
_SPACE_BEFORE_MARK = re.compile(r" ([,.;:!?])(?!\w)")


def tidy_punctuation(text: str) -> str:
    """Brackets and dashes become commas, and of several marks in a row the strongest stays."""
    text = _LEADING_POINT.sub("0.", text.rstrip(" ()[]{}"))
    text = _CLOSED_SENTENCE.sub(" ", text)
    text = _SPACED_DASH.sub(_spaced_dash, text)
    text = _PAUSE.sub(" , ", text)
    text = _CURRENCY_MINUS.sub(r"-\1", text)
    text = _STRAY.sub(" ", text)
    text = _MARKS.sub(_strongest_mark, " ".join(text.split()))
    text = _COMMA_AFTER_QUOTED_MARK.sub("", text)
    return close_up(text).lstrip(" ,.;:!?")


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


def close_up(text: str) -> str:
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))
