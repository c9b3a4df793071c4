"""Money → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import number
from tts_provider.speech.normalize.pattern import LETTER, NUMBER, any_of, as_words, number_not_after
from tts_provider.speech.normalize.units import counted, counted_parts, per, plural_unit

# fmt: off
# By sign, and by the code of ISO 4217: the unit and its hundredth.
_SIGNS = {
    "$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", None),
    "₹": ("rupee", "paisa"), "₩": ("won", None), "₽": ("ruble", "kopek"), "₺": ("lira", "kurus"),
    "₪": ("shekel", "agora"), "₫": ("dong", None), "₦": ("naira", "kobo"), "₱": ("peso", "centavo"),
    "₴": ("hryvnia", "kopiyka"), "฿": ("baht",
    "satang"), "₿": ("bitcoin", None), "zł": ("zloty", "grosz"),
    "Rs": ("rupee", "paisa"), "Rs.": ("rupee", "paisa"), "US$": ("US dollar", "cent"),
    "A$": ("Australian dollar", "cent"),
    "AU$": ("Australian dollar", "cent"), "C$": ("Canadian dollar", "cent"),
    "CA$": ("Canadian dollar", "cent"), "NZ$": ("New Zealand dollar", "cent"),
    "HK$": ("Hong Kong dollar", "cent"), "S$": ("Singapore dollar", "cent"),
    "R$": ("Brazilian real", "centavo"), "MX$": ("Mexican peso", "centavo"),
}
_CODES = {
    "USD": ("US dollar", "cent"), "EUR": ("euro", "cent"), "GBP": ("pound", "penny"),
    "JPY": ("yen", None), "CHF": ("Swiss franc", "centime"), "CAD": ("Canadian dollar", "cent"),
    "AUD": ("Australian dollar", "cent"), "NZD": ("New Zealand dollar", "cent"),
    "CNY": ("yuan", None), "RMB": ("yuan", None), "INR": ("rupee", "paisa"), "KRW": ("won", None),
    "SEK": ("Swedish krona", "ore"), "NOK": ("Norwegian krone", "ore"),
    "DKK": ("Danish krone", "ore"), "PLN": ("zloty", "grosz"), "CZK": ("Czech koruna", "haler"),
    "HUF": ("forint", None), "RUB": ("ruble", "kopek"), "TRY": ("lira", "kurus"),
    "BRL": ("Brazilian real", "centavo"), "MXN": ("Mexican peso", "centavo"),
    "ZAR": ("rand", "cent"), "SGD": ("Singapore dollar", "cent"),
    "HKD": ("Hong Kong dollar", "cent"), "THB": ("baht", "satang"), "ILS": ("shekel", "agora"),
    "AED": ("dirham", "fils"), "BTC": ("bitcoin", None), "ETH": ("ether", None),
}
_SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million",
    "mm": "million", "mio": "million", "b": "billion", "B": "billion", "bn": "billion",
    "bil": "billion", "L": "lakh", "Cr": "crore", "cr": "crore",
    "t": "trillion", "T": "trillion", "tn": "trillion",
}
# fmt: on
_NAMES = _SIGNS | _CODES
_SCALE = (
    rf"(?:(?: ?(?P<word>hundred|thousand|lakh|crore|million|billion|trillion)"
    rf"| ?(?P<letter>{any_of(_SCALES)}))"
    rf"(?!{LETTER}))?"
)
_PER = rf"(?:(?:/| / )(?P<per>{LETTER}{{1,12}})(?!\w))?"
_PRICE = re.compile(
    rf"(?:(?<!{LETTER})(?P<sign>{any_of(_SIGNS)})|(?P<bare>[$£€¥₹])|\b(?P<code>{any_of(_CODES)})) ?"
    rf"(?P<amount>{NUMBER}|\.[0-9]+){_SCALE}{_PER}"
)
# $3.5-4.2M: both ends have the scale.
_PRICE_RANGE = re.compile(
    rf"(?:(?<!{LETTER})(?P<sign>{any_of(_SIGNS)})|(?P<bare>[$£€¥₹])) ?(?P<first>{NUMBER})"
    rf"(?: ?- ?| (?P<to>to) )"
    rf"(?P<last>[0-9]+(?:[.,][0-9]+)*){_SCALE}{_PER}(?![\w-])"
)
_SIGN_LAST = re.compile(
    rf"(?P<amount>{number_not_after(LETTER)}){_SCALE} ?"
    rf"(?:(?P<sign>[$£€¥₹₩₽₺₪₫₦₱₴฿₿]|zł)(?!-?[0-9]|\w)|(?P<code>{any_of(_CODES)})(?!\w)){_PER}"
)
_MONEY = re.compile(any_of(_NAMES))
_CENTS = re.compile(rf"({number_not_after(LETTER)}) ?(¢|ct(?=\b))")


def read_price_ranges(text: MappedText) -> MappedText:
    return text.sub(_PRICE_RANGE, _price_range) if text.search(_MONEY) else text


def read_money(text: MappedText) -> MappedText:
    if text.search(_MONEY):
        text = text.sub(_PRICE, _price)
        text = text.sub(_SIGN_LAST, _price)
    return text.sub(_CENTS, _cents)


def _cents(match: re.Match[str]) -> Replacement:
    return as_words(match, *counted_parts(part(match, 1), part(match, 2, "cent")))


def _price_range(match: re.Match[str]) -> Replacement:
    groups = match.groupdict()
    sign = "sign" if groups["sign"] else "bare"
    scale = "word" if groups["word"] else "letter" if groups["letter"] else ""
    is_whole = groups["first"].isdecimal() and groups["last"].isdecimal()
    if groups["to"] and not scale:  # "from $5 to 10 people"
        return match[0]
    if not scale and not is_whole:
        unit, small = _NAMES[groups[sign]]
        ends = (
            part(
                match,
                end,
                " and ".join(counted(*coin) for coin in _coins(groups[end], unit, small)),
            )
            for end in ("first", "last")
        )
        first, last = ends
        return as_words(match, first, " to ", last, *per(match))
    words: list[str | Part] = [part(match, "first", number(groups["first"])), " to "]
    words += [part(match, "last", number(groups["last"])), " "]
    if scale:
        words += [part(match, scale, groups["word"] or _SCALES[groups["letter"]]), " "]
    words += [part(match, sign, plural_unit(_NAMES[groups[sign]][0]))]
    return as_words(match, *words, *per(match))


def _price(match: re.Match[str]) -> Replacement:
    groups = match.groupdict()
    sign = next(name for name in ("sign", "bare", "code") if groups.get(name))
    unit, small = _NAMES[groups[sign]]
    scale = "word" if groups["word"] else "letter" if groups["letter"] else ""
    words = list[str | Part]()
    if scale:
        word = groups["word"] or _SCALES[groups["letter"]]
        words += [part(match, "amount", number(groups["amount"])), " ", part(match, scale, word)]
        words += [" ", part(match, sign, plural_unit(unit))]
    else:
        for count, name in _coins(groups["amount"], unit, small):
            words += [" and "] if words else []
            words += counted_parts(part(match, "amount", count), part(match, sign, name))
    return as_words(match, *words, *per(match))


def _coins(amount: str, unit: str, small: str | None) -> list[tuple[str, str]]:
    """How many of which; 3.5 and 3.500 are three fifty; 3.506 is no sum of coins."""
    match = re.fullmatch(r"([0-9,]*)\.([0-9]{1,2})0*", amount)
    if match is None or small is None:
        return [(amount, unit)]
    whole, cents = match[1] or "0", str(int(match[2].ljust(2, "0")))
    if cents == "0":
        return [(whole, unit)]
    if not whole.strip("0,"):
        return [(cents, small)]
    return [(whole, unit), (cents, small)]
