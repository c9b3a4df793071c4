"""`tts-provider say`: one text through a server, to a file or a player."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import stat
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tts_provider.audio.pcm import (
    BYTES_PER_SAMPLE,
    UNKNOWN_WAV_SIZE,
    from_s16,
    wav_data_at,
    wav_header,
    wav_tag,
)
from tts_provider.cli.cast import ScriptTurn, cast_script, join_turns, load_cast
from tts_provider.cli.output.captions import caption_format, write_captions
from tts_provider.cli.output.player import play
from tts_provider.client import (
    DEFAULT_URL,
    AsyncTTSClient,
    ConnectionFailed,
    RequestFailed,
    SpokenWord,
    TTSClient,
    TTSClientError,
)
from tts_provider.errors import StartupError, TTSError
from tts_provider.speech.engine import SAMPLE_RATE

if TYPE_CHECKING:
    from tts_provider.audio.encode.format import Format
    from tts_provider.cli.live import WrittenText

_BROKEN_PIPE = 141  # what a shell says of a program that SIGPIPE ended
_LONGEST_WAV_BYTES = 0xFFFF_FFFF
_OF_SESSIONS: Mapping[str, Any] = {"format": "pcm", "sample_rate": SAMPLE_RATE}
_UNPACED_MS = 24 * 3600 * 1000  # the most that a session may be ahead of its listener
_SAME_SCALE = 32768 / 32767  # samples that were 16 bits wide become the same 16 bits again
_FORMATS_BY_NAME: dict[str, Format] = {
    ".aac": "aac",
    ".al": "alaw",
    ".alaw": "alaw",
    ".flac": "flac",
    ".mp3": "mp3",
    ".mulaw": "mulaw",
    ".oga": "opus",
    ".ogg": "opus",
    ".opus": "opus",
    ".pcm": "pcm",
    ".ul": "mulaw",
    ".ulaw": "mulaw",
}
_OF_OTHERS = (".aif", ".aiff", ".amr", ".m4a", ".mka", ".mp4", ".webm", ".wma")
_TELEPHONE_RATE = 8000  # what players take a file of G.711 for, which has no header


@dataclass(frozen=True)
class Access:
    """How to reach a server; what each is, `TTSClient` says."""

    url: str
    api_key: str | None = None
    ca_file: str | Path | None = None

    def client(self) -> TTSClient:
        return TTSClient(self.url, api_key=self.api_key, ca_file=self.ca_file)

    def async_client(self, attempts: int = 5) -> AsyncTTSClient:
        return AsyncTTSClient(
            self.url, api_key=self.api_key, ca_file=self.ca_file, attempts=attempts
        )


def say(
    text: str,
    *,
    output: str | None = None,
    url: str | None = None,
    api_key: str | None = None,
    ca: str | None = None,
    lexicon: str | None = None,
    stream: bool = False,
    audio_format: Format | None = None,
    captions: str | None = None,
    caption_words: bool = False,
    cast: str | None = None,
    **options: Any,
) -> None:
    """Speak `text`, in the format that the output's name asks for unless one is given; `captions`
    is a file for them, for karaoke with `caption_words`; `lexicon` is one of pronunciations,
    `options` are the request's fields. With a `cast`, a file of who speaks for whom, the text is a
    script.

    Raises `TTSError` with one sentence, and `SystemExit` where who reads the output went away.
    """
    audio_format = _choose_format(audio_format, output)
    if caption_words and captions is None:
        raise StartupError("--caption-words needs a file for the captions: --captions FILE")
    if captions is not None:
        caption_format(captions)
        options["timestamps"] = True
    turns = None if cast is None else cast_script(text, load_cast(cast))
    with contextlib.ExitStack() as stack, in_one_sentence():
        access, info, _ = find_server(url, api_key, ca, stack)
        client = stack.enter_context(access.client())
        options["format"] = audio_format
        options.setdefault("sample_rate", _usual_rate(audio_format, output))
        options |= pronunciations(lexicon, options.get("voice"), options.get("speaker"), info)
        pieces: Iterable[bytes] | None
        if turns is not None:
            pieces = _speak_turns(client, turns, stream=stream, **options)
        else:
            pieces = _speak_text(client, text, info, stream=stream, **options)
        long = None
        if pieces is None:
            long = _as_session(access, text, info, is_played=output is None, **options)
            audio = stack.enter_context(contextlib.closing(long.speak()))
            pieces = _Encoded(audio, audio_format, options.get("sample_rate"))
        share = None if long is None else lambda: long.share
        _show_and_deliver(pieces, output, audio_format, options.get("sample_rate"), share)
        if captions is not None:
            words = client.words if long is None else long.words
            if turns is not None:
                text, words = join_turns(turns, words)
            _write_captions(captions, text, words, by_word=caption_words)


def _speak_text(
    client: TTSClient, text: str, info: Mapping[str, Any], *, stream: bool, **options: Any
) -> Iterable[bytes] | None:
    """None where it is too long for one request."""
    if len(text) > info["limits"]["max_text_characters"]:
        return None
    try:
        if not stream:
            return iter([client.speak(text, **options)])
        pieces = client.stream(text, **options)
        return itertools.chain([next(pieces)], pieces)
    except RequestFailed as problem:
        if problem.code != "speech_too_long":
            raise
        return None


def _as_session(
    access: Access,
    text: str,
    info: Mapping[str, Any],
    *,
    is_played: bool,
    voice: str | None = None,
    speaker: int | None = None,
    timestamps: bool | None = None,
    ssml: bool = False,
    **options: Any,
) -> WrittenText:
    """A session has no bound on its text. What is written comes as fast as it is made."""
    from tts_provider.cli.live import WrittenText

    for name in ("format", "sample_rate"):  # the file is made here
        options.pop(name, None)
    session = access.async_client().session(
        voice=voice_of(speaker, info) if voice is None and speaker is not None else voice,
        words=timestamps,
        ssml=ssml or None,
        max_ahead_ms=None if is_played else _UNPACED_MS,
        **_OF_SESSIONS,
        **options,
    )
    return WrittenText(text, session, ssml)


def _speak_turns(
    client: TTSClient, turns: Sequence[ScriptTurn], *, stream: bool, **options: Any
) -> Iterable[bytes]:
    asked = [turn.request() for turn in turns]
    if stream:
        return client.stream_dialogue(asked, **options)
    return iter([client.speak_dialogue(asked, **options)])


def say_live(
    *,
    output: str | None = None,
    url: str | None = None,
    api_key: str | None = None,
    ca: str | None = None,
    lexicon: str | None = None,
    audio_format: Format | None = None,
    sample_rate: int | None = None,
    speaker: int | None = None,
    voice: str | None = None,
    **settings: Any,
) -> None:
    """Speak standard input while it is being written; `settings` are a session's.

    Raises what `say` does.
    """
    from tts_provider.cli.live import speak_live

    audio_format = _choose_format(audio_format, output)
    with contextlib.ExitStack() as stack, in_one_sentence():
        access, info, _ = find_server(url, api_key, ca, stack)
        settings |= pronunciations(lexicon, voice, speaker, info)
        if voice is None and speaker is not None:
            voice = voice_of(speaker, info)
        sample_rate = sample_rate or _usual_rate(audio_format, output)
        source = sys.stdin.fileno()
        session = access.async_client().session(voice=voice, **_OF_SESSIONS, **settings)
        is_ssml = bool(settings.get("ssml"))
        audio = speak_live(source, session, by_line=os.isatty(source), ssml=is_ssml)
        pieces = _Encoded(stack.enter_context(contextlib.closing(audio)), audio_format, sample_rate)
        _show_and_deliver(pieces, output, audio_format, sample_rate)


def _choose_format(asked: Format | None, output: str | None) -> Format:
    suffix = Path(output or "").suffix.lower()
    if asked is None and suffix in _OF_OTHERS:
        raise StartupError(
            f"cannot write {suffix} to {output}: its name must end in .wav, "
            f"{', '.join(_FORMATS_BY_NAME)}, or --format must name the format"
        )
    chosen = asked or _FORMATS_BY_NAME.get(suffix, "wav")
    if output is None and chosen != "wav":
        raise StartupError(f"{chosen} is not for playing here; write it with -o FILE")
    return chosen


def _usual_rate(audio_format: Format, output: str | None) -> int:
    """Whatever the server's own is."""
    is_bare_file = output not in (None, "-") and audio_format in ("mulaw", "alaw")
    return _TELEPHONE_RATE if is_bare_file else SAMPLE_RATE


@contextlib.contextmanager
def in_one_sentence() -> Iterator[None]:
    try:
        yield
    except TTSClientError as error:
        raise TTSError(str(error)) from error


def voice_of(speaker: int, info: Mapping[str, Any]) -> str:
    """A session knows voices only."""
    for voice in info["voices"]:
        if voice["speaker"] == speaker:
            return str(voice["id"])
    raise TTSError(f"there is no speaker {speaker} on this server")


def pronunciations(
    lexicon: str | None, voice: str | None, speaker: int | None, info: Mapping[str, Any]
) -> dict[str, Any]:
    """The field of that name, where there is a file: its part for everybody, and the voice's."""
    if lexicon is None:
        return {}
    from tts_provider.speech.lexicon import load_lexicon

    entries = load_lexicon(Path(lexicon)).for_voice(voice or voice_of(speaker or 0, info)).entries
    return {"pronunciations": dict(entries)}


class _Encoded:
    """16-bit PCM at 24 kHz → the bytes of a file, as they are made."""

    def __init__(self, pcm: Iterable[bytes], audio_format: Format, sample_rate: int | None) -> None:
        self._pcm, self._output = pcm, (audio_format, SAMPLE_RATE, sample_rate or SAMPLE_RATE)
        self.patches: Sequence[tuple[int, bytes]] = ()
        """At its end: what to write over a file at these positions."""

    def __iter__(self) -> Iterator[bytes]:
        from tts_provider.audio.encode.encode import create_encoder

        encoder = create_encoder(*self._output)
        with contextlib.closing(encoder):
            data = encoder.start()
            for pcm in self._pcm:
                data += encoder.push(from_s16(pcm) * _SAME_SCALE)
                if data:
                    yield data
                    data = b""
            data += encoder.finish()
            self.patches = encoder.patches()
            if data:
                yield data


def _show_and_deliver(
    pieces: Iterable[bytes],
    output: str | None,
    audio_format: Format,
    sample_rate: int | None,
    share: Callable[[], float] | None = None,
) -> None:
    rate = (sample_rate or SAMPLE_RATE) if audio_format == "wav" else None
    with contextlib.closing(_with_progress(pieces, rate, share)) as shown:
        _deliver(shown, output, pieces if isinstance(pieces, _Encoded) else None)


def find_server(
    url: str | None, api_key: str | None, ca: str | None, stack: contextlib.ExitStack
) -> tuple[Access, dict[str, Any], bool]:
    """One that answers, what it says of itself, and whether it is our own: an embedded one, which
    is told with its reason, where nobody chose an address and none is where `serve` would
    listen."""
    if url is not None:
        access, is_chosen, trouble = Access(url, api_key, ca), True, ""
    else:
        access, is_chosen, trouble = _configured(api_key, ca)
    try:
        with access.client() as client:
            return access, client.info(), False
    except ConnectionFailed as error:
        if is_chosen or not isinstance(error.__cause__, OSError):
            raise
        reason = f"no server at {access.url}{trouble}"
        print(f"tts-provider: {reason}; speaking with the embedded voice", file=sys.stderr)
    access = Access(stack.enter_context(embedded_server()))
    with access.client() as client:
        return access, client.info(), True


def _configured(api_key: str | None, ca: str | None) -> tuple[Access, bool, str]:
    """As the settings have it; whether they name a server, and what was wrong with them. The keys
    in them are those of the server that they are for."""
    from tts_provider.config import load_settings

    try:
        settings = load_settings({})
    except StartupError as error:  # of a server: a text can be spoken without
        return Access(DEFAULT_URL, api_key, ca), False, f", and the settings are wrong ({error})"
    own_key = settings.api_keys[0].get_secret_value() if settings.api_keys else None
    ca_file = ca or (settings.ca if settings.url is not None else None)
    access = Access(settings.server_url, api_key or own_key, ca_file)
    return access, settings.url is not None, ""


def _deliver(pieces: Iterator[bytes], output: str | None, encoded: _Encoded | None) -> None:
    if output is None:
        play(pieces)
    elif output == "-":
        try:
            # `sys.stdout.buffer` may be unbuffered, which writes only a part, and what it holds
            # would be flushed once more when the interpreter ends.
            with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as stdout:
                for piece in pieces:
                    stdout.write(piece)
                    stdout.flush()
        except BrokenPipeError:
            raise SystemExit(_BROKEN_PIPE) from None
        except OSError as error:
            raise StartupError(f"cannot write to standard output: {error.strerror}") from error
    else:
        first = next(pieces, b"")  # a request that fails leaves no empty file behind
        try:
            with Path(output).open("wb") as file:
                file.write(first)
                try:
                    for piece in pieces:
                        file.write(piece)
                finally:
                    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        pass
                    elif first.startswith(b"RIFF") and first[4:8] == UNKNOWN_WAV_SIZE:
                        _finish_wav(file, wav_data_at(first))
                    elif encoded is not None:
                        _finish_file(file, encoded.patches)
        except OSError as error:
            raise StartupError(f"cannot write {output}: {error.strerror}") from error


def _write_captions(name: str, text: str, words: Sequence[SpokenWord], *, by_word: bool) -> None:
    if not words:
        raise TTSError("the server does not say when words are spoken: there are no captions")
    try:
        written = write_captions(text, words, caption_format(name), by_word=by_word)
        Path(name).write_text(written, "utf-8")
    except OSError as error:
        raise StartupError(f"cannot write {name}: {error.strerror}") from error


def _finish_wav(file: BinaryIO, data_at: int | None) -> None:
    """A stream's header says that its length is not known: now it is, and there is room for the
    tag behind the audio."""
    if data_at is None:
        return
    data_bytes = file.tell() - data_at
    behind = wav_tag(data_bytes)
    riff_bytes = data_at + data_bytes + len(behind) - 8
    if riff_bytes <= _LONGEST_WAV_BYTES:
        file.write(behind)
        for position, size_bytes in ((4, riff_bytes), (data_at - 4, data_bytes)):
            file.seek(position)
            file.write(size_bytes.to_bytes(4, "little"))


def _finish_file(file: BinaryIO, patches: Sequence[tuple[int, bytes]]) -> None:
    for position, data in patches:
        file.seek(position)
        file.write(data)


def _with_progress(
    pieces: Iterable[bytes], sample_rate: int | None, share: Callable[[], float] | None
) -> Generator[bytes, None, None]:
    """The pieces, with a line on a terminal saying how much there is, and which `share` of the text
    that is where somebody knows; `sample_rate` is a WAV's."""
    if not sys.stderr.isatty():
        yield from pieces
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking")
        heard_bytes = 0
        for piece in pieces:
            heard_bytes += len(piece)
            amount = f"{heard_bytes / 1000:.1f} kB"
            if sample_rate is not None:
                audio_bytes = heard_bytes - len(wav_header(sample_rate))
                amount = f"{audio_bytes / (BYTES_PER_SAMPLE * sample_rate):.1f} s of audio"
            if share is not None:
                amount = f"{share():.0%}, {amount}"
            progress.update(task, description=amount)
            yield piece


@contextlib.contextmanager
def embedded_server() -> Iterator[str]:
    """A server of this process on a free loopback port, with the embedded voice; yields its URL.

    Raises `TTSError` where it cannot start.
    """
    from tts_provider.config import Settings
    from tts_provider.selection import build_engine, choose_embedded
    from tts_provider.server.lifecycle import Server

    # Nothing is read from the environment: a key or a limit there is for a server of its own.
    settings = Settings.model_construct(host="127.0.0.1", port=0)
    server = Server(build_engine(choose_embedded(settings), settings), settings)
    started = threading.Event()

    async def run() -> None:
        running = asyncio.ensure_future(server.run())
        listening = asyncio.ensure_future(server.listening.wait())
        await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if not running.done():
            started.set()
        await running

    with ThreadPoolExecutor(1, thread_name_prefix="embedded-server") as thread:
        running = thread.submit(lambda: asyncio.run(run()))
        running.add_done_callback(lambda _: started.set())
        try:
            started.wait()
            error = running.exception() if running.done() else None
            if isinstance(error, TTSError):
                raise error
            if error is not None:
                raise TTSError(f"the embedded server cannot start: {error!r}") from error
            yield f"ws://127.0.0.1:{server.port}"
        finally:
            started.wait()  # before that there is nothing to stop
            with contextlib.suppress(RuntimeError):  # it ended by itself
                server.stop()
