"""Telephone numbers, and others that are read digit by digit → words."""

from __future__ import annotations

import re

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


def read_telephones(text: str) -> str:
    if _MAY_BE_TELEPHONE.search(text):
        text = _FREE_OF_CHARGE.sub(_free_of_charge, text)
        text = _TELEPHONE.sub(lambda match: as_words(match, telephone(match[0])), text)
    text = _SOCIAL_SECURITY.sub(lambda match: as_words(match, telephone(match[0])), text)
    text = _EMERGENCY.sub(lambda match: match[1] + as_words(match, spelled(match[2])).strip(), text)
    return _CODE.sub(_code, text)


def telephone(number: str) -> str:
    groups = ", ".join(spelled(group) for group in re.findall(r"[0-9]+", number))
    return f"plus {groups}" if number.startswith("+") else groups


def _free_of_charge(match: re.Match[str]) -> str:
    country, rest = match[1] or "", match[3].replace("-", " ")
    prefix = ("plus " if country.startswith("+") else "") + ("one, " if country else "")
    area = "eight hundred" if match[2] == "00" else spelled("8" + match[2])
    letters = re.sub("[0-9]+", lambda digits: spelled(digits[0]), rest)
    return as_words(match, f"{prefix}{area}, {letters}")


def _code(match: re.Match[str]) -> str:
    cue, code = match[1], match[2]
    digits = re.sub("[^0-9]", "", code)
    # "flight 7" and "code 5 is" are small numbers; a code with few digits is one word.
    if len(digits) < 3 or digits.endswith("000"):
        return match[0]
    spoken = re.sub("[0-9]+", lambda run: f" {spelled(run[0])} ", code.replace("-", ", "))
    return cue + " ".join(spoken.split()).replace(" ,", ",")
