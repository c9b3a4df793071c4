"""The length of a requested silence."""

from __future__ import annotations

import re

LONGEST_PAUSE_S = 10.0
_TIME = re.compile(r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s)")


def read_pause(time: str) -> float | None:
    """`500ms` and `0.5s` in seconds, of any length; None if it is not a time."""
    match = _TIME.fullmatch(time.strip())
    if match is None:
        return None
    return float(match[1]) / (1000 if match[2] == "ms" else 1)
