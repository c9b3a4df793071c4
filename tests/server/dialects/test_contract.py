"""The contract's proof: a wire invented here, in thirty lines, that speaks through the pump."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import ears
from docs.markdown import blocks
from servers import running_server
from tts_provider.audio.encode.encode import Output
from tts_provider.audio.pcm import from_s16
from tts_provider.errors import InvalidRequest
from tts_provider.server import app
from tts_provider.server.dialects.api import Api
from tts_provider.server.dialects.dialect import (
    Action,
    Append,
    Audio,
    Cancel,
    Cancelled,
    Close,
    ContextSettings,
    Dialect,
    Done,
    End,
    Event,
    Handshake,
    Opening,
    Problem,
    Refuse,
    SegmentDone,
)


class Telegram(Dialect):
    """`NAME+TEXT` adds text to a context, `NAME.` ends it, `NAME!` cancels it; `BYE` is last."""

    name = "telegram"

    def __init__(self, handshake: Handshake) -> None:
        voice = handshake.find_voice(handshake.path["voice"])
        self._opening = Opening(ContextSettings(voice, Output("pcm", int(handshake.query["rate"]))))

    def receive(self, message: str) -> Sequence[Action]:
        if message == "BYE":
            return [Close()]
        name, mark, text = message[:1], message[1:2], message[2:]
        if mark == "+":
            return [Append(name, text, self._opening)]
        if mark in (".", "!"):
            return [End(name) if mark == "." else Cancel(name)]
        return [Refuse(InvalidRequest(f"no telegram: {message!r}"))]

    def write(self, event: Event) -> Sequence[str | bytes]:
        match event:
            case Audio(context_id, data=data):
                return [context_id, data]
            case SegmentDone(context_id, text):
                return [f"{context_id} said {text}"]
            case Done(context_id) | Cancelled(context_id):
                return [f"{context_id} {type(event).__name__}"]
            case Problem(error, context_id):
                return [f"{context_id} {error.code}"]
        return []


@pytest.fixture
async def url(monkeypatch):
    api = Api("telegram", sockets={"/telegram/{voice}": Telegram})
    monkeypatch.setattr(app, "APIS", (api,))
    async with running_server() as server:
        yield f"ws://127.0.0.1:{server.port}/telegram"


async def test_it_speaks(url):
    async with connect(f"{url}/male?rate=16000") as socket:
        for message in ("a+Two one fo", "b+Nine", "a+ur.", "a.", "b.", "BYE"):
            await socket.send(message)
        told = [message async for message in socket]
    assert socket.close_code == 1000
    texts = [message for message in told if isinstance(message, str)]
    assert [text for text in texts if text.startswith("a ")] == ["a said Two one four.", "a Done"]
    assert [text for text in texts if text.startswith("b ")] == ["b said Nine", "b Done"]
    audio = b"".join(data for name, data in itertools.pairwise(told) if name == "a")
    assert ears.hear_digits(from_s16(audio), 16_000) == ["two", "one", "four"]


async def test_the_example_of_contributing_speaks(monkeypatch):
    (example,) = (block for block in blocks("CONTRIBUTING.md") if "ShoutDialect" in block.text)
    names: dict[str, Any] = {}
    exec(example.text, names)
    monkeypatch.setattr(app, "APIS", (names["SHOUT"],))
    async with (
        running_server() as server,
        connect(f"ws://127.0.0.1:{server.port}/v1/shout") as socket,
    ):
        await socket.send("Two one four.")
        audio = b""
        while isinstance(message := await socket.recv(), bytes):
            audio += message
        assert message == "done"
        assert ears.hear_digits(from_s16(audio)) == ["two", "one", "four"]
        await socket.send("")
        assert (await socket.recv()).startswith("error no_speech: ")


async def test_what_is_wrong_is_told_in_its_own_words(url):
    async with connect(f"{url}/male?rate=24000") as socket:
        for message, answer in [
            ("?", "None invalid_value"),
            ("a.", "a unknown_context"),
            ("+", "None invalid_value"),
        ]:
            await socket.send(message)
            assert await socket.recv() == answer
        await socket.send("a+Half a sen")
        await socket.send("a!")
        assert await socket.recv() == "a Cancelled"
        await socket.send("a+More")
        assert await socket.recv() == "a context_finished"


async def test_an_address_that_cannot_be_served_is_refused_before_the_upgrade(url):
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"{url}/nobody?rate=8000"):
            pass
    assert caught.value.response.status_code == 400
    assert b"unknown_voice" in caught.value.response.body
