"""Start-up, failure and drain; signals go to a real process."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import socket as system_socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from servers import (
    GatedEngine,
    SteppedEngine,
    ask,
    collect_stream,
    open_socket,
    receive,
    running_server,
    send,
    server_process,
)
from tts_provider.config import Settings
from tts_provider.errors import EngineFailed, StartupError
from tts_provider.server.lifecycle import _SEND_BUFFER_BYTES, Server, bind, listen
from tts_provider.server.transport import websocket

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
LONG_TEXT = "This is a sentence of a long text. " * 500


async def probe(port: int, path: str) -> tuple[int, dict]:
    def fetch():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as reply:
            with reply:
                return reply.code, json.load(reply)

    return await asyncio.to_thread(fetch)


async def test_while_the_model_loads_requests_wait_in_order():
    engine = GatedEngine()
    async with running_server(engine) as server:
        assert await probe(server.port, "/health") == (200, {"status": "ok"})
        assert await probe(server.port, "/ready") == (503, {"status": "loading"})
        async with open_socket(server) as first, open_socket(server) as second:
            for socket in (first, second):
                message = await receive(socket)
                assert message == {
                    "status": "loading",
                    "message": "TTS model is still loading, request will be processed when ready",
                }
            await send(first, command="info")
            assert (await receive(first))["model_loaded"] is False
            await send(first, text="One.", request_id="1")
            await send(first, text="Two.", request_id="2")
            await send(second, text="Three.")
            engine.gate.set_result(None)
            ids = [(await receive(first)).get("request_id"), await receive(first)]
            ids += [(await receive(first)).get("request_id"), await receive(first)]
            assert ids[::2] == ["1", "2"]
            # Never a second `loading` on a connection.
            assert (await receive(second))["status"] == "success"
            assert await probe(server.port, "/ready") == (200, {"status": "ready"})


async def test_a_load_that_fails_tells_those_who_wait_and_ends_the_process():
    engine = GatedEngine()
    wanted = Settings(host="127.0.0.1", port=0, _env_file=None)
    server = Server(engine, wanted)
    running = asyncio.create_task(server.run())
    await server.listening.wait()
    async with open_socket(server) as asking, open_socket(server) as waiting:
        await receive(asking)
        await receive(waiting)
        await send(asking, text="Hello.")
        while server.service.admission.queued < 1:
            await asyncio.sleep(0)
        engine.gate.set_exception(RuntimeError("the weights are gone"))
        for socket in (asking, waiting):
            reply = await receive(socket)
            assert (reply["status"], reply["code"]) == ("error", "engine_failed")
            assert "the weights are gone" in reply["message"]
            with pytest.raises(ConnectionClosed) as caught:
                await receive(socket)
            assert caught.value.rcvd.code == 1011
    assert await running == 1


async def test_an_engine_that_is_lost_ends_the_process_for_its_supervisor(monkeypatch):
    class Losing(GatedEngine):
        problem = None

        async def wait_lost(self) -> None:
            await lost.wait()

    lost, engine = asyncio.Event(), Losing()
    engine.gate.set_result(None)
    monkeypatch.setattr("tts_provider.server.lifecycle._end_process", lambda: None)
    server = Server(engine, Settings(host="127.0.0.1", port=0, _env_file=None))
    running = asyncio.create_task(server.run())
    await server.listening.wait()
    await server.service.admission.wait_open()
    async with open_socket(server) as socket:
        assert (await ask(socket, text="Hello."))["status"] == "success"
        engine.problem = EngineFailed("the GPU stopped working: CUDA error")
        lost.set()
        await socket.wait_closed()
    assert await running == 1, "systemd starts it again; it does not after 2"


async def test_wait_for_model_opens_the_port_only_then():
    engine = GatedEngine()
    wanted = Settings(host="127.0.0.1", port=0, wait_for_model=True, _env_file=None)
    server = Server(engine, wanted)
    running = asyncio.create_task(server.run())
    while not engine.gate._callbacks:
        await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    engine.gate.set_result(None)
    await server.listening.wait()
    async with open_socket(server) as socket:
        assert (await ask(socket, text="Hello."))["status"] == "success"
    server.stop()
    assert await running == 0


async def test_wait_for_model_fails_before_the_port_opens():
    engine = GatedEngine()
    server = Server(engine, Settings(host="127.0.0.1", port=0, wait_for_model=True, _env_file=None))
    engine.gate.set_exception(StartupError("no such weights"))
    with pytest.raises(StartupError, match="no such weights"):
        await server.run()


async def test_wait_for_model_tells_an_unexpected_failure_in_one_sentence(caplog):
    engine = GatedEngine()
    server = Server(engine, Settings(host="127.0.0.1", port=0, wait_for_model=True, _env_file=None))
    engine.gate.set_exception(RuntimeError("the weights\nare gone"))
    with pytest.raises(EngineFailed, match="could not be loaded: the weights are gone"):
        await server.run()
    assert "Traceback" in caplog.text
    for listener in bind("127.0.0.1", server.port):  # nothing holds the port any more
        listener.close()


async def test_stopping_while_loading_sends_the_waiting_away():
    engine = GatedEngine()
    async with running_server(engine) as server, open_socket(server) as socket:
        await receive(socket)
        await send(socket, text="Hello.")
        while server.service.admission.queued < 1:
            await asyncio.sleep(0)
        server.stop()
        assert (await receive(socket))["code"] == "draining"
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1012


async def test_sigterm_finishes_what_runs_and_refuses_what_is_new(tmp_path):
    with server_process(tmp_path, "--engine", "espeak") as server:
        async with open_socket(server.port) as busy, open_socket(server.port) as idle:
            await send(busy, text=LONG_TEXT[: len(LONG_TEXT) // 4], stream=True)
            assert (await receive(busy))["status"] == "streaming"
            server.terminate()
            with pytest.raises(ConnectionClosed) as caught:
                await receive(idle)
            assert caught.value.rcvd.code == 1012
            assert await probe(server.port, "/ready") == (503, {"status": "draining"})
            async with open_socket(server.port) as late:
                with pytest.raises(ConnectionClosed) as caught:
                    await receive(late)
                assert caught.value.rcvd.code == 1012
            pieces, status = await collect_stream(busy)
            assert status["status"] == "success"
            assert status["length_bytes"] == sum(map(len, pieces))
            with pytest.raises(ConnectionClosed) as caught:
                await receive(busy)
            assert caught.value.rcvd.code == 1012
        assert await asyncio.to_thread(server.wait) == 0


async def test_sigterm_after_a_malformed_upgrade_ends_without_a_traceback(tmp_path):
    with server_process(tmp_path, "--engine", "espeak") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        writer.write(b"X-Long: " + 9 * 1024 * b"x" + b"\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 4")
        server.terminate()
        assert await asyncio.to_thread(server.wait) == 0
        assert not any("Traceback" in line for line in server.log)
        writer.close()


async def test_a_second_sigterm_ends_at_once(tmp_path):
    with server_process(tmp_path, "--engine", "espeak") as server:
        async with open_socket(server.port) as busy:
            await send(busy, text=LONG_TEXT[: len(LONG_TEXT) // 4], stream=True)
            await receive(busy)
            server.terminate()
            await asyncio.to_thread(server.wait_for_log, "stopping")
            server.terminate()
            assert await asyncio.to_thread(server.wait) == -signal.SIGTERM


async def test_what_is_not_finished_in_the_drain_time_is_closed_with_1001():
    engine = SteppedEngine()
    async with running_server(engine, drain_timeout_s=0.05) as server:
        async with open_socket(server) as socket:
            await send(socket, text=LONG_TEXT, stream=True)
            engine.allow(1)
            await receive(socket)
            server.stop()
            with pytest.raises(ConnectionClosed) as caught:
                await collect_stream(socket)
            assert caught.value.rcvd.code == 1001


def test_a_taken_port_is_one_sentence():
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(
            StartupError, match=f"cannot listen on 127.0.0.1:{port}.*another --port"
        ):
            bind("127.0.0.1", port)


def test_a_host_that_is_none_is_one_sentence():
    with pytest.raises(StartupError, match=r"--host no-such-host\.invalid"):
        bind("no-such-host.invalid", 0)
    with pytest.raises(StartupError, match=r"--host a\.\.b"):
        bind("a..b", 0)
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1:0.*; --host must"):
        bind("192.0.2.1", 0)


def test_a_port_that_is_not_allowed_is_one_sentence(monkeypatch):
    def bind_as_nobody(_listener, _address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(system_socket.socket, "bind", bind_as_nobody)
    with pytest.raises(StartupError, match=r"127\.0\.0\.1:80: Permission denied; ports below 1024"):
        bind("127.0.0.1", 80)


def test_a_bound_port_is_held_until_it_listens():
    (listener,) = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with listener:
        with pytest.raises(StartupError, match="stop the program"):
            bind("127.0.0.1", port)
        listen([listener], "127.0.0.1")
        # A connection that lingers after the server closed it does not hold up the next server.
        with system_socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()
            assert client.recv(1) == b""
    (listener,) = bind("127.0.0.1", port)
    with listener:
        listen([listener], "127.0.0.1")


def test_a_port_that_is_taken_before_it_listens_is_one_sentence():
    (listener,) = bind("127.0.0.1", 0)
    with listener, system_socket.socket() as thief:
        for rival in (listener, thief):
            rival.setsockopt(system_socket.SOL_SOCKET, system_socket.SO_REUSEADDR, 1)
        try:
            thief.bind(listener.getsockname())
        except OSError:
            pytest.skip("this system never shares a bound port")
        thief.listen()
        with pytest.raises(StartupError, match=r"cannot listen on 127\.0\.0\.1:.*stop the program"):
            listen([listener], "127.0.0.1")


def test_every_address_of_a_host_gets_the_same_port():
    listeners = bind("localhost", 0)
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        send_buffer = listener.getsockopt(system_socket.SOL_SOCKET, system_socket.SO_SNDBUF)
        # Linux doubles what is asked for, up to a limit of its own; its default is 16 KiB.
        assert _SEND_BUFFER_BYTES <= send_buffer <= 2 * _SEND_BUFFER_BYTES
        listener.close()


def test_the_log_warns_of_an_open_server(tmp_path):
    espeak = ("--engine", "espeak")
    with server_process(tmp_path, "--host", "0.0.0.0", *espeak) as server:
        server.terminate()
        server.wait()
        assert any("--api-key" in line for line in server.log)
    with server_process(tmp_path, "--host", "0.0.0.0", "--api-key", "k", *espeak) as server:
        server.terminate()
        server.wait()
        assert not any("--api-key" in line for line in server.log)


def test_the_json_log_is_json_and_holds_no_text_and_no_key(tmp_path):
    from tts_provider import TTSClient

    flags = ("--engine", "espeak", "--log-format", "json", "--api-key", "hush")
    with server_process(tmp_path, *flags) as server:
        with TTSClient(f"ws://127.0.0.1:{server.port}", api_key="hush") as client:
            client.speak("A private matter.")
        server.terminate()
        assert server.wait() == 0
        records = [json.loads(line) for line in server.log]
        (request,) = [record for record in records if record["message"] == "request"]
        assert (request["outcome"], request["characters"]) == ("spoken", 17)
        assert request["first_audio_ms"] > 0
        assert not any("private" in line or "hush" in line for line in server.log)


def test_no_descriptor_is_left_by_a_failed_bind():
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system has no /proc to count descriptors in")
    before = len(list(descriptors.iterdir()))
    with pytest.raises(StartupError):
        bind("192.0.2.1", 0)
    assert len(list(descriptors.iterdir())) == before


async def test_an_upload_that_does_not_come_holds_the_end_up_no_longer_than_the_drain():
    async with running_server(drain_timeout_s=0.2, upload_timeout_s=1000.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /v1/audio/voices HTTP/1.1\r\nHost: here\r\nContent-Length: 999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        while not server.requests:
            await asyncio.sleep(0)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_who_does_not_read_holds_the_end_up_no_longer_than_the_drain(monkeypatch):
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 1000.0)
    async with running_server(drain_timeout_s=0.2, max_unsent_audio_s=1000.0) as server:
        socket = await open_socket(server, max_queue=1)
        await send(socket, text="This is a sentence of a long text. " * 500, stream=True)
        assert (await receive(socket))["status"] == "streaming"
        socket.transport.pause_reading()
    socket.transport.abort()
    await socket.wait_closed()


async def test_a_stop_waits_for_no_clock(monkeypatch):
    slept_s = []
    sleep = asyncio.sleep

    async def told(delay_s: float) -> None:
        slept_s.append(delay_s)
        await sleep(delay_s)

    monkeypatch.setattr(asyncio, "sleep", told)
    async with running_server() as server, httpx2.AsyncClient() as client:
        address = f"http://127.0.0.1:{server.port}/health"
        assert (await client.get(address)).headers["Date"]
        assert len(server.connections) == 1  # it is kept for the next request
        server.stop()
        while server.connections:
            await sleep(0)
        with pytest.raises(httpx2.ConnectError):
            await client.get(address)
    assert max(slept_s) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_thread_that_hangs_does_not_hold_the_process_up(tmp_path):
    (tmp_path / "hang.py").write_text(
        "import sys, threading\n"
        "from tts_provider.engines.espeak import engine as espeak\n"
        "from tts_provider.cli.main import serve\n"
        "async def close(self): await __import__('asyncio').Event().wait()\n"
        "espeak.EspeakEngine.close = close\n"
        "sys.exit(serve(sys.argv[1:]))\n"
    )
    script = tmp_path / "hang.py"
    with server_process(tmp_path, script=script, TTS_PROVIDER_DRAIN_TIMEOUT_S="0") as server:
        server.terminate()
        assert server.wait() == 1
    assert "the server did not stop in time and is killed" in server.log[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_sigint_stops_it_where_a_script_started_it_in_the_background(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with server_process(tmp_path, "--engine", "espeak") as server:
            server.process.send_signal(signal.SIGINT)
            assert server.wait() == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert "all requests are finished" in server.log[-1]
