"""The engine on other machines, from settings; nobody is asked yet."""

from __future__ import annotations

import httpx2

from tts_provider.config import Settings
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.messages import Description, read_message
from tts_provider.engines.remote.replicas import authorization, error_in, refusal
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
    return RemoteEngine(settings.engine_urls, _key(settings))


def look_at(url: str, settings: Settings, timeout_s: float) -> str:
    """What is at an address, in words."""
    headers = authorization(_key(settings))
    try:
        reply = httpx2.get(f"{url}/describe", headers=headers, timeout=timeout_s, trust_env=False)
        if reply.status_code == 200:
            facts = read_message(Description, reply.content)
            voices = f"{len(facts.voices)} voices, {facts.max_streams} streams a replica"
            return f"{facts.engine} on {facts.device} ({facts.precision}); {voices}"
    except httpx2.HTTPError as error:
        return f"cannot be reached: {error}"
    except InvalidRequest as error:
        return f"is no engine of this release: {error}"
    problem = error_in(reply.content)
    return refusal(reply.status_code) if problem is None else f"says: {problem.message}"


def _key(settings: Settings) -> str | None:
    return None if settings.engine_key is None else settings.engine_key.get_secret_value()
