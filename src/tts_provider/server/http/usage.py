"""What a key used, over HTTP: its own, and everybody's for an administrator."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from datetime import date
from typing import Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, Field

from tts_provider.errors import InvalidRequest, ScopeTooSmall, StartupError, WireError
from tts_provider.keys.caller import caller_of
from tts_provider.keys.counts import Counts
from tts_provider.keys.report import as_csv, facts
from tts_provider.server.http.openapi import errors

PATH = "/v1/usage"

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class UsageOfDay(BaseModel):
    day: str = Field(description="Of UTC.")
    key: str = Field(description="Its name; empty for keys without one.")
    voice: str
    engine: str
    requests: int = Field(description="To speak; contexts of a session are one each.")
    failures: int = Field(description="Of them, those that were refused for a limit too.")
    characters: int
    audio_s: float


class UsageList(BaseModel):
    usage: list[UsageOfDay]


def create_router(counts: Counts) -> APIRouter:
    router = APIRouter()

    @router.get(
        PATH,
        response_model=UsageList,
        responses={
            **errors(400, 500),
            200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        },
    )
    async def show_usage(
        request: Request,
        since: str = Query("", description="The first day, as 2026-12-31."),
        until: str = Query("", description="The last day."),
        key: str | None = Query(None, description="Of this key alone; administrators may ask."),
        format: Literal["json", "csv"] = "json",
    ) -> Response | UsageList:
        """What was spoken, by day, key, voice and engine: the caller's own, and everybody's for an
        administrator."""
        caller = caller_of(request.scope)
        name = key
        if not caller.is_administrator:
            if key not in (None, caller.name):
                raise ScopeTooSmall(
                    f"the API key {caller.name!r} lacks the scope admin, which is needed to see "
                    "what other keys used"
                )
            name = caller.name
        days = _day(since, "since"), _day(until, "until")
        try:
            rows = await asyncio.to_thread(counts.read, *days, name)
        except (StartupError, sqlite3.Error) as error:
            raise WireError(f"usage cannot be read on this server: {error}") from None
        if format == "csv":
            return PlainTextResponse(as_csv(rows), media_type="text/csv")
        return UsageList(usage=[UsageOfDay(**facts(row)) for row in rows])

    return router


def _day(text: str, name: str) -> str:
    """Raises `InvalidRequest`."""
    if not text:
        return ""
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError(text)
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidRequest(
            f"{name} must be a day, as 2026-12-31; got {text[:40]!r}", param=name
        ) from None
