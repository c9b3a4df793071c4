"""HTTP clients that vanish, stall or dawdle: their work ends and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from servers import SteppedEngine, running_server

ENDLESS = "This is a sentence of a long text. " * 500


def request_bytes(version: str = "HTTP/1.1", **fields) -> bytes:
    body = json.dumps({"input": ENDLESS, "response_format": "pcm", **fields}).encode()
    head = f"POST /v1/audio/speech {version}\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def connect(server, receive_buffer_bytes: int | None = None):
    connection = socket.socket()
    if receive_buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.port))
    return await asyncio.open_connection(sock=connection, limit=2**10)


async def read_to_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


def counted(server, name: str) -> float:
    text = server.service.metrics.render().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def until(condition) -> None:
    while not condition():
        for _ in range(50):  # asking takes longer than a turn of the event loop
            await asyncio.sleep(0)


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_a_client_that_vanishes_frees_its_work_within_two_chunks(stream_format):
    engine = SteppedEngine()
    async with running_server(engine) as server:
        reader, writer = await connect(server)
        writer.write(request_bytes(stream_format=stream_format))
        engine.allow(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        before = engine.chunks_made
        while server.service.admission.active:
            engine.allow(1)
            for _ in range(50):  # an engine takes many turns of the event loop for a chunk
                await asyncio.sleep(0)
        assert engine.chunks_made - before <= 2
        assert counted(server, 'tts_requests_total{endpoint="openai",outcome="cancelled"}') == 1


async def test_a_client_that_vanishes_in_line_leaves_the_line():
    engine = SteppedEngine()
    async with running_server(engine, max_streams=1) as server:
        admission = server.service.admission
        writers = []
        for _ in range(2):
            _, writer = await connect(server)
            writer.write(request_bytes())
            writers.append(writer)
        await until(lambda: (admission.active, admission.queued) == (1, 1))
        writers[1].transport.abort()
        await until(lambda: admission.queued == 0)
        assert admission.active == 1
        writers[0].transport.abort()
        await until(lambda: admission.active == 0)


async def test_a_client_that_vanishes_is_no_fault(caplog):
    async with running_server() as server:
        for _ in range(20):
            reader, writer = await connect(server)
            writer.write(request_bytes())
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        await until(lambda: server.service.admission.active == 0)
        _, writer = await connect(server)
        writer.write(request_bytes()[:200])  # and one within its body
        await until(lambda: len(server.requests) == 1)
        writer.transport.abort()
        await until(lambda: not server.requests)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


async def test_a_client_that_does_not_read_is_cut_off_and_others_do_not_notice():
    async with running_server(max_unsent_audio_s=0.3) as server:
        reader, writer = await connect(server, receive_buffer_bytes=4096)
        writer.write(request_bytes())
        await until(lambda: counted(server, 'tts_errors_total{code="unsent_audio"}') == 1)
        await until(lambda: server.service.admission.active == 0)
        # What it never took is not made: far less than the text's twenty minutes.
        assert counted(server, "tts_audio_seconds_total") < 60
        with pytest.raises(ConnectionResetError):
            await read_to_the_end(reader)
        writer.transport.abort()


async def test_a_client_that_reads_slower_than_the_limit_but_reads_is_served():
    text = "This is a sentence of a long text. " * 20
    async with running_server(max_unsent_audio_s=0.5) as server:
        reader, writer = await connect(server, receive_buffer_bytes=4096)
        writer.write(request_bytes(input=text))
        received = bytearray()
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += await reader.read(8192)
            await asyncio.sleep(0.002)
        assert len(received) > 30 * 48_000
        assert not counted(server, "tts_errors_total")
        writer.close()


async def test_one_cut_off_is_not_taken_for_the_whole_by_an_http_1_0_client():
    """It knows the end of a body only by how the connection ends, and nginx is one."""
    async with running_server(max_unsent_audio_s=0.3) as server:
        reader, writer = await connect(server, receive_buffer_bytes=4096)
        writer.write(request_bytes("HTTP/1.0"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head.lower()
        await until(lambda: server.service.admission.active == 0)
        with pytest.raises(ConnectionResetError):
            await read_to_the_end(reader)
        writer.transport.abort()


async def test_a_body_that_does_not_come_is_answered_and_given_up():
    async with running_server(handshake_timeout_s=0.05) as server:
        reader, writer = await connect(server)
        writer.write(request_bytes()[:200])
        assert b" 408 " in await reader.readline()
        with contextlib.suppress(ConnectionResetError):
            await read_to_the_end(reader)
        writer.close()


async def test_a_client_that_does_not_read_does_not_hold_up_the_servers_end():
    async with running_server(drain_timeout_s=0.1) as server:
        _, writer = await connect(server, receive_buffer_bytes=4096)
        writer.write(request_bytes())
        await until(lambda: server.service.admission.active == 1)
    writer.transport.abort()
