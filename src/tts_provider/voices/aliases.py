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

# Where the server is for Kokoro-82M: its voices that sound most like them.
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

# The ids of the voices that come with every account, whose names are beside them.
ELEVENLABS_VOICES: Mapping[str, int] = {
    "21m00Tcm4TlvDq8ikWAM": _WOMAN,  # Rachel
    "29vD33N1CtxCmqQRPOHJ": _MAN,  # Drew
    "2EiwWnXFnvU5JabPnv8n": _MAN,  # Clyde
    "5Q0t7uMcjvnagumLfvZi": _MAN,  # Paul
    "9BWtsMINqrJLrRacOk9x": _WOMAN,  # Aria
    "AZnzlk1XvdvUeBnXmlld": _WOMAN,  # Domi
    "CYw3kZ02Hs0563khs1Fj": _MAN,  # Dave
    "CwhRBWXzGAHq8TQ4Fs17": _MAN,  # Roger
    "D38z5RcWu1voky8WS1ja": _MAN,  # Fin
    "EXAVITQu4vr4xnSDxMaL": _WOMAN,  # Sarah
    "ErXwobaYiN019PkySvjV": _MAN,  # Antoni
    "FGY2WhTYpPnrIDTdsKH5": _WOMAN,  # Laura
    "GBv7mTt0atIp3Br8iCZE": _MAN,  # Thomas
    "IKne3meq5aSn9XLyUdCD": _MAN,  # Charlie
    "JBFqnCBsd6RMkjVDRZzb": _MAN,  # George
    "LcfcDJNUP1GQjkzn1xUU": _WOMAN,  # Emily
    "MF3mGyEYCl7XYWbV9V6O": _WOMAN,  # Elli
    "N2lVS1w4EtoT3dr4eOWO": _MAN,  # Callum
    "ODq5zmih8GrVes37Dizd": _MAN,  # Patrick
    "SAz9YHcvj6GT2YYXdXww": _WOMAN,  # River
    "SOYHLrjzK2X1ezoPC6cr": _MAN,  # Harry
    "TX3LPaxmHKxFdv7VOQHJ": _MAN,  # Liam
    "ThT5KcBeYPX3keUQqHPh": _WOMAN,  # Dorothy
    "TxGEqnHWrfWFTfGW9XjX": _MAN,  # Josh
    "VR6AewLTigWG4xSOukaG": _MAN,  # Arnold
    "XB0fDUnXU5powFXDhCwa": _WOMAN,  # Charlotte
    "Xb7hH8MSUJpSbSDYk0k2": _WOMAN,  # Alice
    "XrExE9yKIg1WjnnlVkGX": _WOMAN,  # Matilda
    "ZQe5CZNOzWyzPSCn5a3c": _MAN,  # James
    "Zlb1dXrM653N07WRdFW3": _MAN,  # Joseph
    "bVMeCyTHy58xNoL34h3p": _MAN,  # Jeremy
    "bIHbv24MWmeRgasZH58o": _MAN,  # Will
    "cgSgspJ2msm6clMCkdW9": _WOMAN,  # Jessica
    "cjVigY5qzO86Huf0OWal": _MAN,  # Eric
    "flq6f7yk4E4fJM5XTYuZ": _MAN,  # Michael
    "g5CIjZEefAph4nQFvHAz": _MAN,  # Ethan
    "hpp4J3VqNfWAUOO0d1Us": _WOMAN,  # Bella
    "iP95p4xoKVk53GoZ742B": _MAN,  # Chris
    "jBpfuIE2acCO8z3wKNLl": _WOMAN,  # Gigi
    "jsCqWAovK2LkecY7zXl4": _WOMAN,  # Freya
    "nPczCjzI2devNBz1zQrb": _MAN,  # Brian
    "oWAxZDx7w5VEj9dCyTzz": _WOMAN,  # Grace
    "onwK4e9ZLuTAqKWW03F9": _MAN,  # Daniel
    "pFZP5JQG7iQjIQuC4Bku": _WOMAN,  # Lily
    "pMsXgVXv3BLzUgSXRplE": _WOMAN,  # Serena
    "pNInz6obpgDQGcFmaJgB": _MAN,  # Adam
    "piTKgcLEGmPE4e6mEKli": _WOMAN,  # Nicole
    "pqHfZKP75CvOlQylNhV4": _MAN,  # Bill
    "wViXBPUzp2ZZixB1xQuM": _MAN,  # Ryan
    "yoZ06aMxZJJ28mfd3POQ": _MAN,  # Sam
    "z9fAnlkpzviPz146aGWa": _WOMAN,  # Glinda
    "zcAOhNBS3c14rBihAFp1": _MAN,  # Giovanni
    "zrHiDhphv9ZnVXBqCLjz": _WOMAN,  # Mimi
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

_SPEAKERS = {
    name.lower(): speaker
    for names in (OPENAI_VOICES, ELEVENLABS_VOICES, CARTESIA_VOICES, DEEPGRAM_VOICES)
    for name, speaker in names.items()
}


def find_alias(name: str, voices: Sequence[Voice], aliases: Mapping[str, str]) -> Voice | None:
    """The voice that `name` stands for: what `aliases` (name → voice id) say, else the voice of
    that id, else for OpenAI's names a voice of Kokoro's that is like it, where the server is for
    Kokoro, and for other services' names this server's man or woman. None where there is none.
    Upper and lower case are the same where one name does not differ from another by it."""
    target = resolve_alias(name, aliases).lower()
    for voice in voices:
        if voice.id.lower() == target:
            return voice
    speaker = _SPEAKERS.get(target)
    fitting = _OPENAI_IN_KOKORO.get(target)
    for voice in voices:
        if voice.id == fitting and any(v.source == voice.source for v in voices if v.speaker == 0):
            return voice
    return next((v for v in voices if speaker is not None and v.speaker == speaker), None)


def resolve_alias(name: str, aliases: Mapping[str, str]) -> str:
    """What the operator says that `name` stands for, else `name`."""
    if name in aliases:
        return aliases[name]
    return next((voice for alias, voice in aliases.items() if alias.lower() == name.lower()), name)
