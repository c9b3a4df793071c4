"""`tts-provider say`: one text through a server, to a file or a player."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tts_provider.audio.pcm import BYTES_PER_SAMPLE, WAV_HEADER_BYTES
from tts_provider.client import DEFAULT_URL, ConnectionFailed, TTSClient, TTSClientError
from tts_provider.errors import StartupError, TTSError
from tts_provider.player import play
from tts_provider.speech.engine import SAMPLE_RATE


def say(
    text: str,
    *,
    output: str | None = None,
    url: str | None = None,
    api_key: str | None = None,
    stream: bool = False,
    **options: Any,
) -> None:
    """Speak `text`; `options` are the request's fields. Raises `TTSError` with one sentence."""
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(_connect(url, api_key, stack))
            if stream:
                pieces: Iterable[bytes] = client.stream(text, format="wav", **options)
            else:
                pieces = iter([client.speak(text, **options)])
            _deliver(_with_progress(pieces, options.get("sample_rate") or SAMPLE_RATE), output)
        except TTSClientError as error:
            raise TTSError(str(error)) from error


def _connect(url: str | None, api_key: str | None, stack: contextlib.ExitStack) -> TTSClient:
    client = TTSClient(url or DEFAULT_URL, api_key=api_key)
    try:
        client.info()
    except ConnectionFailed as error:
        if url is not None or not isinstance(error.__cause__, OSError):
            raise
        print(
            f"tts-provider: no server at {DEFAULT_URL}; speaking with the embedded voice",
            file=sys.stderr,
        )
        client = TTSClient(stack.enter_context(embedded_server()))
    return client


def _deliver(pieces: Iterator[bytes], output: str | None) -> None:
    if output is None:
        play(pieces)
    elif output == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    else:
        first = next(pieces, b"")  # a request that fails leaves no empty file behind
        try:
            with Path(output).open("wb") as file:
                file.write(first)
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            raise StartupError(f"cannot write {output}: {error.strerror}") from error


def _with_progress(pieces: Iterable[bytes], sample_rate: int) -> Iterator[bytes]:
    """The pieces, with a line on a terminal saying how much audio there is."""
    if not sys.stderr.isatty():
        yield from pieces
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking")
        heard_bytes = -WAV_HEADER_BYTES
        for piece in pieces:
            heard_bytes += len(piece)
            audio_s = heard_bytes / (BYTES_PER_SAMPLE * sample_rate)
            progress.update(task, description=f"{audio_s:.1f} s of audio")
            yield piece


@contextlib.contextmanager
def embedded_server() -> Iterator[str]:
    """A server of this process on a free loopback port, with the embedded voice; yields its URL."""
    from tts_provider.config import Settings
    from tts_provider.server.lifecycle import Server
    from tts_provider.speech.espeak import EspeakEngine

    started = threading.Event()
    server: Server | None = None
    failure: BaseException | None = None

    async def run() -> None:
        nonlocal server
        settings = Settings(host="127.0.0.1", port=0, _env_file=None)
        server = Server(EspeakEngine(), settings)
        running = asyncio.ensure_future(server.run())
        listening = asyncio.ensure_future(server.listening.wait())
        await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
        started.set()
        await running

    def work() -> None:
        nonlocal failure
        try:
            asyncio.run(run())
        except TTSError as error:
            failure = error
        finally:
            started.set()

    thread = threading.Thread(target=work, name="embedded-server")
    thread.start()
    started.wait()
    try:
        if failure is not None:
            raise failure
        assert server is not None
        yield f"ws://127.0.0.1:{server.port}"
    finally:
        if server is not None:
            server.stop()
        thread.join()
