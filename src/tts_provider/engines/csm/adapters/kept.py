"""Keeps voices' adapters in memory: each is read when its voice first speaks, and those that spoke
last stay."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tts_provider.config import Limits
from tts_provider.engines.csm.adapters.low_rank import LowRank, read_low_rank
from tts_provider.engines.csm.backend import OutOfMemory
from tts_provider.engines.csm.config import CsmConfig
from tts_provider.engines.csm.files.adapter import read_adapter
from tts_provider.errors import (
    InvalidRequest,
    OverCapacity,
    StartupError,
    TTSError,
    UnreadableFile,
    WireError,
)
from tts_provider.voices.store import StoredVoice, VoiceStore

log = logging.getLogger(__name__)

Load = Callable[[LowRank], Any]
"""An adapter → what a backend takes of it, with `size_bytes`."""
Run = Callable[..., Awaitable[Any]]
"""Calls a function with its arguments on a thread."""

_RETRY_AFTER_MS = 5000
_REFUSED_KEPT = 256


@dataclass
class _Kept:
    adapter: Any
    users: int = 0


@dataclass(frozen=True)
class _Refusal:
    error: WireError
    until_s: float
    """On the clock; who asks then has it read again."""


class KeptAdapters:
    """An adapter that is speaking is never removed, so the limits also bound how many speak at
    once."""

    def __init__(
        self,
        store: VoiceStore | None,
        config: CsmConfig,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._config, self._limits, self._clock = store, config, limits, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._refused: OrderedDict[str, _Refusal] = OrderedDict()
        # One at a time, whoever waits for it: streams that speak need the cores.
        self._reading = asyncio.Lock()

    @asynccontextmanager
    async def use(self, voice: StoredVoice | None, load: Load, run: Run) -> AsyncIterator[Any]:
        """The voice's adapter as `load` makes it; None where it has none.

        Raises `InvalidRequest` where it cannot be used here, `OverCapacity` where all the room is
        taken by others that speak, or it cannot be read now.
        """
        if voice is None or voice.adapter is None:
            yield None
            return
        key = adapter_key(voice)
        if key not in self._kept:  # else it need not wait for another's
            async with self._reading:
                if key not in self._kept:
                    self._kept[key] = _Kept(await self._read(key, voice, load, run))
        self._kept.move_to_end(key)
        kept = self._kept[key]
        kept.users += 1
        try:
            yield kept.adapter
        finally:
            kept.users -= 1

    def close(self) -> None:
        """Forget them all; one that still speaks goes when it ends."""
        self._kept.clear()

    async def _read(self, key: str, voice: StoredVoice, load: Load, run: Run) -> Any:
        refusal = self._refused.get(key)
        if refusal is not None and self._clock() < refusal.until_s:
            raise refusal.error.about("voice")
        self._make_room(0)
        try:
            adapter = await run(self._load, voice.id, load)
        except (UnreadableFile, OSError, MemoryError, OutOfMemory) as error:
            log.warning("the adapter of voice %s cannot be read now: %s", voice.id, error)
            raise self._refuse_for_now(
                key,
                OverCapacity(
                    f"the adapter of voice {voice.id!r} cannot be read now; try again later",
                    retry_after_ms=_RETRY_AFTER_MS,
                ),
            ) from None
        except InvalidRequest as error:  # damaged; who copies it back need not start the server
            raise self._refuse_for_now(key, error) from None
        except StartupError as error:
            # Its sentence has paths, which are no client's business.
            log.warning("the adapter of voice %s cannot be used: %s", voice.id, error)
            raise self._refuse_for_good(
                key, "cannot be used with this server's model; its log says why"
            ) from None
        limit = self._limits.max_adapters_memory_bytes
        if adapter.size_bytes > limit:
            raise self._refuse_for_good(
                key,
                f"takes {adapter.size_bytes} bytes of memory, the limit is {limit} "
                "(TTS_PROVIDER_MAX_ADAPTERS_MEMORY_BYTES)",
            )
        self._refused.pop(key, None)
        self._make_room(adapter.size_bytes)
        return adapter

    def _load(self, voice_id: str, load: Load) -> Any:
        assert self._store is not None  # who has a stored voice has a store
        return load(read_low_rank(self._store.open_adapter(voice_id), self._config))

    def _make_room(self, size_bytes: int) -> None:
        """For one more, of that size. Raises `OverCapacity` where those that are left all speak."""
        limits = self._limits
        for key in [key for key, kept in self._kept.items() if not kept.users]:
            if self._has_room(size_bytes):
                break
            del self._kept[key]
        if not self._has_room(size_bytes):
            raise OverCapacity(
                f"{len(self._kept)} adapters speak now, and there is no room for another voice's: "
                f"the limits are {limits.max_adapters} adapters and "
                f"{limits.max_adapters_memory_bytes} bytes; try again later",
                retry_after_ms=_RETRY_AFTER_MS,
            )

    def _has_room(self, size_bytes: int) -> bool:
        taken = sum(kept.adapter.size_bytes for kept in self._kept.values())
        fits = taken + size_bytes <= self._limits.max_adapters_memory_bytes
        return fits and len(self._kept) < self._limits.max_adapters

    def _refuse_for_good(self, key: str, reason: str) -> WireError:
        """A voice never changes, so what was refused once need not be read again."""
        voice_id, _, _ = key.partition(":")
        return self._refuse(
            key,
            InvalidRequest(
                f"the adapter of voice {voice_id!r} {reason}",
                code="adapter_unusable",
                param="voice",
            ),
            math.inf,
        )

    def _refuse_for_now(self, key: str, error: WireError) -> WireError:
        """Refuse for a passing reason. Until the next try, no request reads the adapter."""
        return self._refuse(key, error, self._clock() + _RETRY_AFTER_MS / 1000)

    def _refuse(self, key: str, error: WireError, until_s: float) -> WireError:
        self._refused[key] = _Refusal(error, until_s)
        self._refused.move_to_end(key)
        if len(self._refused) > _REFUSED_KEPT:
            self._refused.popitem(last=False)
        return error.about("voice")


def adapter_key(voice: StoredVoice) -> str:
    """Names the voice with its adapter, for what is kept of either."""
    return voice.id if voice.adapter is None else f"{voice.id}:{voice.adapter.sha256}"


def stored_ranks(store: VoiceStore, limits: Limits) -> int:
    """The ranks of the adapters that voices have now, as many of them as may be in memory."""
    ranks = []
    for voice in store.list():
        if voice.adapter is None:
            continue
        try:
            changes = read_adapter(store.open_adapter(voice.id)).changes.values()
        except (TTSError, OSError):
            continue  # who speaks with it hears why not
        ranks.append(
            max((change.a.shape[0] for change in changes if change.a is not None), default=0)
        )
    return sum(sorted(ranks)[-limits.max_adapters :])
