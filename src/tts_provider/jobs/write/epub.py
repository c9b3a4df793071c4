"""A timeline → an EPUB that is read aloud: each sentence is marked while it is heard.

A new book of the text that is spoken, with an audio file a chapter and a media overlay that says
which sentence is heard when: https://www.w3.org/TR/epub-33/#sec-media-overlays. The same timeline
makes the same bytes: nothing in it is of now or drawn by lot.
"""

from __future__ import annotations

import html
import os
import re
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from tts_provider import __version__
from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.audio.encode.tag import COMMENT
from tts_provider.errors import TTSError
from tts_provider.jobs.book import Book
from tts_provider.jobs.timeline import PlacedLine, Timeline
from tts_provider.jobs.write.audio import MEDIA_TYPES, AudioKind, OnSound, write_chapter_files
from tts_provider.speech.engine import SAMPLE_RATE
from tts_provider.speech.reading import ReadingOptions, read

_AUDIO: AudioKind = "mp3"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that ZIP has
_MODIFIED = "1980-01-01T00:00:00Z"
_ACTIVE = "-epub-media-overlay-active"
_STYLE = f"""body {{ line-height: 1.5; margin: 5%; }}
.{_ACTIVE} {{ background-color: #fde68a; color: #000; }}
"""
_CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""
# https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png"}


@dataclass(frozen=True)
class Sentence:
    """What is marked while it is heard; start and end in samples of its chapter."""

    text: str
    start: int
    end: int


def sentences_of(line: PlacedLine, language: str = "en") -> list[Sentence]:
    """A line's sentences, each from its first word until the next one's; where the engine does not
    say when a word is spoken, each has its share by its length."""
    passages = [
        passage
        for passage in read(line.line.text, ReadingOptions(language=language or "en"))
        if passage.text.strip()
    ]
    if not passages:
        return []
    starts, last = [line.start], line.start
    total, done = sum(len(passage.text) for passage in passages), 0
    for before, passage in pairwise(passages):
        done += len(before.text)
        heard = [
            word.start
            for word in line.words
            if passage.start <= word.text_start < max(passage.end, passage.start + 1)
        ]
        share = line.start + (line.end - line.start) * done // total
        last = max(last, min(heard[0] if heard else share, line.end))
        starts.append(last)
    ends = [*starts[1:], line.end]
    return [
        Sentence(" ".join(passage.text.split()), start, end)
        for passage, start, end in zip(passages, starts, ends, strict=True)
    ]


def write_epub(
    timeline: Timeline,
    path: Path,
    signer: ManifestSigner | None = None,
    on_sound: OnSound | None = None,
    *,
    at_once: int = 1,
) -> None:
    """`path` is there when all of it is. Raises `TTSError` where nothing can be written."""
    temporary = path.with_name(f"{path.name}.tmp")

    def audio(chapter: int) -> Path:
        return path.with_name(f"{path.name}.{chapter + 1}.{_AUDIO}")

    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            _add(archive, "mimetype", "application/epub+zip")
            _add(archive, "META-INF/container.xml", _CONTAINER)
            package = _Package(timeline.plan.book, timeline.plan.text_digest())
            files = write_chapter_files(timeline, audio, _AUDIO, None, on_sound, at_once=at_once)
            with closing(files):
                for number, made in files:
                    _write_chapter(archive, timeline, number, package, made)
                    made.unlink()
            package.write(archive)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if signer is not None:
            signer.sign_file(temporary, "epub")
        temporary.replace(path)
    except OSError as error:
        raise TTSError(
            f"cannot write {path}: {error.strerror}; what was spoken is kept, and the same command "
            "goes on with it"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
        for number in range(len(timeline.chapters)):
            audio(number).unlink(missing_ok=True)


def _write_chapter(
    archive: zipfile.ZipFile,
    timeline: Timeline,
    number: int,
    package: _Package,
    audio: Path,
) -> None:
    book, chapter = timeline.plan.book, timeline.chapters[number]
    name = f"chapter-{number + 1:04}"
    blocks, count = list[tuple[str, list[tuple[str, Sentence]]]](), 0
    last_block = -1
    for line in timeline.lines(number):
        if line.line.block != last_block:
            kind = timeline.plan.book.chapters[number].blocks[line.line.block].kind
            blocks.append(("h2" if kind == "heading" else "p", []))
            last_block = line.line.block
        for sentence in sentences_of(line, book.language):
            count += 1
            blocks[-1][1].append((f"s{count}", sentence))
    blocks = [(tag, marked) for tag, marked in blocks if marked]
    if not blocks:
        return
    _add_file(archive, f"OEBPS/audio/{name}.{_AUDIO}", audio)
    _add(archive, f"OEBPS/{name}.xhtml", _page(book, chapter.title, blocks))
    _add(archive, f"OEBPS/{name}.smil", _overlay(name, blocks))
    duration = blocks[-1][1][-1][1].end - blocks[0][1][0][1].start
    package.add(name, chapter.title, duration)


class _Package:
    """What there is in the book, written last."""

    def __init__(self, book: Book, digest: str) -> None:
        self._book = book
        self._id = uuid.uuid5(uuid.NAMESPACE_OID, digest)
        self._chapters = list[tuple[str, str, int]]()

    def add(self, name: str, title: str, duration: int) -> None:
        """`duration` of its overlay, in samples."""
        self._chapters.append((name, title, duration))

    def write(self, archive: zipfile.ZipFile) -> None:
        _add(archive, "OEBPS/style.css", _STYLE)
        _add(archive, "OEBPS/nav.xhtml", self._nav())
        cover = self._book.cover
        if cover is not None:
            name = f"OEBPS/cover.{_EXTENSIONS[cover.media_type]}"
            _add(archive, name, cover.data)
        _add(archive, "OEBPS/package.opf", self._package())

    def _nav(self) -> str:
        items = "\n".join(
            f'<li><a href="{name}.xhtml">{_escape(title) or name}</a></li>'
            for name, title, _ in self._chapters
        )
        return _document(
            self._book,
            self._book.title,
            f'<nav epub:type="toc" id="toc"><h1>{_escape(self._book.title)}</h1>\n<ol>\n{items}\n'
            "</ol></nav>",
        )

    def _package(self) -> str:
        book = self._book
        total = sum(duration for _, _, duration in self._chapters)
        creator = f"<dc:creator>{_escape(book.author)}</dc:creator>\n" if book.author else ""
        durations = "\n".join(
            f'<meta property="media:duration" refines="#{name}-overlay">{_seconds(samples)}</meta>'
            for name, _, samples in self._chapters
        )
        items = "\n".join(
            f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml" '
            f'media-overlay="{name}-overlay"/>\n'
            f'<item id="{name}-overlay" href="{name}.smil" media-type="application/smil+xml"/>\n'
            f'<item id="{name}-audio" href="audio/{name}.{_AUDIO}" '
            f'media-type="{MEDIA_TYPES[_AUDIO]}"/>'
            for name, _, _ in self._chapters
        )
        spine = "\n".join(f'<itemref idref="{name}"/>' for name, _, _ in self._chapters)
        cover = ""
        if book.cover is not None:
            cover = (
                f'<item id="cover" href="cover.{_EXTENSIONS[book.cover.media_type]}" '
                f'media-type="{book.cover.media_type}" properties="cover-image"/>\n'
            )
        return f"""<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{self._id}</dc:identifier>
<dc:title>{_escape(book.title)}</dc:title>
{creator}<dc:language>{_escape(_language(book))}</dc:language>
<dc:description>{COMMENT}</dc:description>
<meta property="dcterms:modified">{_MODIFIED}</meta>
<meta property="media:duration">{_seconds(total)}</meta>
<meta property="media:narrator">tts-provider {__version__}</meta>
<meta property="media:active-class">{_ACTIVE}</meta>
{durations}
</metadata>
<manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="style" href="style.css" media-type="text/css"/>
{cover}{items}
</manifest>
<spine>
{spine}
</spine>
</package>
"""


def _page(book: Book, title: str, blocks: Sequence[tuple[str, list[tuple[str, Sentence]]]]) -> str:
    body = "\n".join(
        f"<{tag}>"
        + " ".join(f'<span id="{key}">{_escape(one.text)}</span>' for key, one in marked)
        + f"</{tag}>"
        for tag, marked in blocks
    )
    return _document(book, title, f"<section>\n{body}\n</section>")


def _overlay(name: str, blocks: Sequence[tuple[str, list[tuple[str, Sentence]]]]) -> str:
    pars = "\n".join(
        f'<par id="p-{key}"><text src="{name}.xhtml#{key}"/><audio src="audio/{name}.{_AUDIO}" '
        f'clipBegin="{_seconds(one.start)}" clipEnd="{_seconds(max(one.end, one.start + 24))}"/>'
        "</par>"
        for _, marked in blocks
        for key, one in marked
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<smil xmlns="http://www.w3.org/ns/SMIL" xmlns:epub="http://www.idpf.org/2007/ops" version="3.0">
<body>
{pars}
</body>
</smil>
"""


def _document(book: Book, title: str, body: str) -> str:
    language = _escape(_language(book))
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" \
lang="{language}" xml:lang="{language}">
<head>
<title>{_escape(title) or "Untitled"}</title>
<link rel="stylesheet" type="text/css" href="style.css"/>
</head>
<body>
{body}
</body>
</html>
"""


def _escape(text: str) -> str:
    return html.escape(_NOT_XML.sub(" ", text))


def _language(book: Book) -> str:
    return book.language or "en"


def _seconds(samples: int) -> str:
    return f"{samples / SAMPLE_RATE:.3f}s"


def _add(archive: zipfile.ZipFile, name: str, data: str | bytes) -> None:
    with _entry(archive, name) as entry:
        entry.write(data.encode("utf-8") if isinstance(data, str) else data)


def _add_file(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    with _entry(archive, name) as entry, path.open("rb") as file:
        while data := file.read(1024 * 1024):
            entry.write(data)


@contextmanager
def _entry(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Stored as it is: nearly all of a book is audio, and c2pa-python reads no compressed ones."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = 0o644 << 16
    with archive.open(entry, "w") as file:
        yield file
