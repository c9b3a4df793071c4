"""`tts-provider book`: a file → an audiobook, which goes on where it was when it was ended."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.cli.book.progress import Report, print_outline
from tts_provider.cli.book.server_speaker import ServerSpeaker
from tts_provider.cli.say import find_server, in_one_sentence, pronunciations, voice_of
from tts_provider.config import load_settings
from tts_provider.cpus import available_cpus
from tts_provider.engines.memory import give_back_soon
from tts_provider.errors import StartupError, TTSError
from tts_provider.jobs.book import Book
from tts_provider.jobs.parts import PartFolder
from tts_provider.jobs.plan import Plan, choose_chapters, cut_preview, plan_book
from tts_provider.jobs.read.limits import MAX_FILE_BYTES, too_large
from tts_provider.jobs.read.read import format_of
from tts_provider.jobs.read.read_process import read_book_apart
from tts_provider.jobs.timeline import Timeline
from tts_provider.jobs.work import make_parts
from tts_provider.jobs.write.audio import AudioKind
from tts_provider.jobs.write.outputs import OutputKind, output_kind, write_output

_MOST_AT_ONCE = 8
"""Lines that a server elsewhere is asked for at once; no more than half of what it takes, as others
listen to it too."""
SLOWEST, FASTEST = 0.25, 4.0
_SEED = 1
"""For engines that draw: a line that is spoken anew is the same."""
_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s?(s|m|min|h|)")
_RANGE = re.compile(r"([0-9]{1,5})(?:(-)([0-9]{1,5})?)?")


def make_book(
    file: str,
    *,
    output: Sequence[str] = (),
    chapters: str | None = None,
    preview: str | None = None,
    title: str | None = None,
    author: str | None = None,
    chapter_format: AudioKind = "mp3",
    dry_run: bool = False,
    restart: bool = False,
    quiet: bool = False,
    as_json: bool = False,
    url: str | None = None,
    api_key: str | None = None,
    ca: str | None = None,
    lexicon: str | None = None,
    voice: str | None = None,
    speaker: int | None = None,
    speed: float = 1.0,
    seed: int = _SEED,
) -> None:
    """Read `file`, or standard input where it is `-`, and make each of `output` of it.

    Raises `TTSError` with one sentence; what was made until then is kept.
    """
    if not (output or dry_run):
        raise StartupError("say what to make with -o FILE: book.m4b, book.mp3, book.epub, folder/")
    wanted = [(Path(name), output_kind(Path(name), name)) for name in output]
    if not SLOWEST <= speed <= FASTEST:
        raise StartupError(f"--speed must be from {SLOWEST:g} to {FASTEST:g}; got {speed:g}")
    preview_s = None if preview is None else read_time(preview)
    book = _read(file)
    book = replace(book, title=title or book.title, author=author or book.author)
    if chapters is not None:
        book = choose_chapters(book, read_ranges(chapters, len(book.chapters)))
    if preview_s is not None:
        book = cut_preview(book, preview_s, speed)
    if dry_run:
        print_outline(book, speed, as_json=as_json)
        return
    give_back_soon()
    signer = _signer()
    folder = PartFolder(partial_path(wanted[0][0]))
    shown = ExitStack()
    try:
        # What speaks is gone before the files are written: they have the memory then.
        with ExitStack() as stack, in_one_sentence():
            access, info, is_own = find_server(url, api_key, ca, stack)
            voice = voice or voice_of(speaker or 0, info)
            options = {"voice": voice, "speed": speed, "seed": seed}
            options |= pronunciations(lexicon, voice, None, info)
            at_once = available_cpus() if is_own else _share_of(info)
            book = replace(book, language=book.language or _language_of(voice, info))
            plan = plan_book(book)
            server = ServerSpeaker(access, info, at_once, options)
            settings = {
                **server.facts,
                "chapters": chapters or "all",
                "preview": preview or "no",
                "text": plan.text_digest(),
            }
            folder.open(settings, restart=restart)
            report = shown.enter_context(Report(plan, quiet=quiet, as_json=as_json))
            asyncio.run(_speak(plan, folder, server, at_once, report))
        timeline = Timeline(plan, folder)
        files = _write(timeline, wanted, chapter_format, signer, report)
        folder.remove()
    except KeyboardInterrupt:
        if folder.path.exists():
            _say(f"stopped; the same command goes on with {folder.path}")
        raise
    finally:
        shown.close()
        folder.close()
    report.finish(timeline, files)


async def _speak(
    plan: Plan, folder: PartFolder, speaker: ServerSpeaker, at_once: int, report: Report
) -> None:
    """Until all parts are there."""
    try:
        async with aclosing(make_parts(plan, folder, speaker, at_once)) as parts:
            async for done in parts:
                report.made(done)
    finally:
        await speaker.close()


def _write(
    timeline: Timeline,
    wanted: Sequence[tuple[Path, OutputKind]],
    chapter_format: AudioKind,
    signer: ManifestSigner | None,
    report: Report,
) -> list[Path]:
    if not timeline.samples:
        raise TTSError("nothing in the book can be spoken")
    files = list[Path]()
    for path, kind in wanted:
        report.writing(path, timeline.samples)
        files += write_output(
            timeline,
            path,
            kind,
            signer,
            chapter_kind=chapter_format,
            on_sound=report.wrote,
            at_once=available_cpus(),
        )
    return files


def partial_path(path: Path) -> Path:
    """Where what is made so far of that file is kept."""
    return path.with_name(f"{path.name}.partial")


def read_time(text: str) -> float:
    """`90`, `90s`, `2m`, `1.5h` → seconds. Raises `StartupError`."""
    match = _TIME.fullmatch(text.strip().lower())
    seconds = float(match[1]) * _TIMES[match[2]] if match else 0.0
    if seconds <= 0:
        raise StartupError(f"--preview is a time such as 90s, 2m or 1h; got {text!r}")
    return seconds


def read_ranges(text: str, most: int) -> set[int]:
    """`3-5,8`, `7-` → numbers. Raises `StartupError`."""
    chosen = set[int]()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise StartupError(f"--chapters are numbers such as 3, 3-5 or 7-; got {text!r}")
        first = int(match[1])
        last = int(match[3]) if match[3] else max(first, most) if match[2] else first
        if last < first:
            raise StartupError(f"--chapters {part.strip()} ends before it begins")
        chosen |= set(range(first, last + 1))
    return chosen


def _read(name: str) -> Book:
    with ExitStack() as stack:
        if name == "-":
            file, shown = _standard_input(stack), "standard input"
        else:
            try:
                file, shown = stack.enter_context(Path(name).open("rb")), Path(name).name
            except OSError as error:
                raise StartupError(f"cannot read {name}: {error.strerror}") from None
        return asyncio.run(read_book_apart(file, format_of(name), shown))


def _standard_input(stack: ExitStack) -> BinaryIO:
    """In a file that has no name: who reads a book goes back and forth in it."""
    file: BinaryIO = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(_Bounded(sys.stdin.buffer), file)
    file.flush()
    return file


class _Bounded:
    def __init__(self, source: BinaryIO) -> None:
        self._source, self._left = source, MAX_FILE_BYTES

    def read(self, count: int = -1) -> bytes:
        data = self._source.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise too_large("standard input", MAX_FILE_BYTES, "bytes")
        return data


def _signer() -> ManifestSigner | None:
    settings = load_settings({})
    if settings.c2pa_cert is None or settings.c2pa_key is None:
        return None
    return ManifestSigner(settings.c2pa_cert, settings.c2pa_key)


def _share_of(info: Mapping[str, Any]) -> int:
    most = int(info.get("limits", {}).get("max_streams", 2))
    return max(1, min(_MOST_AT_ONCE, most // 2))


def _language_of(voice: str, info: Mapping[str, Any]) -> str:
    return next((str(one["language"]) for one in info["voices"] if one["id"] == voice), "")


def _say(sentence: str) -> None:
    print(f"tts-provider: {sentence}", file=sys.stderr)
