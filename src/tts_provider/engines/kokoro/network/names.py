"""The names of the inputs and outputs of Kokoro's parts."""

from __future__ import annotations

TOKENS, STYLE, SPEED = "tokens", "style", "speed"
PITCH, FEATURES, HARMONICS = "pitch", "features", "harmonics"
DURATIONS, AUDIO, IS_GIVEN = "durations", "audio", "is_given"


def mean_of(norm: int) -> str:
    return f"mean_{norm}"


def variance_of(norm: int) -> str:
    return f"variance_{norm}"


def used(name: str) -> str:
    """The output that tells what was used for an input."""
    return f"used_{name}"


def statistics_names(norms: int) -> list[str]:
    return [name for norm in range(norms) for name in (mean_of(norm), variance_of(norm))]
