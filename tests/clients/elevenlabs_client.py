"""Runs in an environment of its own: ElevenLabs' own package speaks a text with the server.

    python elevenlabs_client.py BASE_URL WAY TEXT VOICE OUTPUT_FORMAT

WAY is the name of the package's method, or `lists`. Prints JSON: the audio in base64 and the
characters with their times, or what the lists have.
"""

import base64
import json
import sys

from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError


def main(base_url: str, way: str, text: str, voice: str, output_format: str) -> dict:
    client = ElevenLabs(api_key="any", base_url=base_url)
    speech = client.text_to_speech
    if way == "lists":
        return {
            "voices": [(voice.voice_id, voice.name) for voice in client.voices.get_all().voices],
            "search": [(voice.voice_id, voice.name) for voice in client.voices.search().voices],
            "voice": client.voices.get(voice).name,
            "models": [(m.model_id, m.can_do_text_to_speech) for m in client.models.list()],
            "status": client.user.subscription.get().status,
            "user": client.user.get().subscription.tier,
        }
    options = {"voice_id": voice, "output_format": output_format}
    if way == "convert_realtime":
        return tell(b"".join(speech.convert_realtime(text=iter(text.split(" ")), **options)))
    if way in ("convert", "stream"):
        pieces = getattr(speech, way)(text=text, model_id="eleven_flash_v2_5", seed=7, **options)
        return tell(b"".join(pieces))
    reply = getattr(speech, way)(text=text, voice_settings={"speed": 0.9}, **options)
    parts = [reply] if way == "convert_with_timestamps" else list(reply)
    characters = [
        (character, start)
        for part in parts
        if part.alignment is not None
        for character, start in zip(
            part.alignment.characters, part.alignment.character_start_times_seconds, strict=True
        )
    ]
    return tell(b"".join(base64.b64decode(part.audio_base_64) for part in parts), characters)


def tell(audio: bytes, characters: list | None = None) -> dict:
    return {"audio": base64.b64encode(audio).decode(), "characters": characters}


try:
    report = main(*sys.argv[1:])
except ApiError as error:
    report = {"status": error.status_code, "body": error.body}
json.dump(report, sys.stdout, default=str)
