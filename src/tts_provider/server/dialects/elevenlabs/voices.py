"""The voices that ElevenLabs' clients request, and the speaker for each."""

from __future__ import annotations

from collections.abc import Mapping

from tts_provider.voices.aliases import MAN, WOMAN

# The ids of the voices that come with every account, whose names are beside them.
VOICES: Mapping[str, int] = {
    "21m00Tcm4TlvDq8ikWAM": WOMAN,  # Rachel
    "29vD33N1CtxCmqQRPOHJ": MAN,  # Drew
    "2EiwWnXFnvU5JabPnv8n": MAN,  # Clyde
    "5Q0t7uMcjvnagumLfvZi": MAN,  # Paul
    "9BWtsMINqrJLrRacOk9x": WOMAN,  # Aria
    "AZnzlk1XvdvUeBnXmlld": WOMAN,  # Domi
    "CYw3kZ02Hs0563khs1Fj": MAN,  # Dave
    "CwhRBWXzGAHq8TQ4Fs17": MAN,  # Roger
    "D38z5RcWu1voky8WS1ja": MAN,  # Fin
    "EXAVITQu4vr4xnSDxMaL": WOMAN,  # Sarah
    "ErXwobaYiN019PkySvjV": MAN,  # Antoni
    "FGY2WhTYpPnrIDTdsKH5": WOMAN,  # Laura
    "GBv7mTt0atIp3Br8iCZE": MAN,  # Thomas
    "IKne3meq5aSn9XLyUdCD": MAN,  # Charlie
    "JBFqnCBsd6RMkjVDRZzb": MAN,  # George
    "LcfcDJNUP1GQjkzn1xUU": WOMAN,  # Emily
    "MF3mGyEYCl7XYWbV9V6O": WOMAN,  # Elli
    "N2lVS1w4EtoT3dr4eOWO": MAN,  # Callum
    "ODq5zmih8GrVes37Dizd": MAN,  # Patrick
    "SAz9YHcvj6GT2YYXdXww": WOMAN,  # River
    "SOYHLrjzK2X1ezoPC6cr": MAN,  # Harry
    "TX3LPaxmHKxFdv7VOQHJ": MAN,  # Liam
    "ThT5KcBeYPX3keUQqHPh": WOMAN,  # Dorothy
    "TxGEqnHWrfWFTfGW9XjX": MAN,  # Josh
    "VR6AewLTigWG4xSOukaG": MAN,  # Arnold
    "XB0fDUnXU5powFXDhCwa": WOMAN,  # Charlotte
    "Xb7hH8MSUJpSbSDYk0k2": WOMAN,  # Alice
    "XrExE9yKIg1WjnnlVkGX": WOMAN,  # Matilda
    "ZQe5CZNOzWyzPSCn5a3c": MAN,  # James
    "Zlb1dXrM653N07WRdFW3": MAN,  # Joseph
    "bVMeCyTHy58xNoL34h3p": MAN,  # Jeremy
    "bIHbv24MWmeRgasZH58o": MAN,  # Will
    "cgSgspJ2msm6clMCkdW9": WOMAN,  # Jessica
    "cjVigY5qzO86Huf0OWal": MAN,  # Eric
    "flq6f7yk4E4fJM5XTYuZ": MAN,  # Michael
    "g5CIjZEefAph4nQFvHAz": MAN,  # Ethan
    "hpp4J3VqNfWAUOO0d1Us": WOMAN,  # Bella
    "iP95p4xoKVk53GoZ742B": MAN,  # Chris
    "jBpfuIE2acCO8z3wKNLl": WOMAN,  # Gigi
    "jsCqWAovK2LkecY7zXl4": WOMAN,  # Freya
    "nPczCjzI2devNBz1zQrb": MAN,  # Brian
    "oWAxZDx7w5VEj9dCyTzz": WOMAN,  # Grace
    "onwK4e9ZLuTAqKWW03F9": MAN,  # Daniel
    "pFZP5JQG7iQjIQuC4Bku": WOMAN,  # Lily
    "pMsXgVXv3BLzUgSXRplE": WOMAN,  # Serena
    "pNInz6obpgDQGcFmaJgB": MAN,  # Adam
    "piTKgcLEGmPE4e6mEKli": WOMAN,  # Nicole
    "pqHfZKP75CvOlQylNhV4": MAN,  # Bill
    "wViXBPUzp2ZZixB1xQuM": MAN,  # Ryan
    "yoZ06aMxZJJ28mfd3POQ": MAN,  # Sam
    "z9fAnlkpzviPz146aGWa": WOMAN,  # Glinda
    "zcAOhNBS3c14rBihAFp1": MAN,  # Giovanni
    "zrHiDhphv9ZnVXBqCLjz": WOMAN,  # Mimi
}
