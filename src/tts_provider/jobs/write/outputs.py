"""What is made of a book, by the name that it is to have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.errors import StartupError, TTSError
from tts_provider.jobs.timeline import Timeline
from tts_provider.jobs.write.audio import (
    AUDIO_KINDS,
    AudioKind,
    OnSound,
    chapter_file_name,
    write_audio_file,
    write_chapter_files,
)
from tts_provider.jobs.write.epub import write_epub

OutputKind = AudioKind | Literal["epub", "folder"]


def output_kind(path: Path, name: str) -> OutputKind:
    """By its name; `name` is what was typed, which ends with `/` where a folder is meant. Raises
    `StartupError` where it is none that can be made."""
    suffix = path.suffix.lower().removeprefix(".")
    if name.endswith(("/", os.sep)) or path.is_dir():
        return "folder"
    if suffix == "epub":
        return "epub"
    for kind in AUDIO_KINDS:
        if suffix == kind or (suffix, kind) in (("m4a", "m4b"), ("ogg", "opus")):
            return kind
    known = ", ".join(f".{kind}" for kind in (*AUDIO_KINDS, "epub"))
    raise StartupError(
        f"{name} says nothing of what is to be made: end it with {known}, or with / for a folder "
        "that has a file for each chapter"
    )


def write_output(
    timeline: Timeline,
    path: Path,
    kind: OutputKind,
    signer: ManifestSigner | None = None,
    *,
    chapter_kind: AudioKind = "mp3",
    on_sound: OnSound | None = None,
    at_once: int = 1,
) -> list[Path]:
    """The files that were made; where each chapter has one, `at_once` are written on threads.
    Raises `InvalidRequest` or `TTSError`."""
    if kind == "epub":
        write_epub(timeline, path, signer, on_sound, at_once=at_once)
        return [path]
    if kind != "folder":
        write_audio_file(timeline, path, kind, signer, on_sound)
        return [path]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TTSError(f"cannot make the folder {path}: {error.strerror}") from None
    files = write_chapter_files(
        timeline,
        lambda chapter: path / chapter_file_name(timeline, chapter, chapter_kind),
        chapter_kind,
        signer,
        on_sound,
        at_once=at_once,
    )
    return [file for _, file in files]
