"""Which words are English: lists that `training/english_words.py` makes of others'."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files

# Two letters: the list has `cs`, `em` and `pi` as well.
_SHORT = frozenset(
    """
    ad ah am an as at ax be by do eh go ha he hi ho id if in is it ma me my no of oh on or ox pa so
    to up us we
    """.split()  # noqa: SIM905
)
_ONSETS = (
    "bl|br|ch|chl|chr|cl|cr|dr|dw|fl|fr|gh|gl|gn|gr|gw|kh|kl|kn|kr|ph|phl|phr|pl|pr|qu|rh|sc|sch|scr"
    "|sh|shr|sk|sl|sm|sn|sp|sph|spl|spr|squ|st|str|sv|sw|th|thr|tr|tw|vl|wh|wr|dh|bh|jh|zh|ts"
)
_CODAS = (
    "[bcdfghklmnprstvwxz]|ck|ct|ff|ft|gh|ght|gs|ks|ld|lf|lk|ll|lls|lm|lp|ls|lt|lv|lz|mb|mp|ms|nc|nch|nd|ng|ngs|nk"
    "|nks|nn|ns|nt|nts|nz|ph|pp|ps|pt|rc|rch|rd|rds|rf|rg|rk|rks|rl|rm|rms|rn|rns|rp|rr|rs|rsh|rt|rth"
    "|rts|rz|sh|sk|sm|sp|ss|st|sts|tch|th|ths|ts|tt|tz|tts|wl|wn|zz|ch|dh|hn|hr|bs|ds|cks|sch|tch"
)
_SPEAKABLE = re.compile(
    rf"(?:{_ONSETS}|[bcdfghjklmnprstvwyz])?[aeiouy]{{1,3}}"
    rf"(?:[bcdfghjklmnpqrstvwxz]{{1,3}}[aeiouy]{{1,3}}){{0,8}}(?:{_CODAS})?"
)


@lru_cache(maxsize=1)
def _words() -> dict[str, str]:
    """By their letters in capitals, as they are written: in small letters where there are both."""
    words = dict[str, str]()
    for word in _read("words.txt"):
        if len(word) > 2 or word in _SHORT:
            words[word.upper()] = word
    return words


@lru_cache(maxsize=1)
def acronyms() -> frozenset[str]:
    """In capitals, and said as a word: NASA."""
    return frozenset(_read("acronyms.txt"))


def as_written(capitals: str) -> str | None:
    """An English word or name that is here in capitals, `AMERICA`, as it is written; None where it
    is none."""
    return _words().get(capitals)


def is_word(word: str) -> bool:
    return word.upper() in _words()


def is_speakable(letters: str) -> bool:
    """Whether its letters, in small ones, could be a word's or a name's."""
    return _SPEAKABLE.fullmatch(letters) is not None


def _read(name: str) -> list[str]:
    return files(__name__).joinpath(name).read_text("utf-8").split()
