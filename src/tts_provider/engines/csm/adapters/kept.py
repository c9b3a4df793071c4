"""Voices' adapters in memory: read when a voice speaks first, those that spoke last are kept."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tts_provider.config import Limits
from tts_provider.engines.csm.adapters.low_rank import LowRank, read_low_rank
from tts_provider.engines.csm.config import CsmConfig
from tts_provider.errors import InvalidRequest, OverCapacity, StartupError
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


class KeptAdapters:
    """One that speaks is never taken out, so the limits bound what speaks at once too."""

    def __init__(self, store: VoiceStore | None, config: CsmConfig, limits: Limits) -> None:
        self._store, self._config, self._limits = store, config, limits
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()
        # One at a time, whoever waits for it: streams that speak need the cores.
        self._reading = asyncio.Lock()

    @asynccontextmanager
    async def use(self, voice: StoredVoice | None, load: Load, run: Run) -> AsyncIterator[Any]:
        """The voice's adapter as `load` makes it; None where it has none.

        Raises `InvalidRequest` where it cannot be used here, `OverCapacity` where all the room is
        taken by others that speak.
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
        if key in self._refused:
            raise self._refuse(key, self._refused[key])
        self._make_room(0)
        try:
            adapter = await run(self._load, voice.id, load)
        except StartupError as error:
            # Its sentence has paths, which are no client's business.
            log.warning("the adapter of voice %s cannot be used: %s", voice.id, error)
            raise self._refuse(
                key, "cannot be used with this server's model; its log says why"
            ) from None
        limit = self._limits.max_adapters_memory_bytes
        if adapter.size_bytes > limit:
            raise self._refuse(
                key,
                f"takes {adapter.size_bytes} bytes of memory, the limit is {limit} "
                "(TTS_PROVIDER_MAX_ADAPTERS_MEMORY_BYTES)",
            )
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
                f"{limits.max_adapters_memory_bytes} bytes; come back in a moment",
                retry_after_ms=_RETRY_AFTER_MS,
            )

    def _has_room(self, size_bytes: int) -> bool:
        taken = sum(kept.adapter.size_bytes for kept in self._kept.values())
        fits = taken + size_bytes <= self._limits.max_adapters_memory_bytes
        return fits and len(self._kept) < self._limits.max_adapters

    def _refuse(self, key: str, reason: str) -> InvalidRequest:
        """A voice never changes, so what was refused once need not be read again."""
        self._refused[key] = reason
        if len(self._refused) > _REFUSED_KEPT:
            self._refused.popitem(last=False)
        voice_id, _, _ = key.partition(":")
        return InvalidRequest(
            f"the adapter of voice {voice_id!r} {reason}", code="adapter_unusable", param="voice"
        )


def adapter_key(voice: StoredVoice) -> str:
    """Names the voice with its adapter, for what is kept of either."""
    return voice.id if voice.adapter is None else f"{voice.id}:{voice.adapter.sha256}"
