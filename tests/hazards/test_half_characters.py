"""Half a surrogate pair, which JSON can write and UTF-8 cannot, in any field: never a fault."""

from __future__ import annotations

import json

import httpx2
import pytest

from servers import open_socket, receive, running_server

HALVES = ("\ud800", "\udfff", "a\udc80b", "\0", "\x1b[2J")
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
BODIES = {
    "/v1/audio/speech": {
        "input": "a",
        "voice": "male",
        "response_format": "pcm",
        "pronunciations": {"a": "b"},
    },
    "/tts/bytes": {"transcript": "a", "voice": "male", "output_format": RAW, "speed": "normal"},
    "/tts/sse": {"transcript": "a", "voice": "male", "output_format": RAW, "context_id": "c"},
    "/v1/text-to-speech/male": {"text": "a", "apply_text_normalization": "on"},
    "/v1/speak": {"text": "a"},
}
MESSAGES = {
    "": {"text": "a", "voice": "male", "request_id": "r", "format": "pcm", "command": None},
    "v1/stream": {"type": "input_text.append", "context_id": "c", "text": "a", "voice": "male"},
    "tts/websocket": {"context_id": "c", "transcript": "a", "voice": "m", "output_format": RAW},
    "v1/speak": {"type": "Speak", "text": "a"},
    "v1/text-to-speech/male/multi-stream-input": {"text": "a", "context_id": "c"},
}


def spoiled(body: dict, half: str):
    """The body with one field after the other as no text is."""
    for name in body:
        yield {**body, name: half}
        yield {**body, half: half}
    for name in ("pronunciations", "output_format", "voice_settings"):
        yield {**body, name: {half: half}}


@pytest.mark.parametrize("path", BODIES)
async def test_over_http(path, caplog):
    async with running_server() as server:
        base_url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=base_url, timeout=60) as client:
            for half in HALVES:
                for body in spoiled(BODIES[path], half):
                    reply = await client.post(
                        path,
                        content=json.dumps(body),
                        headers={"Content-Type": "application/json"},
                    )
                    assert reply.status_code in (200, 400, 422), (body, reply.text)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", MESSAGES)
async def test_over_sockets(path, caplog):
    async with running_server() as server:
        async with open_socket(server, path=path) as socket:
            for half in HALVES:
                for body in spoiled(MESSAGES[path], half):
                    await socket.send(json.dumps(body))
            # What is behind them is answered.
            await socket.send("{")
            while "nvalid JSON" not in str(await receive(socket)):
                pass
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
