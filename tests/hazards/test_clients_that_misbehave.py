"""Clients that vanish, stall or say nothing: their work ends and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib

from servers import SteppedEngine, ask, open_socket, receive, running_server, send
from tts_provider.server.transport import websocket

ENDLESS = "This is a sentence of a long text. " * 500


def counted(server, name: str) -> float:
    text = server.service.metrics.render().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def connections_end(server) -> None:
    while server.connections:
        await asyncio.sleep(0)


async def test_a_client_that_vanishes_frees_its_work_within_two_chunks():
    engine = SteppedEngine()
    async with running_server(engine) as server:
        async with open_socket(server) as socket:
            await send(socket, text=ENDLESS, stream=True)
            engine.allow(1)
            assert (await receive(socket))["status"] == "streaming"
            assert len(await receive(socket)) > 0
            socket.transport.abort()
            await socket.wait_closed()
        before = engine.chunks_made
        while server.service.admission.active:
            engine.allow(1)
            for _ in range(50):  # an engine takes many turns of the event loop for a chunk
                await asyncio.sleep(0)
        assert engine.chunks_made - before <= 2
        await server.sockets.wait_closed()


async def test_one_hundred_clients_that_vanish_leave_nothing_behind():
    async with running_server() as server:
        for round_ in range(10):
            sockets = [await open_socket(server) for _ in range(10)]
            for socket in sockets:
                await send(socket, text=ENDLESS, stream=round_ % 2 == 0)
            for socket in sockets:
                socket.transport.abort()
                await socket.wait_closed()
        await server.sockets.wait_closed()
        await server.service.admission.wait_idle()
        assert counted(server, "tts_connections") == 0
        assert counted(server, "tts_active_streams") == 0


async def test_a_client_that_does_not_read_is_cut_off_and_others_do_not_notice():
    async with running_server(max_unsent_audio_s=0.3) as server:
        async with open_socket(server, max_queue=1) as stalled, open_socket(server) as other:
            await send(stalled, text=ENDLESS, stream=True)
            assert (await receive(stalled))["status"] == "streaming"
            while not counted(server, 'tts_errors_total{code="unsent_audio"}'):
                assert (await ask(other, text="All is well."))["status"] == "success"
                await receive(other)
            # What it never took is not made: far less than the text's twenty minutes.
            assert counted(server, "tts_audio_seconds_total") < 600
            while counted(server, "tts_connections") > 1:
                await asyncio.sleep(0)
            assert (await ask(other, text="Still well."))["status"] == "success"
            stalled.transport.abort()  # a goodbye would wait 10 s behind what was not read


async def test_a_client_that_stalls_in_the_middle_of_a_long_reply_is_cut_off():
    async with running_server(max_unsent_audio_s=0.3) as server:
        async with open_socket(server, max_queue=1) as socket:
            # A reply of minutes: what was not sent yet does not lengthen the client's time.
            assert (await ask(socket, text=ENDLESS[:7000]))["status"] == "success"
            await asyncio.wait_for(server.sockets.wait_closed(), 10)
            socket.transport.abort()
        assert counted(server, 'tts_errors_total{code="unsent_audio"}') == 1


async def test_a_client_that_vanishes_in_the_middle_of_a_long_reply_is_no_fault(caplog):
    async with running_server() as server:
        async with open_socket(server, max_queue=1) as socket:
            assert (await ask(socket, text=ENDLESS[:7000]))["status"] == "success"
            async for _ in socket.recv_streaming():
                break
            socket.transport.abort()
            await socket.wait_closed()
        await asyncio.wait_for(server.sockets.wait_closed(), 10)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_client_that_says_goodbye_and_does_not_read_is_dropped(monkeypatch):
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.1)
    async with running_server() as server:
        async with open_socket(server, max_queue=1) as socket:
            assert (await ask(socket, text=ENDLESS[:7000]))["status"] == "success"
            socket.transport.pause_reading()
            await asyncio.sleep(0.3)  # until the buffers between us are full
            socket.transport.write(b"\x88\x80\x00\x00\x00\x00")  # a close frame, masked by nought
            await asyncio.wait_for(server.sockets.wait_closed(), 10)
            await asyncio.wait_for(connections_end(server), 10)
            socket.transport.abort()


async def test_a_connection_that_says_nothing_is_closed():
    async with running_server(handshake_timeout_s=0.05) as server:
        silent = await asyncio.open_connection("127.0.0.1", server.port)
        half = await asyncio.open_connection("127.0.0.1", server.port)
        half[1].write(b"GET / HTTP/1.1\r\nHost: ")
        for reader, writer in (silent, half):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        async with open_socket(server) as socket:
            assert (await ask(socket, text="Hello."))["status"] == "success"
