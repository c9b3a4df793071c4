"""From the first bind to the last close: start-up, model loading, signals, drain.

The port opens at once and the model loads behind it, unless `wait_for_model`. uvicorn's own
shutdown closes WebSockets in the middle of a sentence, so the drain comes before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

import uvicorn

from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.config import Settings
from tts_provider.errors import EngineFailed, StartupError, TTSError, WireError
from tts_provider.jobs.store import JobStore
from tts_provider.keys.counts import Counts
from tts_provider.keys.limits import Allowances
from tts_provider.keys.ring import KeyRing
from tts_provider.server.app import create_app
from tts_provider.server.connections.socket import Sockets
from tts_provider.server.connections.tcp import WyomingPort
from tts_provider.server.dialects import SOCKETS, VOICES
from tts_provider.server.service.defaults import Defaults
from tts_provider.server.service.jobs import JobWorker
from tts_provider.server.service.service import SpeechService
from tts_provider.server.service.watermark import LIKE_PEOPLE, Watermark
from tts_provider.server.transport.connection_limit import ACCEPTED_A_TURN, sockets_allowed
from tts_provider.server.transport.discovery import Announcement
from tts_provider.server.transport.http import HttpProtocol, http_protocol
from tts_provider.server.transport.websocket import websocket_protocol
from tts_provider.speech.engine import Engine
from tts_provider.speech.languages import identify
from tts_provider.speech.lexicon import load_lexicon
from tts_provider.voices.store import open_store

log = logging.getLogger(__name__)

# Bounds how much audio lies in the kernel for a client that reads slowly, so that a ping behind it
# is still answered in time: 256 KiB is 5 s of 16-bit speech.
_SEND_BUFFER_BYTES = 256 * 1024
_LISTEN_BACKLOG = 1024
# After the drain: for those who read to hear that it is over, and for what does not end by itself.
_GOODBYE_S = 0.5
_LAST_WORD_S = 2.0
_DATE_S = 1.0
_ALL_ADDRESSES = ("0.0.0.0", "::")
_ADDRESS_MISSING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Server:
    """One engine on one port."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        settings = settings.for_streams(engine.own_max_streams)
        self._engine = engine
        self._settings = settings
        store = open_store(settings)
        self.keys = KeyRing(
            [key.get_secret_value() for key in settings.api_keys], settings.data_dir
        )
        self.counts = Counts(settings.data_dir, lambda: self.keys.has_names)
        self.service = SpeechService(
            engine,
            settings,
            settings.voice_aliases,
            store,
            speakers=VOICES,
            normalize_text=settings.normalize_text,
            follow_language=settings.follow_language,
            lexicon=load_lexicon(settings.lexicon) if settings.lexicon else None,
            watermark=Watermark(
                settings.watermark,
                # What engines elsewhere are is known late.
                is_like_people=engine.takes_prompts
                or bool(settings.engine_urls)
                or any(voice.source in LIKE_PEOPLE for voice in engine.voices()),
            ),
            signer=_signer(settings),
            allowances=Allowances(self.keys, self.counts),
            metrics_by_key=settings.metrics_by_key,
            defaults=Defaults.of(settings),
        )
        if engine.voices():  # else they are known when it is loaded
            self._check_default_voice()
        self.sockets = Sockets(self.service)
        self.jobs = JobWorker(
            self.service,
            JobStore(settings.data_dir / "jobs"),
            kept_s=settings.keep_jobs_days * 86400,
            most_bytes=settings.max_kept_jobs_bytes,
        )
        self.app = create_app(
            self.service,
            self.sockets,
            store,
            self.jobs,
            allow_origins=settings.allow_origins,
            allow_hosts=(*settings.allow_hosts, settings.host.lower()),
        )
        config = uvicorn.Config(
            self.app,
            http=http_protocol(settings.handshake_timeout_s, sockets_allowed(settings.max_sockets)),
            ws=websocket_protocol(
                settings,
                {
                    # Recordings of what was said before, in one message.
                    "/": max(settings.max_waiting_bytes, settings.max_wire_bytes),
                }
                | {
                    path: max(settings.max_audio_message_bytes, settings.max_wire_bytes)
                    for path, dialect in SOCKETS.items()
                    if dialect.takes_audio
                },
            ),
            backlog=ACCEPTED_A_TURN,
            ws_per_message_deflate=False,
            ws_ping_interval=settings.ping_interval_s,
            ws_ping_timeout=settings.ping_timeout_s,
            timeout_graceful_shutdown=1,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._uvicorn = _Uvicorn(config, self._listening, self._stop_in_time)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self.listening = asyncio.Event()
        self._exit_code = 0
        self.port = settings.port
        self.wyoming = WyomingPort(self.service, self.sockets)
        self.wyoming_port = settings.wyoming_port

    @property
    def connections(self) -> Collection[Any]:
        """uvicorn's protocols, one for each that is open, whatever it is."""
        return self._uvicorn.server_state.connections

    @property
    def requests(self) -> Collection[asyncio.Task[None]]:
        """Those that are answered, over HTTP or a WebSocket."""
        return self._uvicorn.server_state.tasks

    async def run(self) -> int:
        """Serve until stopped; returns the process's exit code.

        Raises `StartupError` where the port cannot be opened and, with `wait_for_model`,
        `StartupError` or `EngineFailed` where the model cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        listeners = bind(self._settings.host, self._settings.port)
        self.port = listeners[0].getsockname()[1]
        self._warn_if_open()
        try:
            wyoming = self._bind_wyoming()
            listeners += wyoming
            if self._settings.wait_for_model and not await self._load_first():
                return 0
            listen(listeners, self._settings.host)
            await self._serve([each for each in listeners if each not in wyoming], wyoming)
        finally:
            for listener in listeners:
                listener.close()
            await self.service.decoders.close()
            await self._engine.close()
            await asyncio.to_thread(self.counts.close)
            self.keys.close()
        return self._exit_code

    def _bind_wyoming(self) -> list[socket.socket]:
        """Where Wyoming listens; nowhere if it is not wanted. Raises `StartupError`."""
        settings = self._settings
        if settings.wyoming_port is None:
            return []
        host = settings.wyoming_host or settings.host
        if self.keys.is_needed and settings.wyoming_host is None and not _is_loopback(host):
            raise StartupError(
                "Wyoming has no keys, and this server asks for one: say who may use its port, "
                f"--wyoming-host 127.0.0.1 for this machine or --wyoming-host {host} for everyone"
            )
        listeners = bind(host, settings.wyoming_port)
        self.wyoming_port = listeners[0].getsockname()[1]
        return listeners

    async def _open_wyoming(self, listeners: list[socket.socket]) -> Announcement | None:
        if not listeners:
            return None
        host = self._settings.wyoming_host or self._settings.host
        await self.wyoming.open(listeners)
        log.info("Wyoming for Home Assistant on tcp://%s:%d", host, self.wyoming_port)
        if not self._settings.wyoming_zeroconf:
            return None
        announcement = Announcement(host, self.wyoming_port or 0)
        await announcement.announce()
        return announcement

    async def _serve(self, listeners: list[socket.socket], wyoming: list[socket.socket]) -> None:
        announcement = await self._open_wyoming(wyoming)
        loading = asyncio.create_task(self._load_and_open())
        serving = asyncio.create_task(self._uvicorn.serve(listeners))
        draining = asyncio.create_task(self._drain_when_asked())
        watching = asyncio.create_task(self._end_when_lost())
        working = asyncio.create_task(self.jobs.run())
        try:
            await serving
        finally:
            if announcement is not None:
                await announcement.withdraw()
            self.wyoming.stop_listening()
            tasks = (loading, draining, watching, working)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.jobs.store.close()

    def stop(self) -> None:
        """Drain, then end `run`. May be called from a signal handler or another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _stop_in_time(self) -> None:
        """`stop`, as a signal asks for it: a thread that hangs cannot hold the process up."""
        self.stop()
        end_in_time(self._settings.drain_timeout_s)

    async def _load_first(self) -> bool:
        """Load before the port opens; False where a signal asked to stop meanwhile.

        Raises what `_load` raises.
        """
        handled = {
            each: signal.signal(each, lambda *_: self._stop_in_time())
            for each in (signal.SIGINT, signal.SIGTERM)
            if threading.current_thread() is threading.main_thread()
        }
        loading = asyncio.create_task(self._load())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                log.info("stopping before the model is loaded")
                return False
            await loading
            return True
        finally:
            for task in (loading, stopping):
                task.cancel()
            for each, handler in handled.items():
                signal.signal(each, handler)

    async def _load(self) -> None:
        """Raises `StartupError` where the user can mend it, else `EngineFailed`."""
        try:
            await self._engine.load(lambda message: log.info("%s", message))
        except StartupError:
            raise
        except Exception as error:  # an engine runs foreign code
            if not isinstance(error, TTSError):
                log.exception("the engine failed unexpectedly")
            raise EngineFailed(f"the model could not be loaded: {_sentence(error)}") from None
        self._check_default_voice()
        if self.service.follows_language:
            await asyncio.to_thread(identify.load)

    def _check_default_voice(self) -> None:
        """Raises `StartupError` where nobody here can speak in it."""
        voice = self._settings.default_voice
        try:
            if voice is not None:
                self.service.find_voice(voice, None)
        except WireError as problem:
            raise StartupError(f"--default-voice {voice}: {problem.message}") from None

    async def _load_and_open(self) -> None:
        try:
            if not self._settings.wait_for_model:
                await self._load()
        except TTSError as error:  # those who wait must hear of it
            if isinstance(error, EngineFailed):
                problem = error
            else:
                problem = EngineFailed(f"the model could not be loaded: {error}")
            log.error("%s", problem)
            self._exit_code = 1
            self.service.admission.fail(problem)
            self._stopping.set()
        else:
            self.service.admission.open()
            if self._engine.takes_prompts:  # else enrolments alone decode, and say so in time
                self.service.decoders.prepare()
            log.info("ready: engine %s on %s", self._engine.name, self._engine.device)

    async def _end_when_lost(self) -> None:
        """Where only another process can help, this one ends, and its supervisor starts another."""
        await self._engine.wait_lost()
        problem = self._engine.problem or EngineFailed("the engine is lost")
        log.error("%s; this process ends", problem)
        self._exit_code = 1
        self.service.admission.fail(problem)
        self._stop_in_time()

    async def _drain_when_asked(self) -> None:
        await self._stopping.wait()
        admission = self.service.admission
        if admission.refusal is None:
            log.info("stopping: %d requests left", admission.active + admission.queued)
            admission.drain()
        self.wyoming.stop_listening()
        self.sockets.wake()
        finishing = asyncio.create_task(self._finish())
        await asyncio.wait({finishing}, timeout=self._settings.drain_timeout_s)
        if not finishing.cancel():
            log.info("all requests are finished")
        else:
            log.warning("%d requests were not finished in time", admission.active)
            await self._cut_off()
        self._uvicorn.end()

    async def _finish(self) -> None:
        await self.service.admission.wait_idle()
        await self.sockets.wait_closed()
        while tasks := set(self.requests):  # an upload is one too
            await asyncio.wait(tasks)

    async def _cut_off(self) -> None:
        """End every connection, whatever it is doing; who reads hears why."""
        for connection in list(self.connections):
            if isinstance(connection, HttpProtocol):
                connection.reset()
        closing = asyncio.create_task(self.sockets.close_all(1001, "the server stops now"))
        await asyncio.wait({closing}, timeout=_GOODBYE_S)
        closing.cancel()
        for connection in list(self.connections):
            connection.transport.abort()

    def _listening(self) -> None:
        host, port = self._settings.host, self.port
        page_host = "localhost" if host in _ALL_ADDRESSES else host
        log.info("listening on ws://%s:%d, page: http://%s:%d/", host, port, page_host, port)
        self.listening.set()

    def _warn_if_open(self) -> None:
        if not self.keys.is_needed and not _is_loopback(self._settings.host):
            log.warning(
                "everyone who reaches %s can use this server; set --api-key, or make a key with "
                "tts-provider keys add, to restrict it",
                self._settings.host,
            )


class _Uvicorn(uvicorn.Server):
    """uvicorn, told what to do when it listens and when a signal asks it to stop.

    It ends when it is told to. uvicorn's own loop looks ten times a second whether it should end,
    and then waits another tenth of a second for connections, even where there are none.
    """

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._stop = stop
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # asyncio accepts as many at once as it lets wait, before anybody counts them.
        for listener in sockets or ():
            listener.listen(_LISTEN_BACKLOG)
        self._on_listening()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # it renews the header with the date
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _DATE_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                connection.shutdown()  # closes one that nothing is sent on
        await asyncio.sleep(0)  # it is gone then
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The next signal is not ours any more: it ends the process at once.
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, signal.SIG_DFL)
        self._stop()


def _signer(settings: Settings) -> ManifestSigner | None:
    """Raises `StartupError` where the key cannot sign."""
    if settings.c2pa_cert is None or settings.c2pa_key is None:
        return None
    return ManifestSigner(settings.c2pa_cert, settings.c2pa_key)


def end_in_time(drain_timeout_s: float) -> None:
    """End the process where it is still there after the drain and some time for the last word. A
    GPU that stopped working, or a thread that hangs, cannot hold it up."""
    ending = threading.Timer(drain_timeout_s + _LAST_WORD_S, _end_process)
    ending.daemon = True
    ending.start()


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`; the port is held, but closed until `listen`.

    Raises `StartupError` saying which address is taken or unknown.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartupError(f"--host {host} is not an address here: {error.strerror}") from None
    except UnicodeError:  # from the idna codec
        raise StartupError(f"--host {host} is not a host's name or address") from None
    listeners: list[socket.socket] = []
    problem: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        # With port 0 the first address draws the port, and the others share it.
        shared_port = listeners[0].getsockname()[1] if listeners else port
        try:
            listeners.append(
                _bind_one(family, kind, protocol, (address[0], shared_port, *address[2:]))
            )
        except OSError as error:
            problem = error
            if error.errno not in _ADDRESS_MISSING:
                break
            # `localhost` names ::1 even where IPv6 is switched off; one address is enough.
    if not listeners or (problem is not None and problem.errno not in _ADDRESS_MISSING):
        for opened in listeners:
            opened.close()
        assert problem is not None
        raise _cannot_listen(host, port, problem)
    return listeners


def listen(listeners: list[socket.socket], host: str) -> None:
    """Open the port. Raises `StartupError` where another program has it open by now."""
    for listener in listeners:
        try:
            _reuse_address(listener, True)  # what it accepts inherits this, see `_bind_one`
            listener.listen()
        except OSError as error:
            raise _cannot_listen(host, listener.getsockname()[1], error) from None


def _bind_one(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[Any, ...]
) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of a server that just ended may still linger at this port.
        _reuse_address(listener, True)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind(address)
        # Linux shares a bound port among sockets that all reuse it, until one of them listens: a
        # second server could take ours while the model loads.
        _reuse_address(listener, False)
    except BaseException:
        listener.close()
        raise
    return listener


def _reuse_address(listener: socket.socket, reuse: bool) -> None:
    if sys.platform != "win32":  # there it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)


def _cannot_listen(host: str, port: int, error: OSError) -> StartupError:
    advice = ""
    if error.errno == errno.EADDRINUSE:
        advice = "; stop the program that uses it or choose another --port"
    elif error.errno in _ADDRESS_MISSING:
        advice = "; --host must be an address of this machine, or 0.0.0.0 for all of them"
    elif error.errno == errno.EACCES:
        advice = "; ports below 1024 need special rights, choose another --port"
    return StartupError(f"cannot listen on {host}:{port}: {error.strerror}{advice}")


def _end_process() -> None:
    log.error("the server did not stop in time and is killed")
    os._exit(1)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")
