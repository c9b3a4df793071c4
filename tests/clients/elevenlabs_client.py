"""Runs in an environment of its own: ElevenLabs' own package speaks a text with the server.

    python elevenlabs_client.py BASE_URL TLS_URL CA_FILE KEY TEXT VOICE OTHER_VOICE

TLS_URL is the same server behind TLS, with a certificate by CA_FILE: the package's method for
texts that are still written asks for nothing else. Prints JSON: of each method the audio in base64
and the characters with their times, what the lists have, and how what is wrong is told.
"""

import base64
import json
import os
import sys

from elevenlabs import DialogueInput, VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError


def main(
    base_url: str, tls_url: str, ca_file: str, key: str, text: str, voice: str, other: str
) -> dict:
    os.environ["SSL_CERT_FILE"] = ca_file
    client = ElevenLabs(api_key=key, base_url=base_url)
    speech = client.text_to_speech
    mp3, pcm = {"voice_id": voice}, {"voice_id": voice, "output_format": "pcm_24000"}
    slow, words = VoiceSettings(speed=0.9), [word + " " for word in text.split()]
    written = ElevenLabs(api_key=key, base_url=tls_url).text_to_speech
    lines = list(speech.stream_with_timestamps(text=text, **pcm))
    dialogue, said = client.text_to_dialogue, {"output_format": "pcm_24000"}
    said["inputs"] = [DialogueInput(text=text, voice_id=each) for each in (voice, other)]
    scene = dialogue.convert_with_timestamps(**said)
    parts = list(dialogue.stream_with_timestamps(**said))
    whole = speech.convert_with_timestamps(text=text, voice_settings=slow, **pcm)
    return {
        "convert": told(speech.convert(text=text, model_id="eleven_flash_v2_5", seed=7, **mp3)),
        "stream": told(speech.stream(text=text, **mp3)),
        "convert_with_timestamps": told([base64.b64decode(whole.audio_base_64)]),
        "stream_with_timestamps": told(base64.b64decode(line.audio_base_64) for line in lines),
        "convert_realtime": told(written.convert_realtime(text=iter(words), **mp3)),
        "dialogue": told(dialogue.convert(**said)),
        "dialogue_stream": told(dialogue.stream(**said)),
        "dialogue_with_timestamps": told([base64.b64decode(scene.audio_base_64)]),
        "dialogue_stream_with_timestamps": told(base64.b64decode(p.audio_base_64) for p in parts),
        "voice_segments": [
            [[s.voice_id, s.dialogue_input_index] for s in each.voice_segments]
            for each in (scene, *parts)
        ],
        "wrong_dialogue": wrong(lambda: dialogue.convert(inputs=[])),
        "characters": [spelled(whole), *map(spelled, lines)],
        "voices": [voice.voice_id for voice in client.voices.get_all().voices],
        "search": [voice.voice_id for voice in client.voices.search(search="fem").voices],
        "voice": client.voices.get(voice).voice_id,
        "models": [(m.model_id, m.can_do_text_to_speech) for m in client.models.list()],
        "status": client.user.subscription.get().status,
        "tier": client.user.get().subscription.tier,
        "wrong_voice": wrong(lambda: speech.convert("nobody", text=text)),
        "wrong_format": wrong(lambda: speech.convert(voice, text=text, output_format="pcm_7")),
        "wrong_text": wrong(lambda: written.convert_realtime(text=iter("!!"), **pcm)),
        "wrong_key": wrong(
            lambda: ElevenLabs(api_key="no", base_url=base_url).text_to_speech.convert(
                voice, text=text
            )
        ),
    }


def told(pieces) -> str:
    return base64.b64encode(b"".join(pieces)).decode()


def spelled(part) -> str | None:
    return part.alignment and "".join(part.alignment.characters)


def wrong(call) -> list:
    try:
        list(call())
    except ApiError as error:
        return [error.status_code, error.body]
    return []


json.dump(main(*sys.argv[1:]), sys.stdout)
