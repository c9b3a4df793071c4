"""Who the caller is, over HTTP: what a client, or the page, may do with its key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from tts_provider.keys.caller import SCOPES, caller_of
from tts_provider.keys.limits import Allowances

PATH = "/v1/key"


class KeyLimits(BaseModel):
    requests_per_minute: int | None
    characters_per_day: int | None
    streams: int | None


class KeyFacts(BaseModel):
    name: str | None = Field(description="null for keys without a name, and without keys.")
    scopes: list[str]
    voices: list[str] | None = Field(description="null where it may speak with every voice.")
    limits: KeyLimits


def create_router(allowances: Allowances) -> APIRouter:
    router = APIRouter()

    @router.get(PATH)
    async def show_key(request: Request) -> KeyFacts:
        """What the caller's API key may do."""
        caller = caller_of(request.scope)
        limits = allowances.limits(caller)
        return KeyFacts(
            name=caller.name,
            scopes=[scope for scope in SCOPES if caller.may(scope)],
            voices=None if caller.voices is None else list(caller.voices),
            limits=KeyLimits(
                requests_per_minute=limits.requests_per_minute,
                characters_per_day=limits.characters_per_day,
                streams=limits.streams,
            ),
        )

    return router
