"""Other names of voices: OpenAI's thirteen, and those that the operator gives.

Clients of OpenAI's API offer a choice of these names only, so each speaks here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tts_provider.speech.engine import Voice

_MAN, _WOMAN = 0, 1  # the seed's numbers of its speakers

# By how OpenAI's voices sound; alloy and fable could be either.
OPENAI_VOICES: Mapping[str, int] = {
    "alloy": _WOMAN,
    "ash": _MAN,
    "ballad": _MAN,
    "cedar": _MAN,
    "coral": _WOMAN,
    "echo": _MAN,
    "fable": _MAN,
    "marin": _WOMAN,
    "nova": _WOMAN,
    "onyx": _MAN,
    "sage": _WOMAN,
    "shimmer": _WOMAN,
    "verse": _MAN,
}


def find_alias(name: str, voices: Sequence[Voice], aliases: Mapping[str, str]) -> Voice | None:
    """The voice that `name` stands for: what `aliases` (name → voice id) say, else for OpenAI's
    names this server's man or woman. None where there is none."""
    target = aliases.get(name, name)
    for voice in voices:
        if voice.id == target:
            return voice
    speaker = OPENAI_VOICES.get(target)
    return next((v for v in voices if speaker is not None and v.speaker == speaker), None)
