"""`tts-provider voices list | add | remove | check`, on the data folder: no server is needed,
and one that runs sees the change."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tts_provider.audio.decode.decode_process import decode_once
from tts_provider.audio.pcm import Samples
from tts_provider.config import Settings
from tts_provider.errors import StartupError, TTSError
from tts_provider.server.logs import printable
from tts_provider.voices.enrolment import PreparedRecording, check_transcript, make_prompt
from tts_provider.voices.store import MAX_SPEAKER, StoredVoice, open_store


def list_voices(settings: Settings) -> None:
    rows = [_row(voice) for voice in open_store(settings).list()]
    if not rows:
        print(
            f"no voices of your own in {settings.data_dir}; tts-provider voices add creates "
            "one. A server lists the voices of its engine at /v1/audio/voices",
            file=sys.stderr,
        )
        return
    if not sys.stdout.isatty():
        for row in rows:
            _print_line("\t".join(row))
        return
    console = Console()
    # An id is there to be copied: never in two lines.
    identity = Column("id", no_wrap=True, min_width=max(len(row[0]) for row in rows))
    table = Table(identity, "name", "voice", "pitch", "length", "enrolled", "adapter", box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def add_voice(
    settings: Settings,
    name: str,
    audio: str | None = None,
    transcript: str | None = None,
    adapter: str | None = None,
    speaker: int = 0,
    *,
    consent: bool = False,
) -> None:
    """Prints the new voice's id, alone on its line; what else there is to say goes to stderr."""
    if (audio is None) != (transcript is None) or (audio is None and adapter is None):
        raise StartupError(
            "give --audio FILE with --transcript TEXT, or --adapter DIR, or all three"
        )
    if adapter is None and speaker:
        raise StartupError("--speaker is of an adapter; give its folder as --adapter DIR")
    if not 0 <= speaker <= MAX_SPEAKER:
        raise StartupError(f"--speaker must be 0 to {MAX_SPEAKER}, got {speaker}")
    if not consent:
        raise StartupError("add --consent if the person whose voice this is has agreed to it")
    store = open_store(settings)
    store.check(name, transcript, consent)
    warnings: list[str] = []
    folder = None if adapter is None else _check_adapter(settings, Path(adapter), warnings)
    recording = None if audio is None else _decode(audio, settings)
    added = store.add(name, transcript, consent, recording, folder, speaker)
    _print_line(added.voice.id)
    _print_warnings(warnings + added.warnings)


def remove_voice(settings: Settings, voice_id: str) -> None:
    if not open_store(settings).remove(voice_id):
        raise TTSError(f"there is no voice {voice_id!r} in {settings.data_dir}")


def check_audio(settings: Settings, audio: str, transcript: str | None = None) -> None:
    """Prints what a recording is like, without keeping it."""
    if transcript is not None:
        transcript = check_transcript(transcript)
    prompt = make_prompt(_decode(audio, settings), transcript)
    for name, value in _facts(prompt).items():
        _print_line(f"{name:9} {value}")
    _print_warnings(prompt.warnings)


def _facts(prompt: PreparedRecording) -> dict[str, str]:
    measured = prompt.measured
    return {
        "length": f"{prompt.duration_ms / 1000:.1f} s without the silence around it",
        "speech": f"{measured.speech_ms / 1000:.1f} s",
        "pitch": f"{_pitch(measured.pitch_hz)}, {prompt.gender}",
        "level": f"{measured.speech_dbfs:.0f} dBFS",
        "noise": f"{measured.noise_dbfs:.0f} dBFS",
        "clipped": f"{measured.clipped_share:.2%}",
    }


def _check_adapter(settings: Settings, path: Path, warnings: list[str]) -> Path:
    """Its folder, where a server of these settings can speak with it.

    Raises `StartupError` where it is none, `TTSError` where a voice cannot have it.
    """
    from tts_provider.engines.csm.adapters.low_rank import read_low_rank
    from tts_provider.engines.csm.config import CSM_1B
    from tts_provider.engines.csm.files.checkpoint import open_checkpoint
    from tts_provider.engines.csm.files.locate import find_adapter, locate

    folder, config = find_adapter(path.expanduser()), CSM_1B
    plain = settings.model_copy(update={"adapter": None})
    settings.export_hugging_face()
    try:
        config = open_checkpoint(locate(plain, _ignore, may_download=False).folder).config
    except StartupError:
        if settings.model_path is not None or settings.model is not None:
            raise
        warnings.append("No model is here, so the adapter was compared with CSM-1B's dimensions.")
    try:
        read_low_rank(folder, config)
    except StartupError as error:
        raise TTSError(str(error)) from None
    return folder


def _ignore(_line: str) -> None:
    pass


def _row(voice: StoredVoice) -> tuple[str, ...]:
    return (
        voice.id,
        printable(voice.name),
        voice.gender,
        _pitch(voice.pitch_hz),
        "no recording" if voice.duration_ms is None else f"{voice.duration_ms / 1000:.1f} s",
        voice.created.strftime("%Y-%m-%d %H:%M"),
        "no adapter" if voice.adapter is None else "adapter",
    )


def _pitch(pitch_hz: float | None) -> str:
    return "no pitch" if pitch_hz is None else f"{pitch_hz:.0f} Hz"


def _decode(path: str, settings: Settings) -> Samples:
    decoding = decode_once(
        _read(path, settings),
        max_bytes=settings.max_voice_upload_bytes,
        max_audio_s=settings.max_voice_audio_s,
    )
    return asyncio.run(decoding)


def _read(path: str, settings: Settings) -> bytes:
    try:
        with Path(path).open("rb") as file:
            # One byte more is enough to be refused as too large.
            return file.read(settings.max_voice_upload_bytes + 1)
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise StartupError(f"{path!r} is no file's name") from None


def _print_line(line: str) -> None:
    # A pipe on Windows may have an encoding that lacks most letters.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    print(line)


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
