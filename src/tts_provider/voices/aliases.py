"""Other names of voices: those of the services whose clients speak with this server, and those
that the operator gives.

Clients of OpenAI's API offer a choice of its names only, and others have one built in, so each of
them speaks here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tts_provider.speech.engine import Voice

MAN, WOMAN = 0, 1
"""The numbers that `speaker` at the basic endpoint selects voices by."""

# Where the server is for Kokoro-82M: its voices that sound most like OpenAI's.
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
    """The voice that `name` stands for: what `aliases` (name → voice id) say, else the voice of
    that id, else for OpenAI's names a voice of Kokoro's that is like it, where the server is for
    Kokoro, and for other services' names (`speakers`, in lower case) this server's man or woman.
    None where there is none. Upper and lower case are the same where one name does not differ from
    another by it."""
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
    """What the operator says that `name` stands for, else `name`."""
    if name in aliases:
        return aliases[name]
    return next((voice for alias, voice in aliases.items() if alias.lower() == name.lower()), name)
