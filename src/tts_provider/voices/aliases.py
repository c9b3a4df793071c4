"""Other names of voices: other services' own, and those that the operator gives.

Clients of these services offer a choice of their names only, so each speaks here too.
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

_SPEAKERS = {
    name.lower(): speaker
    for names in (OPENAI_VOICES, ELEVENLABS_VOICES)
    for name, speaker in names.items()
}


def find_alias(name: str, voices: Sequence[Voice], aliases: Mapping[str, str]) -> Voice | None:
    """The voice that `name` stands for: what `aliases` (name → voice id) say, else the voice of
    that id, else for other services' names this server's man or woman. None where there is none.
    Upper and lower case are the same where one name does not differ from another by it."""
    target = resolve_alias(name, aliases).lower()
    for voice in voices:
        if voice.id.lower() == target:
            return voice
    speaker = _SPEAKERS.get(target)
    return next((v for v in voices if speaker is not None and v.speaker == speaker), None)


def resolve_alias(name: str, aliases: Mapping[str, str]) -> str:
    """What the operator says that `name` stands for, else `name`."""
    if name in aliases:
        return aliases[name]
    return next((voice for alias, voice in aliases.items() if alias.lower() == name.lower()), name)
