"""Names of mixed voices: `af_heart+am_michael`, `af_bella(2)+af_sky(1)`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tts_provider.errors import InvalidRequest

MOST_PARTS = 4

# A plus sign in a URL's query arrives as a space.
_SIGN = re.compile(r"\s*\+\s*|\s+")
_PART = re.compile(r"(?P<name>[a-z0-9_]+)(?:\((?P<weight>\d{1,3}(?:\.\d{1,3})?)\))?")


@dataclass(frozen=True)
class Part:
    name: str
    share: float


def parse_mixture(name: str, known: Collection[str]) -> tuple[Part, ...] | None:
    """The parts of a mixture, whose shares add up to 1; None if no part of the name is a voice of
    `known`.

    Raises `InvalidRequest` for a mixture that is not possible.
    """
    words = [_PART.fullmatch(word) for word in _SIGN.split(name.strip().lower())]
    if len(words) < 2 or not any(word and word["name"] in known for word in words):
        return None
    if len(words) > MOST_PARTS:
        raise _refused(name, f"it has {len(words)} voices, and at most {MOST_PARTS} can be mixed")
    if None in words:
        raise _refused(name, "it is not NAME+NAME or NAME(2)+NAME(1), with weights up to 999")
    parts = [(word["name"], float(word["weight"] or 1)) for word in words if word]
    for part, weight in parts:
        if part not in known:
            raise _refused(name, f"{part!r} is no voice that can be mixed")
        if weight == 0:
            raise _refused(name, f"the weight of {part} is 0; leave it out")
    whole = sum(weight for _, weight in parts)
    return tuple(Part(part, weight / whole) for part, weight in parts)


def _refused(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"the mixture {name[:64]!r} cannot be spoken: {reason}", code="unknown_voice", param="voice"
    )
