"""Every transcript in the documentation, replayed: what is sent, and what comes back.

Strings and settings must be equal, lengths and times of audio only numbers; `"…"` is any string,
or, in an object or a list, whatever else there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest
from websockets.asyncio.client import ClientConnection

from docs.markdown import Block, all_blocks
from servers import (
    PATIENCE_S,
    GatedEngine,
    embedded_engine,
    open_socket,
    receive,
    running_server,
)

TRANSCRIPTS = [block for block in all_blocks() if block.language == "text"]
ADDRESS = re.compile(r"(?P<scheme>ws|http)://localhost:8765/?(?P<path>.*)")
AUDIO = re.compile(r"\((?P<bytes>\d+) bytes\)")
REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<path>\S+)(?: (?P<body>\{.*\}))?")
# They depend on the voice, on the day, or on this version.
MEASURED = {
    *("length_bytes", "duration_ms", "start_ms", "end_ms", "audio_ms", "bytes"),
    *("session_id", "created", "version", "server_version", "output_tokens", "total_tokens"),
    *("start", "end"),
}
ANY = "…"


class Peer(Protocol):
    async def send(self, words: str) -> None: ...
    async def receive(self) -> Any:
        """The next message: a JSON body, bytes, or a line of HTTP."""


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, words: str) -> None:
        await self._connection.send(words)

    async def receive(self) -> Any:
        return await receive(self._connection)


class Http:
    """A response is a line with status and type, then its body: JSON, events, or bytes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lines: list[Any] = []

    async def send(self, words: str) -> None:
        assert not self._lines, "the last response has more than the transcript"
        request = REQUEST.fullmatch(words)
        assert request is not None, words
        self._lines = await asyncio.to_thread(self._ask, request)

    def _ask(self, request: re.Match[str]) -> list[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request(request["method"], request["path"], request["body"], headers)
            response = connection.getresponse()
            kind, data = response.headers.get_content_type(), response.read()
            head = f"{response.status} {kind}"
            if kind == "application/json":
                return [head, json.loads(data)]
            if kind == "text/event-stream":
                events = data.decode().strip().split("\n\n")
                return [head, *(json.loads(event.removeprefix("data: ")) for event in events)]
            return [head, data]

    async def receive(self) -> Any:
        return self._lines.pop(0)


@contextlib.asynccontextmanager
async def talk_about(block: Block) -> AsyncIterator[tuple[Peer, Callable[[], Awaitable[None]]]]:
    """A server and a connection to it; what is called loads the server's model."""
    address = ADDRESS.fullmatch(block.text.splitlines()[0])
    assert address is not None, f"{block}: the first line is the address"
    engine = GatedEngine() if block.server == "loading" else embedded_engine()
    settings = {"api_keys": "secret"} if block.server == "key" else {}
    async with running_server(engine, **settings) as server:

        async def load() -> None:
            assert engine is not None, f"{block}: only a loading server can have loaded"
            engine.gate.set_result(None)
            while not server.service.admission.is_open:
                await asyncio.sleep(0)

        if address["scheme"] == "http":
            yield Http(server.port), load
        else:
            async with open_socket(server, path=address["path"]) as connection:
                yield Socket(connection), load


@pytest.mark.parametrize("block", TRANSCRIPTS, ids=str)
async def test_a_transcript_is_what_happens(block):
    async with talk_about(block) as (peer, load):
        before: Any = None
        more_of_the_last = False
        for line in block.text.splitlines()[1:]:
            direction, _, words = line.partition(" ")
            if line == "(the model is loaded)":
                await load()
            elif direction == "→":
                await peer.send(words)
            elif words.strip() == ANY:
                more_of_the_last = True
            else:
                assert direction == "←", f"{block}: {line}"
                got = await peer.receive()
                while more_of_the_last and is_audio(got):
                    got = await peer.receive()
                more_of_the_last = False
                check(words, got, before)
                before = got


def is_audio(message: Any) -> bool:
    if isinstance(message, dict):
        return message.get("type") in ("audio.delta", "speech.audio.delta")
    return isinstance(message, bytes)


def check(words: str, got: Any, before: Any) -> None:
    audio = AUDIO.fullmatch(words)
    if audio is not None:
        assert isinstance(got, bytes), got
        announced = before.get("length_bytes", before.get("bytes")) if is_json(before) else None
        assert len(got) == announced or (announced is None and got)
    elif words.startswith(("{", "data: ")):
        compare(json.loads(words.removeprefix("data: ")), got, words)
    else:
        assert got == words


def is_json(message: Any) -> bool:
    return isinstance(message, dict)


def compare(expected: Any, got: Any, where: str) -> None:
    if expected == ANY:
        assert isinstance(got, str), where
    elif isinstance(expected, dict):
        names = set(expected) - {ANY}
        assert isinstance(got, dict), where
        assert names <= set(got) if ANY in expected else names == set(got), where
        for name in names:
            if name in MEASURED:
                assert type(got[name]) is type(expected[name]), f"{name} in {where}"
            else:
                compare(expected[name], got[name], where)
    elif isinstance(expected, list):
        shown = [entry for entry in expected if entry != ANY]
        assert len(got) > len(shown) if ANY in expected else len(got) == len(shown), where
        for entry, found in zip(shown, got, strict=False):
            compare(entry, found, where)
    else:
        assert got == expected, where


def test_a_length_that_is_announced_is_the_one_that_comes():
    for block in TRANSCRIPTS:
        lines = block.text.splitlines()
        for line, following in itertools.pairwise(lines):
            audio = AUDIO.fullmatch(following.removeprefix("← "))
            announced = re.search(r'"(?:length_bytes|bytes)": (\d+)', line)
            if audio and announced:
                assert audio["bytes"] == announced[1], f"{block}: {following}"
