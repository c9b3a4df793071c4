"""Telephone numbers, and others that are read digit by digit → words."""

from __future__ import annotations

import re

from tts_provider.speech.mapped_text import MappedText, Part, Replacement, part
from tts_provider.speech.normalize.numbers import spelled
from tts_provider.speech.normalize.pattern import LETTER, as_words

_TELEPHONE = re.compile(
    r"(?<![\w.,-])\+[0-9]{1,3}(?:[ .-]?\(?[0-9]{2,4}\)?){2,4}(?![0-9])"
    r"|(?<![\w.,-])(?:1[ .-])?(?:\([0-9]{3}\)[ .-]?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}"
    r"(?:-[0-9]{1,5})?(?![0-9])"
)
_MAY_BE_TELEPHONE = re.compile(r"\+[0-9]|[0-9]{3}[ .-][A-Z0-9]")
_FREE_OF_CHARGE = re.compile(
    r"(?<![\w.,-])(\+?1[ .-])?8(00|33|44|55|66|77|88)[ .-]"
    r"((?=[A-Z0-9-]*[A-Z])[A-Z0-9]+(?:-[A-Z0-9]+){0,4})(?![\w-])"
)
_SOCIAL_SECURITY = re.compile(r"[0-9](?<![\w.,-].)[0-9]{2}-[0-9]{2}-[0-9]{4}(?![\w-])")
# A card's number, or what begins with a zero, which no amount does.
_IN_GROUPS = re.compile(
    r"(?<![\w.,-])(?:[0-9]{4}(?:[ -][0-9]{4}){2,4}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{5}"
    r"|\(0[0-9]{1,4}\)(?:[ -]?[0-9]{3,4})(?:[ -][0-9]{3,4}){0,3}|0[0-9]{1,4}(?:[ -][0-9]{2,4}){2,5}"
    r"|0[0-9]{2,4}[ -][0-9]{5,7}|[0-9]{3}[ -]0[0-9]{3}|555[ -][0-9]{4})(?![\w/]|[-.,:][0-9]| [0-9])"
)
_EMERGENCY = re.compile(
    r"(?i)(?=[cdp])\b((?:call(?:ed|ing|s)?|dial(?:ed|ling|ing|s)?|phone) )"
    r"(911|999|112|988|411|311|101)\b"
)
# What stands behind these words is read digit by digit.
_CODE = re.compile(
    rf"(?i)(?=[acefilmoprstvz])(?<!{LETTER})"
    r"((?:zip(?: ?code)?|post ?code|postal code|pin(?: code)?|otp|passcode"
    r"|(?:access|security|verification|confirmation|area|sort|country) code|code|pnr|ssn|imei"
    r"|isbn|iban"
    r"|(?:card|account|acct|routing|tracking|order|invoice|serial|case|ticket|reference|ref"
    r"|confirmation|policy|passport|customer|member|employee|flight)(?: (?:number|no\.?|num\.?))"
    r"|ending in|ends in|extension|ext\.?|flight|last four(?: digits)?)"
    r"(?: is| are|:|,)* ?#?)(?=[\w-]* ?[0-9])"
    r"((?:[A-Za-z]{1,3} ?)?[0-9][\w]*(?: [0-9]{3,4}){0,6}(?:-[0-9]{1,7}){0,5})(?![\w])"
)


def read_telephones(text: MappedText) -> MappedText:
    if text.search(_MAY_BE_TELEPHONE):
        text = text.sub(_FREE_OF_CHARGE, _free_of_charge)
        text = text.sub(_TELEPHONE, _groups)
    text = text.sub(_IN_GROUPS, _groups)
    text = text.sub(_SOCIAL_SECURITY, _groups)
    text = text.sub(_EMERGENCY, lambda match: (part(match, 1), part(match, 2, spelled(match[2]))))
    return text.sub(_CODE, _code)


def telephone(number: str) -> str:
    groups = ", ".join(spelled(group) for group in re.findall(r"[0-9]+", number))
    return f"plus {groups}" if number.startswith("+") else groups


def _groups(match: re.Match[str]) -> Replacement:
    words = list[str | Part]()
    for digits in re.finditer("[0-9]+", match[0]):
        start, end = (match.start() + place for place in digits.span())
        words += [", "] if words else []
        words.append(Part(spelled(digits[0]), start, end))
    return as_words(match, *(["plus "] if match[0].startswith("+") else []), *words)


def _free_of_charge(match: re.Match[str]) -> Replacement:
    words = list[str | Part]()
    if match[1]:
        words += [part(match, 1, "plus one" if match[1].startswith("+") else "one"), ", "]
    area = "eight hundred" if match[2] == "00" else spelled("8" + match[2])
    letters = re.sub("[0-9]+", lambda digits: spelled(digits[0]), match[3].replace("-", " "))
    words += [Part(area, match.start(2) - 1, match.end(2)), ", ", part(match, 3, letters)]
    return as_words(match, *words)


def _code(match: re.Match[str]) -> Replacement:
    digits = re.sub("[^0-9]", "", match[2])
    # "flight 7" and "code 5 is" are small numbers; a code with few digits is one word.
    if len(digits) < 3 or digits.endswith("000"):
        return match[0]
    words: list[str | Part] = [part(match, 1)]
    for piece in re.finditer("(?P<digits>[0-9]+)|(?P<hyphen>-)|[^ 0-9-]+", match[2]):
        start, end = (match.start(2) + place for place in piece.span())
        words += [" "] if len(words) > 1 and not piece["hyphen"] else []
        said = "," if piece["hyphen"] else spelled(piece[0]) if piece["digits"] else piece[0]
        words.append(Part(said, start, end))
    return tuple(words)
