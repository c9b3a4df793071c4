"""One client sends as much as it can, byte by byte: everybody else has a turn between."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct

import pytest

from frames import frame, raw_socket, read_frames, upgrade
from servers import ask, open_socket, running_server

SOON_S = 20  # longer than anything here takes, shorter than for ever
UNKNOWN = frame(b'{"type":"nothing"}')
UPLOAD = (
    b"POST /v1/audio/voices HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
)


def counted(server, name: str) -> float:
    text = server.service.metrics.render().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def get(port: int, path: str = "/health") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), SOON_S)
    writer.close()
    return answer


def connection_of(server):
    """The server's side of the only connection."""
    (connection,) = server.connections
    return connection


@pytest.mark.parametrize(
    ("data", "first"),
    [
        (frame(b""), b""),
        (frame(b"", 0, fin=False), frame(b"", 1, fin=False)),
        (frame(b"", 9), b""),
        (frame(b"", 10), b""),
        (UNKNOWN, b""),
    ],
    ids=["empty", "fragments", "pings", "pongs", "unknown"],
)
@pytest.mark.parametrize("path", ["/", "/v1/stream"])
async def test_others_are_answered_before_a_segment_of_frames_is_looked_at(data, first, path):
    async with running_server() as server:
        async with raw_socket(server.port, path) as (reader, writer):
            draining = asyncio.create_task(reader.read(-1))
            connection = connection_of(server)
            writer.write(first + data * 40_000)
            while not connection._held:
                await asyncio.sleep(0)
            assert b" 200 " in await get(server.port)
            # Most of it has still to be looked at, and no more of it was read.
            assert 0 < len(connection._held) <= 2 * 256 * 1024
            draining.cancel()


async def test_a_body_in_chunks_of_a_byte_lets_others_in():
    async with running_server() as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(UPLOAD + b"1\r\na\r\n" * 40_000)
        while not (connections := server.connections):
            await asyncio.sleep(0)
        (connection,) = connections
        while not connection._held:
            await asyncio.sleep(0)
        assert b" 200 " in await get(server.port)
        assert connection._held
        writer.transport.abort()


async def test_pongs_that_nobody_reads_do_not_pile_up():
    async with running_server() as server:
        async with raw_socket(server.port) as (reader, writer):
            reader._transport.pause_reading()
            transport = connection_of(server).transport
            most = 0
            for number in range(300):
                writer.write(frame(struct.pack(">I", number) + bytes(121), 9) * 300)
                if writer.transport.get_write_buffer_size() < 1_000_000:
                    await asyncio.sleep(0)
                most = max(most, transport.get_write_buffer_size())
            assert most < 256 * 1024


async def test_the_last_ping_is_answered_when_the_client_reads_again():
    async with running_server(max_frames_per_s=1e9, max_bytes_per_s=1e12) as server:
        async with raw_socket(server.port, receive_buffer_bytes=4096) as (reader, writer):
            reader._transport.pause_reading()
            connection = connection_of(server)
            while connection.writable.is_set():
                writer.write(frame(bytes(125), 9) * 100)
                await asyncio.sleep(0)
            writer.write(frame(b"last", 9))
            while connection._held or writer.transport.get_write_buffer_size():
                await asyncio.sleep(0)
            reader._transport.resume_reading()
            async for opcode, payload in read_frames(reader):
                if (opcode, payload) == (10, b"last"):
                    break
            else:
                pytest.fail("the last ping had no answer")


async def test_who_never_stops_is_told_and_closed():
    limits = {"max_frames_per_s": 10.0, "flood_timeout_s": 0.2}
    async with running_server(**limits) as server, open_socket(server) as other:
        async with raw_socket(server.port, "/v1/stream") as (reader, writer):
            pouring = asyncio.create_task(pour(writer, frame(b"", 9) * 50))
            codes, close = [], None
            async for opcode, payload in read_frames(reader):
                if opcode == 1:
                    codes.append(json.loads(payload).get("code"))
                if opcode == 8:
                    close = int.from_bytes(payload[:2], "big")
                    break
            pouring.cancel()
        assert codes[-1] == "too_many_messages"
        assert close == 1008
        assert (await ask(other, text="All is well."))["status"] == "success"
        assert counted(server, 'tts_errors_total{code="too_many_messages"}') == 1


async def pour(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_a_text_written_letter_by_letter_is_spoken():
    text = "All that was written is spoken, however small the pieces are. " * 4
    async with running_server() as server:
        async with open_socket(server, path="v1/stream") as talk:
            await talk.recv()
            for letter in text:
                message = {"type": "input_text.append", "context_id": "c", "text": letter}
                await talk.send(json.dumps(message))
            await talk.send(json.dumps({"type": "input_text.end", "context_id": "c"}))
            heard = ""
            async for message in talk:
                body = json.loads(message)
                if body["type"] == "audio.segment":
                    heard += body["text"] + " "
                if body["type"] == "context.done":
                    break
            assert heard == text


async def test_connections_that_say_nothing_keep_nobody_out(caplog):
    async with running_server(max_sockets=20) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
        for connection in silent[::2]:
            connection.send(b"GET / HTTP/1.1\r\nHost: ")
        assert b" 200 " in await get(server.port)
        async with open_socket(server) as talk:
            assert (await ask(talk, text="Hello."))["status"] == "success"
        assert len(server.connections) <= 20
        for connection in silent:
            connection.close()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 2


async def test_where_all_are_at_work_the_newest_is_refused_quickly():
    async with running_server(max_sockets=5) as server:
        async with raw_socket(server.port), raw_socket(server.port), raw_socket(server.port):
            async with raw_socket(server.port), raw_socket(server.port):
                answer = await get(server.port)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == (
                    "over_capacity"
                )
        while server.connections:
            await asyncio.sleep(0)
        assert b" 200 " in await get(server.port)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"HELO there\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad header\r\n\r\n", 400, "invalid_http"),
        (UPLOAD + b"zz\r\n", 400, "invalid_http"),
        (upgrade().replace(b"Version: 13", b"Version: 12"), 400, "invalid_handshake"),
        (upgrade().replace(b"Key: dGhl", b"Key: "), 400, "invalid_handshake"),
        (upgrade("/nowhere"), 404, "not_found"),
    ],
)
async def test_what_is_wrong_below_our_routes_has_their_shape(data, status, code, caplog):
    async with running_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        head, _, body = (await asyncio.wait_for(reader.read(), SOON_S)).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert json.loads(body)["error"]["code"] == code
        while server.requests:
            await asyncio.sleep(0)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


async def test_a_broken_chunk_after_the_answer_began_ends_the_connection(caplog):
    async with running_server() as server:
        body = json.dumps({"input": "Hello there. " * 900, "response_format": "pcm"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\0\0\0 nothing\r\n\r\n")
        writer.transport.abort()
        while server.requests:
            await asyncio.sleep(0)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


@pytest.mark.parametrize("behind", [frame(b"\x03\xe8", 8), frame(b"x"), b"\xff\xff", b""])
async def test_text_that_is_not_utf_8_and_what_comes_with_it_is_no_fault(behind, caplog):
    async with running_server() as server:
        async with raw_socket(server.port) as (reader, writer):
            writer.write(frame(b"\xff\xfe") + behind)
            closes = [data async for opcode, data in read_frames(reader) if opcode == 8]
            assert int.from_bytes(closes[0][:2], "big") in (1000, 1002, 1007)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


@pytest.mark.parametrize("data", [frame(bytes(125), 9), UNKNOWN, frame(b'{"text":""}')])
async def test_who_is_gone_is_not_written_to(data, caplog):
    """asyncio complains of every write after the fifth to a connection that is lost."""
    async with running_server() as server:
        for path in ("/", "/v1/stream"):
            async with raw_socket(server.port, path) as (_, writer):
                writer.write(data * 16_000)
                await writer.drain()
        while server.connections:
            await asyncio.sleep(0)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
