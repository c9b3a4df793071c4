"""The engine on other machines, from settings; nobody is asked yet."""

from __future__ import annotations

import asyncio

from tts_provider.config import Settings
from tts_provider.engines.remote.client import BrokenOff, Client, Unreachable
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.frames import NotOurs
from tts_provider.engines.remote.messages import Description, read_message
from tts_provider.engines.remote.replicas import refusal
from tts_provider.errors import InvalidRequest, StartupError


def find_replicas(settings: Settings) -> str | None:
    """Why they would be asked; None where nothing says so."""
    if settings.engine_urls:
        return f"--engine-url names {', '.join(settings.engine_urls)}"
    return None


def build(settings: Settings) -> RemoteEngine:
    """Raises `StartupError` where no address is named."""
    if not settings.engine_urls:
        raise StartupError(
            "--engine remote needs --engine-url http://HOST:PORT (TTS_PROVIDER_ENGINE_URLS), the "
            "address of a replica or of Ray Serve"
        )
    percent = settings.hedge_percent
    return RemoteEngine(settings.engine_urls, _key(settings), hedge_percent=percent)


def look_at(url: str, settings: Settings, timeout_s: float) -> str:
    """What is at an address, in words."""
    return asyncio.run(_look_at(url, _key(settings), timeout_s))


async def _look_at(url: str, key: str | None, timeout_s: float) -> str:
    client = Client(key)
    try:
        answer = await client.get(url, "/describe", timeout_s=timeout_s)
        try:
            if answer.status == 200:
                facts = read_message(Description, await answer.body(timeout_s=timeout_s))
                voices = f"{len(facts.voices)} voices, {facts.max_streams} streams a replica"
                return f"{facts.engine} on {facts.device} ({facts.precision}); {voices}"
            problem = await answer.problem(timeout_s=timeout_s)
        finally:
            await answer.close()
    except InvalidRequest as error:
        return f"is no engine of this release: {error}"
    except (Unreachable, BrokenOff, NotOurs) as error:
        return str(error)
    finally:
        await client.close()
    return refusal(answer.status) if problem is None else f"says: {problem.message}"


def _key(settings: Settings) -> str | None:
    return settings.engine_keys[0] if settings.engine_keys else None
