"""`tts-provider replica`: one engine for gateways, under uvicorn alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from types import FrameType

import uvicorn

from tts_provider.config import Settings
from tts_provider.engines.remote.replica import Replica
from tts_provider.errors import EngineFailed, StartupError
from tts_provider.server.lifecycle import bind, end_in_time, listen
from tts_provider.server.transport.connection_limit import ACCEPTED_A_TURN, sockets_allowed
from tts_provider.server.transport.http import http_protocol
from tts_provider.speech.engine import Engine
from tts_provider.voices.store import open_store

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 5


async def run_replica(engine: Engine, settings: Settings) -> int:
    """Serve until a signal, then finish what is spoken; returns the process's exit code.

    Raises `StartupError` where the port cannot be opened, or the model not be loaded in a way that
    the user can mend.
    """
    listeners = bind(settings.host, settings.port)
    port = listeners[0].getsockname()[1]
    replica = Replica(
        engine,
        open_store(settings),
        name=f"{socket.gethostname()}:{port}",
        max_streams=settings.for_streams(engine.own_max_streams).max_streams,
        keys=settings.engine_keys,
        metrics_keys=[key.get_secret_value() for key in settings.api_keys],
    )
    config = uvicorn.Config(
        replica,
        http=http_protocol(settings.handshake_timeout_s, sockets_allowed(settings.max_sockets)),
        backlog=ACCEPTED_A_TURN,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # What is left by then does not read: the drain comes first.
        timeout_graceful_shutdown=_CLOSE_TIMEOUT_S,
    )
    server = _Uvicorn(config, replica, settings.drain_timeout_s)
    try:
        listen(listeners, settings.host)
        log.info("listening on http://%s:%d", settings.host, port)
        if not settings.engine_keys:
            log.warning("everyone who reaches port %d can use this engine; set --engine-key", port)
        return await _serve(server, listeners, engine, replica)
    finally:
        for listener in listeners:
            listener.close()
        await engine.close()


async def _serve(
    server: _Uvicorn, listeners: list[socket.socket], engine: Engine, replica: Replica
) -> int:
    serving = asyncio.create_task(server.serve(listeners))
    loading = asyncio.create_task(engine.load(lambda message: log.info("%s", message)))
    watching = asyncio.create_task(engine.wait_lost())
    try:
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
            replica.open()
            log.info("ready: engine %s on %s", engine.name, engine.device)
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():  # only another process can help, which a supervisor starts
                log.error("%s; this process ends", engine.problem)
                server.drain_in_time()
                await serving
                return 1
            await serving
        return 0
    except StartupError:
        raise
    except Exception as error:  # an engine runs foreign code
        log.exception("the engine failed unexpectedly")
        raise EngineFailed(f"the model could not be loaded: {error}") from None
    finally:
        loading.cancel()
        watching.cancel()
        server.should_exit = True
        await asyncio.gather(loading, watching, serving, return_exceptions=True)


class _Uvicorn(uvicorn.Server):
    """uvicorn that finishes what is spoken before it closes the port."""

    def __init__(self, config: uvicorn.Config, replica: Replica, drain_timeout_s: float) -> None:
        super().__init__(config)
        self._replica = replica
        self._drain_timeout_s = drain_timeout_s
        self._draining: asyncio.Future[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The next signal is not ours any more: it ends the process at once.
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, signal.SIG_DFL)
        self.drain_in_time()

    def drain_in_time(self) -> None:
        """End when what is spoken is finished, or in time, whatever an engine hangs in."""
        end_in_time(self._drain_timeout_s + _CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._draining = asyncio.ensure_future(self._finish())

    async def _finish(self) -> None:
        log.info("stopping: %d passages left", self._replica.active)
        self._replica.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._replica.wait_idle(), self._drain_timeout_s)
        if self._replica.active:
            log.warning("%d passages were not finished in time", self._replica.active)
        self.should_exit = True
