"""Ray Serve's application: replicas on as many machines as Ray has. Only this file imports ray.

serve deploy deploy/ray-serve.yaml
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp, Receive, Scope, Send

from tts_provider.config import load_settings
from tts_provider.engines.remote.replica import Replica
from tts_provider.selection import build_engine, choose_engine
from tts_provider.voices.store import open_store

log = logging.getLogger(__name__)

_VOICES_READY = 256
"""As many prompts as CSM-1B's engine keeps."""


def build(args: Mapping[str, Any]) -> Application:
    """`args` are settings by name; those of a node's environment count too, so that the key need
    not stand in a file. Raises `StartupError` where one is wrong."""
    load_settings(args)
    deployment: Any = serve.deployment(serve.ingress()(EngineReplica))
    return deployment.bind(dict(args))


class EngineReplica:
    """One engine. Ray has the line in front of it, counts its requests and looks after it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        configured = load_settings(settings)
        configured.export_hugging_face()
        choice = choose_engine(configured)
        log.info("engine %s, because %s", choice.engine, choice.reason)
        self._engine = build_engine(choice, configured, log.info)
        self._replica = Replica(
            self._engine,
            open_store(configured),
            name=serve.get_replica_context().replica_id.unique_id,
            max_streams=configured.for_streams(self._engine.own_max_streams).max_streams,
            keys=configured.engine_keys,
            metrics_keys=[key.get_secret_value() for key in configured.api_keys],
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await self._answer(scope, receive, send)

        # uvicorn, which Ray asks, takes a bound method for ASGI 2.
        return application

    def check_health(self) -> None:
        """Ray's question; raises what is wrong."""
        if (refusal := self._replica.refusal) is not None:
            raise RuntimeError(refusal.message)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if voice := serve.get_multiplexed_model_id():
            await _at_home(voice)
        await self._replica(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Ray sends requests when the start is complete, and none after the end."""
        assert (await receive())["type"] == "lifespan.startup"
        try:
            await self._engine.load(log.info)
        except Exception as error:  # an engine runs foreign code
            log.exception("the engine could not be loaded")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._replica.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._engine.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _same(voice: str) -> str:
    return voice


# Tells Ray that requests in a voice are at home in this replica: its engine keeps the prompt.
_at_home = serve.multiplexed(max_num_models_per_replica=_VOICES_READY)(_same)
