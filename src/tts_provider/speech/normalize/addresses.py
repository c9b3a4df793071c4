"""URLs, hosts, e-mail addresses and telephone numbers → words."""

from __future__ import annotations

import re

from tts_provider.speech.normalize.numbers import spelled
from tts_provider.speech.normalize.pattern import LETTER, as_words

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
    rf"(?<!{LETTER})(?:https?://(?:www\.)?|www\.)(?=[^\W_])({_URL_BODY})", re.IGNORECASE
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[\w-]+")
# At most five labels before the ending, so that "a.a.a.a…" is not scanned from each label on.
_HOST = re.compile(rf"(?<![\w-])(?:[\w-]+\.){{1,5}}(?i:{_ENDINGS})(?!{LETTER})(?:[/?]{_URL_BODY})?")


def read_addresses(text: str) -> str:
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


def read_telephones(text: str) -> str:
    return _TELEPHONE.sub(lambda match: as_words(match, telephone(match[0])), text)


def telephone(number: str) -> str:
    groups = ", ".join(spelled(group) for group in re.findall(r"[0-9]+", number))
    return f"plus {groups}" if number.startswith("+") else groups
