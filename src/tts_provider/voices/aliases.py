"""Other names of voices: those of the services whose clients speak with this server, and those
that the operator gives.

Clients of OpenAI's API offer a choice of its names only, and others have one built in, so each of
them speaks here too.
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


# What Cartesia's own package, Pipecat and LiveKit have in their code and examples.
CARTESIA_VOICES: Mapping[str, int] = {
    "156fb8d2-335b-4950-9cb3-a2d33befec77": _WOMAN,  # Helpful Woman
    "228fca29-3a0a-435c-8728-5cb483251068": _MAN,  # Kiefer
    "5ee9feff-1265-424a-9d7f-8e4d431a12c7": _MAN,  # Ronald
    "694f9389-aac1-45b6-b726-9d9369183238": _WOMAN,  # Sarah
    "6ccbfb76-1fc6-48f7-b71d-91ac6298247b": _WOMAN,  # Tessa
    "71a7ad14-091c-4e8e-a314-022ece01c121": _WOMAN,  # British Reading Lady
    "794f9389-aac1-45b6-b726-9d9369183238": _WOMAN,  # Sarah, as older versions wrote her
    "79a125e8-cd45-4c13-8a67-188112f4dd22": _WOMAN,  # British Lady
    "86e30c1d-714b-4074-a1f2-1cb6b552fb49": _MAN,  # Carson
    "9626c31c-bec5-4cca-baa8-f8ba9e84c8bc": _WOMAN,  # Jacqueline
    "a0e99841-438c-4a64-b679-501ae7d6b091": _MAN,  # Barbershop Man
    "a167e0f3-df7e-4d52-a9c3-f949145efdab": _MAN,  # Blake
    "c2ac25f9-ecc4-4f56-9095-651354df60c0": _WOMAN,  # Commercial Lady
    "e07c00bc-4134-4eae-9ea4-1a55fb45746b": _WOMAN,  # Brooke
    "f786b574-daa5-4673-aa0c-cbe3e8534c02": _WOMAN,  # Katie
    "f9836c6e-a0bd-460e-9d3c-f7299fa60f94": _WOMAN,  # Caroline
}

# https://developers.deepgram.com/docs/tts-models: model, voice and language in one name.
_DEEPGRAM_MEN = (
    *("angus", "apollo", "arcas", "aries", "atlas", "draco", "helios", "hermes", "hyperion"),
    *("jupiter", "mars", "neptune", "odysseus", "orion", "orpheus", "perseus", "pluto", "saturn"),
    "zeus",
)
_DEEPGRAM_WOMEN = (
    *("amalthea", "andromeda", "asteria", "athena", "aurora", "callista", "cora", "cordelia"),
    *("delia", "electra", "harmonia", "helena", "hera", "iris", "janus", "juno", "luna"),
    *("minerva", "ophelia", "pandora", "phoebe", "selene", "stella", "thalia", "theia", "vesta"),
)
DEEPGRAM_VOICES: Mapping[str, int] = {
    f"{model}-{name}-en": speaker
    for model in ("aura", "aura-2")
    for speaker, names in ((_MAN, _DEEPGRAM_MEN), (_WOMAN, _DEEPGRAM_WOMEN))
    for name in names
}

_SERVICES = {**OPENAI_VOICES, **CARTESIA_VOICES, **DEEPGRAM_VOICES}


def find_alias(name: str, voices: Sequence[Voice], aliases: Mapping[str, str]) -> Voice | None:
    """The voice that `name` stands for: what `aliases` (name → voice id) say, else for a service's
    name this server's man or woman. None where there is none."""
    target = aliases.get(name, name)
    for voice in voices:
        if voice.id == target:
            return voice
    speaker = _SERVICES.get(target)
    return next((v for v in voices if speaker is not None and v.speaker == speaker), None)
