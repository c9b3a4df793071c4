"""Runs in an environment of its own: Deepgram's own package speaks with the server.

    python deepgram_client.py HTTP_URL KEY TEXT LONG_TEXT

Prints JSON: audio in base64, and what was told, by the name of what was tried.
"""

import base64
import json
import sys

from deepgram import DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.types import SpeakV1Text
from websockets.exceptions import InvalidStatus


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def hear_until(socket, kind: str) -> tuple[bytes, list[str]]:
    audio, kinds = b"", []
    for message in socket:
        if isinstance(message, bytes):
            audio += message
            continue
        kinds.append(message.type)
        if message.type == kind:
            break
    return audio, kinds


def main(url: str, key: str, text: str, long_text: str) -> None:
    socket_url = url.replace("http", "ws", 1)
    places = DeepgramClientEnvironment(
        base=url, production=socket_url, agent=socket_url, agent_rest=url
    )
    client = DeepgramClient(api_key=key, environment=places)
    report = {"errors": {}}
    for name, options in {
        "mp3": {},
        "wav": {"encoding": "linear16", "model": "aura-2-thalia-en", "sample_rate": 32_000},
        "mulaw": {"encoding": "mulaw", "container": "none", "model": "aura-2-zeus-en"},
        "opus": {"encoding": "opus", "container": "ogg", "model": "male"},
        "flac": {"encoding": "flac"},
        "aac": {"encoding": "aac"},
    }.items():
        report[name] = encode(b"".join(client.speak.v1.audio.generate(text=text, **options)))
    models = client.manage.v1.models.list().tts
    report["models"] = [[model.canonical_name, model.languages] for model in models]
    with client.speak.v1.connect(
        model="aura-2-thalia-en", encoding="linear16", sample_rate=24_000
    ) as socket:
        socket.send_text(SpeakV1Text(text=long_text))
        socket.send_flush()
        for message in socket:
            if isinstance(message, bytes):
                break
        socket.send_clear()
        _, report["cleared"] = hear_until(socket, "Cleared")
        for word in text.split():
            socket.send_text(SpeakV1Text(text=f"{word} "))
        socket.send_flush()
        audio, report["flushed"] = hear_until(socket, "Flushed")
        report["websocket"] = encode(audio)
        socket.send_text(SpeakV1Text(text="\0"))
        _, report["warned"] = hear_until(socket, "Warning")
        socket.send_close()
        report["closed"] = [message for message in socket if isinstance(message, bytes)]

    wrong = DeepgramClient(api_key="wrong", environment=places)
    for name, act in [
        ("voice", lambda: list(client.speak.v1.audio.generate(text=text, model="nobody"))),
        ("key", lambda: list(wrong.speak.v1.audio.generate(text=text))),
    ]:
        try:
            act()
        except ApiError as error:
            report["errors"][name] = [error.status_code, error.body["err_code"]]
    try:
        with wrong.speak.v1.connect():
            pass
    except InvalidStatus as error:  # which the package knows older versions of only
        response = error.response
        report["errors"]["socket"] = [response.status_code, response.headers["dg-error"]]
    json.dump(report, sys.stdout)


main(*sys.argv[1:])
