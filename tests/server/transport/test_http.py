"""What uvicorn's protocols lack, byte by byte on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket as system_socket

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import ears
from servers import ask, open_socket, receive, running_server, send
from tts_provider.config import Limits
from tts_provider.server.transport import websocket
from tts_provider.server.transport.http import http_protocol
from tts_provider.server.transport.websocket import FRAGMENT_BYTES, fragments, websocket_protocol

TEXT = "This is a sentence of a long text. " * 200
SOON_S = 10  # much longer than what is waited for, much shorter than for ever
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(autouse=True)
def _log_from_info(caplog):
    caplog.set_level(logging.INFO, "tts_provider")


@contextlib.asynccontextmanager
async def raw_connection(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, dropped or closed."""
    read = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while data := await asyncio.wait_for(reader.read(65536), SOON_S):
            read += data
    return bytes(read)


def open_slow_socket(server, **options):
    """A client whose system takes no more than a little ahead of its reading."""
    connection = system_socket.socket()
    connection.setsockopt(system_socket.SOL_SOCKET, system_socket.SO_RCVBUF, 64 * 1024)
    connection.connect(("127.0.0.1", server.port))
    return open_socket(server, sock=connection, max_queue=1, **options)


def faults(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR or r.exc_info]


@pytest.mark.parametrize(
    "head",
    [
        UPGRADE + b"X-Long: " + 9 * 1024 * b"x" + b"\r\n\r\n",
        UPGRADE + b"".join(b"X-%d: x\r\n" % i for i in range(200)) + b"\r\n",
        UPGRADE.replace(b"GET", b"POST") + b"\r\n",
        UPGRADE + b"Content-Length: 5\r\n\r\nhello",
    ],
    ids=["long header", "many headers", "POST", "body"],
)
async def test_a_malformed_upgrade_is_answered_and_does_not_hold_up_the_end(head, caplog):
    async with running_server() as server:
        async with raw_connection(server.port) as (reader, writer):
            writer.write(head)
            answer = await read_to_end(reader)
            assert answer.startswith(b"HTTP/1.1 4")
            fields, _, body = answer.partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in fields.lower()
        async with raw_connection(server.port) as (_, writer):
            writer.write(head)
            server.stop()
            await asyncio.wait_for(server.sockets.wait_closed(), SOON_S)
    assert faults(caplog) == []


async def test_an_upgrade_that_is_never_answered_is_dropped():
    async def application(scope, receive, send):
        await receive()
        assert (await receive())["type"] == "websocket.disconnect"
        ended.set()

    ended = asyncio.Event()
    listener = system_socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application,
        http=http_protocol(0.05, 100),
        ws=websocket_protocol(Limits(), {}),
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    async with raw_connection(listener.getsockname()[1]) as (reader, writer):
        writer.write(UPGRADE + b"\r\n")
        assert await read_to_end(reader) == b""
        await asyncio.wait_for(ended.wait(), SOON_S)
    server.should_exit = True
    await serving


async def test_half_of_a_second_request_is_not_waited_for():
    async with running_server(handshake_timeout_s=0.1) as server:
        async with raw_connection(server.port) as (reader, writer):
            for _ in range(2):
                writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in await reader.readuntil(b"}")
            writer.write(b"GET /health HTTP/1.1\r\nHost: ")
            assert await read_to_end(reader) == b""


async def test_a_refused_websocket_is_one_line_in_the_log(caplog):
    async with running_server(api_keys="right") as server:
        address = f"ws://127.0.0.1:{server.port}"
        for path, headers, code, status in [
            ("/?key=wrong", {"X-API-Key": "wrong"}, "unauthorized", 401),
            ("/", {"Origin": "https://evil.example"}, "forbidden_origin", 403),
            ("/no%20where", {"X-API-Key": "right"}, "not_found", 404),
        ]:
            caplog.clear()
            with pytest.raises(InvalidStatus) as caught:
                async with connect(address + path, additional_headers=headers):
                    pass
            assert caught.value.response.status_code == status
            (record,) = [r for r in caplog.records if r.getMessage() == "refused"]
            assert (record.levelname, record.code) == ("INFO", code)
            assert record.path == path.partition("?")[0]
    assert faults(caplog) == []
    assert "wrong" not in caplog.text


async def test_text_that_is_not_utf8_is_one_line_in_the_log(caplog):
    async with running_server() as server, open_socket(server) as socket:
        await socket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1007
        await server.sockets.wait_closed()
    assert faults(caplog) == []
    assert len([r for r in caplog.records if "not UTF-8" in r.getMessage()]) == 1


def test_fragments_are_the_message():
    for size in (0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 3 * FRAGMENT_BYTES):
        data = bytes(range(256)) * (size // 256 + 1)
        parts = list(fragments(data[:size]))
        assert b"".join(part["bytes"] for part in parts) == data[:size]
        assert all(len(part["bytes"]) <= FRAGMENT_BYTES for part in parts)
        ends = [part["tts_provider.fin"] for part in parts]
        assert ends == [False] * (len(parts) - 1) + [True]


async def test_a_slow_client_gets_a_long_reply_whole_with_pings_between():
    limits = {"ping_interval_s": 0.3, "ping_timeout_s": 1.0, "max_unsent_audio_s": 1.0}
    async with running_server(**limits) as server, open_slow_socket(server) as socket:
        status = await ask(socket, text=TEXT[: len(TEXT) // 2], sample_rate=48_000)
        wav = bytearray()
        started = asyncio.get_running_loop().time()
        async for fragment in socket.recv_streaming():
            wav += fragment
            await asyncio.sleep(0.01)
        # Longer than a ping may wait for its pong, and than a listener may take nothing.
        assert asyncio.get_running_loop().time() - started > 2
        assert len(wav) == status["length_bytes"]
        samples, rate = ears.read_wav(bytes(wav))
        assert len(samples) / rate == pytest.approx(len(wav) / 96_000, abs=0.01)
        assert (await ask(socket, command="info"))["status"] == "success"


async def test_an_error_told_meanwhile_does_not_break_the_reply():
    limits = {"ping_interval_s": 0.2, "ping_timeout_s": 0.5}
    async with running_server(**limits) as server, open_slow_socket(server) as socket:
        status = await ask(socket, text=TEXT[: len(TEXT) // 5], sample_rate=48_000)
        # Both wait for the reply's end, and the pongs wait behind them.
        await send(socket, command="cancel", request_id="none")
        await socket.send(b"\x00")
        received = 0
        async for fragment in socket.recv_streaming():
            received += len(fragment)
            await asyncio.sleep(0.01)
        assert received == status["length_bytes"]
        assert (await receive(socket))["code"] == "unknown_request"
        assert (await receive(socket))["code"] == "binary_not_expected"
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1003


async def test_stopping_delivers_a_reply_that_is_being_sent(monkeypatch):
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.05)
    async with running_server() as server, open_slow_socket(server) as socket:
        status = await ask(socket, text=TEXT, sample_rate=48_000)
        server.stop()
        received = 0
        async for fragment in socket.recv_streaming():
            received += len(fragment)
            if status["length_bytes"] - received < 700_000:
                # All is written by now, and the time that a closing connection has runs out.
                await asyncio.sleep(0.1)
        assert received == status["length_bytes"] > 10_000_000
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1012


async def test_stopping_cuts_off_a_reply_that_nobody_reads(monkeypatch):
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.2)
    async with running_server(drain_timeout_s=0.2) as server:
        async with open_slow_socket(server) as socket:
            await ask(socket, text=TEXT, sample_rate=48_000)
            server.stop()
            await asyncio.wait_for(server.sockets.wait_closed(), SOON_S)
            socket.transport.abort()
