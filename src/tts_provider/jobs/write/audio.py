"""A timeline → one file of audio with chapters, or one for each chapter."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args

from tts_provider.audio.encode.compress import CompressedEncoder
from tts_provider.audio.encode.encode import Encoder, create_encoder
from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.audio.encode.mp4 import M4bEncoder
from tts_provider.audio.encode.tag import ChapterMark, FileTags
from tts_provider.audio.pcm import Samples
from tts_provider.errors import InvalidRequest, TTSError
from tts_provider.jobs.book import Book
from tts_provider.jobs.timeline import Timeline
from tts_provider.speech.engine import SAMPLE_RATE, to_ms

AudioKind = Literal["m4b", "mp3", "opus", "flac", "wav"]
AUDIO_KINDS: tuple[AudioKind, ...] = get_args(AudioKind)

MEDIA_TYPES: dict[AudioKind, str] = {
    "m4b": "audio/mp4",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
}
_MOST_WAV_SAMPLES = (2**32 - 4096) // 2
_UNSAFE = re.compile(r"[^\w .,'()&+-]+")
_LONGEST_NAME = 80

OnSound = Callable[[int], None]
"""Told how many samples were written."""


def check_length(timeline: Timeline, kind: AudioKind) -> None:
    """Raises `InvalidRequest` where a file of that kind cannot be so long."""
    if kind == "wav" and timeline.samples > _MOST_WAV_SAMPLES:
        hours = _MOST_WAV_SAMPLES / SAMPLE_RATE / 3600
        raise InvalidRequest(f"a WAV file holds {hours:.0f} hours; write .flac instead")


def write_audio_file(
    timeline: Timeline,
    path: Path,
    kind: AudioKind,
    signer: ManifestSigner | None = None,
    on_sound: OnSound | None = None,
) -> None:
    """The whole book. `path` is there when all of it is; what was there before stays until then.

    Raises `InvalidRequest` where such a file cannot be so long, `TTSError` where nothing can be
    written.
    """
    check_length(timeline, kind)
    book = timeline.plan.book
    marks = [
        ChapterMark(chapter.title, to_ms(chapter.start), to_ms(chapter.end))
        for chapter in timeline.chapters
        if chapter.end > chapter.start
    ]
    tags = FileTags(book.title, book.author, chapters=marks, cover=_cover(book))
    write_sound(timeline.sound(), path, kind, tags, signer, on_sound)


def write_chapter_file(
    timeline: Timeline,
    chapter: int,
    path: Path,
    kind: AudioKind,
    signer: ManifestSigner | None = None,
    on_sound: OnSound | None = None,
) -> None:
    """One chapter, from 0, by itself. Raises as `write_audio_file` does."""
    book = timeline.plan.book
    tags = FileTags(
        timeline.chapters[chapter].title,
        book.author,
        album=book.title,
        track=f"{chapter + 1}/{len(timeline.chapters)}",
        cover=_cover(book),
    )
    write_sound(timeline.chapter_sound(chapter), path, kind, tags, signer, on_sound)


def write_chapter_files(
    timeline: Timeline,
    path_of: Callable[[int], Path],
    kind: AudioKind,
    signer: ManifestSigner | None = None,
    on_sound: OnSound | None = None,
    *,
    at_once: int = 1,
) -> Generator[tuple[int, Path], None, None]:
    """Each chapter that has a sound, and its file when that is there, in order; `at_once` are
    written on threads of their own, which end when it is closed. Raises as `write_audio_file`
    does."""
    is_stopped = False

    def told(samples: int) -> None:
        if is_stopped:
            raise _Stopped
        if on_sound is not None:
            on_sound(samples)

    def write(chapter: int) -> Path:
        path = path_of(chapter)
        write_chapter_file(timeline, chapter, path, kind, signer, told)
        return path

    placed = enumerate(timeline.chapters)
    missing = [number for number, one in placed if one.end > one.start]
    missing.reverse()
    running = deque[tuple[int, Future[Path]]]()
    with ThreadPoolExecutor(at_once, thread_name_prefix="chapters") as threads:
        try:
            while missing or running:
                while missing and len(running) < at_once:
                    chapter = missing.pop()
                    running.append((chapter, threads.submit(write, chapter)))
                chapter, made = running.popleft()
                yield chapter, made.result()
        finally:
            is_stopped = True


class _Stopped(Exception):
    """Nobody waits for this file any more."""


def chapter_file_name(timeline: Timeline, chapter: int, kind: AudioKind) -> str:
    """`03 The Pool of Tears.mp3`: in order where names are sorted, and allowed on every system."""
    digits = max(2, len(str(len(timeline.chapters))))
    title = _UNSAFE.sub(" ", timeline.chapters[chapter].title)
    title = " ".join(title.split())[:_LONGEST_NAME].strip(" .")
    return f"{chapter + 1:0{digits}} {title}".strip() + f".{kind}"


def write_sound(
    sound: Iterable[Samples],
    path: Path,
    kind: AudioKind,
    tags: FileTags,
    signer: ManifestSigner | None,
    on_sound: OnSound | None,
) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with closing(_encoder(kind, tags)) as encoder, temporary.open("wb") as file:
            file.write(encoder.start())
            for samples in sound:
                file.write(encoder.push(samples))
                if on_sound is not None:
                    on_sound(len(samples))
            file.write(encoder.finish())
            for at, patch in encoder.patches():
                file.seek(at)
                file.write(patch)
            file.flush()
            os.fsync(file.fileno())
        if signer is not None:
            signer.sign_file(temporary, kind)
        temporary.replace(path)
    except OSError as error:
        raise TTSError(
            f"cannot write {path}: {error.strerror}; what was spoken is kept, and the same command "
            "goes on with it"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _encoder(kind: AudioKind, tags: FileTags) -> Encoder:
    if kind == "wav":
        return create_encoder("wav", SAMPLE_RATE, SAMPLE_RATE)
    if kind == "m4b":
        return M4bEncoder(SAMPLE_RATE, SAMPLE_RATE, tags)
    return CompressedEncoder(kind, SAMPLE_RATE, SAMPLE_RATE, tags=tags)


def _cover(book: Book) -> tuple[Literal["image/jpeg", "image/png"], bytes] | None:
    return None if book.cover is None else (book.cover.media_type, book.cover.data)
