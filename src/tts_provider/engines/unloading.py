"""An engine that frees its memory when nobody has used it for a while, and loads again for the next
request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from tts_provider.engines.build_thread import BuildThread
from tts_provider.engines.memory import give_back_freed, resident_bytes
from tts_provider.engines.wrapper import WrapperEngine
from tts_provider.errors import EngineFailed, TTSError, WireError
from tts_provider.speech.engine import (
    Engine,
    Residency,
    Samples,
    Sound,
    Spoken,
    Utterance,
    Voice,
)

log = logging.getLogger(__name__)

_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


class ModelMetrics:
    """What the engines of one server count together."""

    def __init__(self) -> None:
        self._loaded = Gauge(
            "tts_model_loaded", "1 while the model is in memory.", ["engine"], registry=None
        )
        self._load_s = Histogram(
            "tts_model_load_seconds",
            "How long the model took to load again.",
            ["engine"],
            buckets=_SECONDS,
            registry=None,
        )
        self._failures = Counter(
            "tts_model_load_failures",
            "Times that the model could not be loaded again.",
            ["engine"],
            registry=None,
        )
        self.collectors: tuple[Collector, ...] = (self._loaded, self._load_s, self._failures)

    def watch(self, engine: str) -> None:
        """Count from 0, so that the first failure is an increase."""
        for metric in (self._loaded, self._load_s, self._failures):
            metric.labels(engine)

    def is_loaded(self, engine: str, loaded: bool) -> None:
        self._loaded.labels(engine).set(loaded)

    def loaded_again(self, engine: str, seconds: float) -> None:
        self._load_s.labels(engine).observe(seconds)

    def failed(self, engine: str) -> None:
        self._failures.labels(engine).inc()


class UnloadingEngine(WrapperEngine):
    """Speaks as the engine within does. After an unload a new engine is built, so that nothing of
    the old one is left."""

    def __init__(
        self,
        engine: Engine,
        rebuild: Callable[[Callable[[str], None]], Engine],
        after_s: float,
        metrics: ModelMetrics,
    ) -> None:
        """`rebuild` makes the same engine, not loaded; it may read files, on a thread."""
        super().__init__(engine)  # a closed one still says which voices there are
        self._rebuild, self._after_s, self._metrics = rebuild, after_s, metrics
        self.collectors = (*engine.collectors, *metrics.collectors)
        self._residency: Residency = "loading"
        self._changing: asyncio.Task[None] | None = None  # what unloads or loads
        self._users = 0
        self._is_closed = False
        self._idle: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()  # whichever of those that were loaded
        self._watching: asyncio.Task[None] | None = None
        metrics.watch(self.name)

    @property
    def problem(self) -> WireError | None:
        return self._engine.problem if self._residency == "loaded" else None

    @property
    def residency(self) -> Residency:
        return self._residency

    async def wait_lost(self) -> None:
        await self._lost.wait()

    def of(self, voice: Voice) -> Engine:
        return self  # the engine within may be another one by then

    async def load(self, on_progress: Callable[[str], None]) -> None:
        await super().load(on_progress)
        self._loaded()
        self._wait()

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        async with self._used() as engine, aclosing(engine.speak(utterance)) as sounds:
            async for sound in sounds:
                yield sound

    async def listen(self, text: str, speaker: int, samples: Samples) -> Spoken:
        async with self._used() as engine:
            return await engine.listen(text, speaker, samples)

    async def close(self) -> None:
        self._is_closed = True
        self._stop_waiting()
        self._stop_watching()
        if self._changing is not None:
            if self._residency == "loading":
                self._changing.cancel()
            await asyncio.wait({self._changing})
        if self._residency != "unloaded":
            self._residency = "unloaded"
            await self._engine.close()

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[Engine]:
        """The engine, loaded, which stays so meanwhile.

        Raises `EngineFailed` where it cannot be loaded; who comes later tries again.
        """
        self._users += 1
        self._stop_waiting()
        try:
            while self._residency != "loaded":
                if self._is_closed:
                    raise EngineFailed("the server is stopping")
                if self._changing is None:
                    self._residency = "loading"
                    self._changing = asyncio.create_task(self._load_again())
                # Whoever leaves meanwhile leaves to the others what they wait for.
                await asyncio.shield(self._changing)
            yield self._engine
        finally:
            self._users -= 1
            self._wait()

    def _wait(self) -> None:
        """For somebody to use it, or for the time to be up."""
        if self._users == 0 and self._residency == "loaded":
            self._idle = asyncio.get_running_loop().call_later(self._after_s, self._unload_soon)

    async def _watch(self, engine: Engine) -> None:
        await engine.wait_lost()
        self._lost.set()

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _unload_soon(self) -> None:
        self._idle, self._residency = None, "unloaded"
        self._metrics.is_loaded(self.name, False)
        self._changing = asyncio.create_task(self._unload())

    async def _unload(self) -> None:
        before = resident_bytes()
        self._stop_watching()
        try:
            await self._engine.close()
            await asyncio.to_thread(give_back_freed)
        except Exception:  # whatever it is, the next one is built anew
            log.exception("%s could not be closed", self.name)
        finally:
            self._changing = None
        log.info(
            "%s was not used for %g s and is unloaded until the next request; the process has "
            "%.2f GB of memory, and had %.2f GB",
            *(self.name, self._after_s, resident_bytes() / 1e9, before / 1e9),
        )

    async def _load_again(self) -> None:
        """Raises `EngineFailed`."""
        began_s = time.monotonic()
        log.info("loading %s again for a request", self.name)
        building = BuildThread(lambda: self._rebuild(_report))
        engine: Engine | None = None
        try:
            engine = await building.result()
            await engine.load(_report)
        except BaseException as error:  # noqa: BLE001 - an engine runs foreign code
            if engine is not None:
                await engine.close()
            self._residency = "unloaded"
            if isinstance(error, asyncio.CancelledError):  # by `close`, not by who waits
                raise EngineFailed("the server is stopping") from None
            raise self._failure(error) from None
        else:
            self._engine = engine
            self._loaded()
            self._wait()
            took_s = time.monotonic() - began_s
            self._metrics.loaded_again(self.name, took_s)
            log.info("%s is loaded again after %.1f s", self.name, took_s)
        finally:
            self._changing = None

    def _loaded(self) -> None:
        self._residency = "loaded"
        self._watching = asyncio.create_task(self._watch(self._engine))
        self._metrics.is_loaded(self.name, True)

    def _failure(self, error: BaseException) -> EngineFailed:
        if not isinstance(error, TTSError):
            log.error("the engine failed unexpectedly", exc_info=error)
        sentence = " ".join(str(error).split()) or type(error).__name__
        problem = EngineFailed(f"the model could not be loaded again: {sentence}")
        log.error("%s", problem)
        self._metrics.failed(self.name)
        return problem


def _report(line: str) -> None:
    log.info("%s", line)
