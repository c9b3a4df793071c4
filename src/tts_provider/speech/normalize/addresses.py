"""URLs, hosts, e-mail addresses, file paths, hashtags and handles → words."""

from __future__ import annotations

import re

from tts_provider.speech.abbreviations import SENTENCE_STARTS
from tts_provider.speech.mapped_text import MappedText
from tts_provider.speech.normalize.numbers import spelled
from tts_provider.speech.normalize.pattern import LETTER, as_words

# fmt: off
_ADDRESS_SYMBOLS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "?": "question mark", "=": "equals",
    "&": "ampersand", "#": "hash", "%": "percent", ":": "colon", "~": "tilde", "+": "plus",
    "@": "at", "\\": "backslash", "*": "star",
}
# fmt: on
_URL_BODY = r"[^\s<>\"()\[\]{}|]+"
_URL = re.compile(
    rf"(?<!{LETTER})(?:(?:https?|ftp|wss?)://(?:www\.)?|(?=www\.[^\W_]))(?=[^\W_])({_URL_BODY})",
    re.IGNORECASE,
)
_FILE_URL = re.compile(r"(?<!\w)file:///[^\s<>\"]+")
_EMAIL = re.compile(
    r"(?<![\w.+&-])[A-Za-z0-9][\w.+&-]*@(?:[\w-]+\.)+[\w-]+(?:/[\w./-]*)?|(?<![\w.+&-])mailto:(?=\w)"
)
# Known endings, in any case. At most five labels before the ending, so that "a.a.a.a…" is not
# scanned from each label on.
_ENDINGS = (
    "com|org|net|edu|gov|info|io|ai|dev|app|tv|uk|de|eu|fr|ca|au|nl|ch|jp"
    "|py|js|ts|json|html|css|md|txt|csv|pdf|exe|zip|wav|mp3|png|jpg|yaml|toml"
)
_TAIL = rf"(?!{LETTER})(?::[0-9]{{2,5}}(?![0-9]))?(?:[/?]{_URL_BODY})?"
_HOST = re.compile(
    rf"(?<![\w-])(?:(?:[\w-]+\.){{1,5}}(?i:{_ENDINGS})|localhost(?=:[0-9]|/\w)){_TAIL}"
)
# Any other ending where all is in small letters: "me.It" and "end.then" have lost a space.
_OTHER_HOST = re.compile(
    rf"(?<![^\W\d_])(?<![.-])(?:[a-z][a-z0-9-]{{1,62}}\.){{1,5}}([a-z]{{2,12}})(?![^\W\d]|-|\.\w){_TAIL}"
)
_PATH = re.compile(
    r"(?<![\w/.~\\-])(?:~/(?=[\w.])|~(?=[a-z]\w*/)|\.{1,2}/(?=\w)|/(?=[a-z._][\w.-]*/\w)|[A-Za-z]:\\(?=\w))"
    r"[\w./\\~+-]*[\w/\\]"
)
_IP = re.compile(
    r"([0-9](?<![\w.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3})(?![\w]|\.[0-9])(?::([0-9]{2,5})(?![0-9]))?(/[0-9]{1,2}(?![0-9]))?"
)
_HANDLE = re.compile(r"(?<![\w@.])@(?=[A-Za-z_]\w)(\w+)(?!\w|\.\w)")
_BETWEEN_HASHES = re.compile(r"(?<![\w#&])#(\w{1,60})#(?![\w#])")
_HASHTAG = re.compile(r"(?<![\w#&])#(?=\w*[A-Za-z])(\w+)(?!\w|\.\w)")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")


def read_addresses(text: MappedText) -> MappedText:
    if "://" in text or "." in text:
        text = text.sub(_FILE_URL, lambda match: _address(match[0]))
        text = text.sub(_URL, lambda match: _address(match[1]))
    if "@" in text or "mailto:" in text:
        text = text.sub(_EMAIL, lambda match: _address(match[0].removeprefix("mailto:")))
    text = text.sub(_IP, _ip)
    if "/" in text or ":\\" in text:
        text = text.sub(_PATH, lambda match: _address(match[0]))
    if "." in text or "localhost" in text:
        text = read_hosts(text)
    if "@" in text:
        text = text.sub(_HANDLE, lambda match: as_words(match, f"at {_tag(match[1])}"))
    if "#" not in text:
        return text
    text = text.sub(_BETWEEN_HASHES, lambda match: as_words(match, f"hash {_tag(match[1])} hash"))
    return text.sub(_HASHTAG, lambda match: as_words(match, f"hashtag {_tag(match[1])}"))


def read_hosts(text: MappedText) -> MappedText:
    text = text.sub(_HOST, lambda match: _address(match[0]))
    return text.sub(_OTHER_HOST, _other_host)


def _other_host(match: re.Match[str]) -> str:
    labels = match[0].split(".")
    if match[1] in SENTENCE_STARTS or len(labels[0]) < 2:
        return match[0]
    return _address(match[0])


def _ip(match: re.Match[str]) -> str:
    words = " dot ".join(spelled(part) for part in match[1].split("."))
    if match[2]:
        words += f" colon {spelled(match[2])}"
    if match[3]:
        words += f" slash {spelled(match[3][1:])}"
    return f" {words} "


def _address(body: str) -> str:
    """Every symbol is named, and digits are read one by one."""
    address = body.rstrip(".,;:!?'")
    tail, address = body[len(address) :], address if len(address) < 3 else address.rstrip("/")
    spoken = "".join(f" {_ADDRESS_SYMBOLS[c]} " if c in _ADDRESS_SYMBOLS else c for c in address)
    spoken = re.sub(r"\betc\b", "E T C", spoken)  # or it would be "et cetera"
    spoken = re.sub(r"(?<=dot )jpg\b", "jpeg", spoken, flags=re.IGNORECASE)
    spoken = re.sub("[0-9]+", lambda digits: f" {spelled(digits[0])} ", spoken)
    spoken = re.sub(r"(?<![^\W_])a(?![^\W_])", "A", spoken)  # the letter
    return f" {' '.join(spoken.split())}{tail} "


def _tag(name: str) -> str:
    """A hashtag or a handle as its words: `#OpenSource2024`."""
    return " ".join(_HUMPS.sub(" ", name).replace("_", " ").split())
