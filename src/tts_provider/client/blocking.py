"""A speech session for plain programs: that of asyncio, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from tts_provider.client.errors import ConnectionFailed
from tts_provider.client.playback import PlaybackBuffer
from tts_provider.client.session import SpeechSession
from tts_provider.client.turn import ConnectionLoss, Interruption, SpokenText
from tts_provider.client.words import SpokenWord

_Result = TypeVar("_Result")


class BlockingSpeechSession:
    """What `SpeechSession` does, blocking. While one thread plays or iterates, others may append
    and interrupt."""

    def __init__(self, session: SpeechSession) -> None:
        self._session = session
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="speech-session", daemon=True
        )

    def __enter__(self) -> BlockingSpeechSession:
        self._thread.start()
        try:
            self._wait(self._session.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._wait(self._session.__aexit__(kind, error, trace))
        finally:
            self._stop()

    @property
    def info(self) -> dict[str, Any]:
        return self._session.info

    @property
    def losses(self) -> list[ConnectionLoss]:
        return self._session.losses

    @property
    def segments(self) -> list[SpokenText]:
        return self._session.segments

    @property
    def words(self) -> list[SpokenWord]:
        return self._session.words

    def append(self, text: str, voice: str | None = None) -> None:
        self._do(lambda: self._session.append(text, voice))

    def append_audio(self, text: str, audio: bytes, speaker: int = 1) -> None:
        self._do(lambda: self._session.append_audio(text, audio, speaker))

    def flush(self) -> None:
        self._do(self._session.flush)

    def end(self) -> None:
        self._do(self._session.end)

    def cancel(self) -> None:
        self._wait(self._session.cancel())

    def play(self, buffer: PlaybackBuffer | None = None) -> None:
        self._wait(self._session.play(buffer))

    def interrupt(self, played_ms: int | None = None) -> Interruption:
        return self._wait(self._session.interrupt(played_ms))

    def __iter__(self) -> Iterator[bytes]:
        audio = self._session.__aiter__()

        async def next_piece() -> bytes | None:
            return await anext(audio, None)

        try:
            while (piece := self._wait(next_piece())) is not None:
                yield piece
        finally:
            self._wait(audio.aclose())

    def _do(self, act: Callable[[], None]) -> None:
        async def run() -> None:
            act()

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        if not self._thread.is_alive():
            work.close()
            raise ConnectionFailed("the session is not open")
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:  # Ctrl-C, too, must leave nothing behind that still waits
            waiting.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        with suppress(RuntimeError):
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
