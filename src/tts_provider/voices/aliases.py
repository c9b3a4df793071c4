"""Other names of voices: those of other services, and those that the operator sets.

Clients of OpenAI's API can only choose among its names, and others have a name built in. These
names select a voice here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tts_provider.speech.engine import Voice

MAN, WOMAN = 0, 1
"""The numbers that `speaker` at the basic endpoint selects voices by."""

# For a server that serves Kokoro-82M: its voices that sound most like OpenAI's.
_OPENAI_IN_KOKORO = {
    "alloy": "af_alloy",
    "ash": "am_fenrir",
    "ballad": "bm_george",
    "cedar": "am_michael",
    "coral": "af_bella",
    "echo": "am_echo",
    "fable": "bm_fable",
    "marin": "af_aoede",
    "nova": "af_nova",
    "onyx": "am_onyx",
    "sage": "af_sarah",
    "shimmer": "af_sky",
    "verse": "am_puck",
}


def find_alias(
    name: str, voices: Sequence[Voice], aliases: Mapping[str, str], speakers: Mapping[str, int]
) -> Voice | None:
    """Find the voice that `name` stands for, or None. The first of these applies: what `aliases`
    (name → voice id) say; the voice with that id; for OpenAI's names, a similar voice of Kokoro's
    if the server serves Kokoro; for the names of other services (`speakers`, in lower case), this
    server's man or woman. Case matters only if two names differ in nothing else."""
    target = resolve_alias(name, aliases).lower()
    for voice in voices:
        if voice.id.lower() == target:
            return voice
    speaker = speakers.get(target)
    fitting = _OPENAI_IN_KOKORO.get(target)
    for voice in voices:
        if voice.id == fitting and any(
            v.source == voice.source for v in voices if v.speaker == MAN
        ):
            return voice
    return next((v for v in voices if speaker is not None and v.speaker == speaker), None)


def resolve_alias(name: str, aliases: Mapping[str, str]) -> str:
    """The voice id that the operator set for `name`, else `name`."""
    if name in aliases:
        return aliases[name]
    return next((voice for alias, voice in aliases.items() if alias.lower() == name.lower()), name)
