"""Books that were made to hurt: the process that reads them bears it."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest

import books
from tts_provider.errors import InvalidRequest
from tts_provider.jobs.read import limits, read_process
from tts_provider.jobs.read.read import read_book
from tts_provider.jobs.read.read_process import read_book_apart


@pytest.fixture(name="read")
def make_read(tmp_path):
    async def read(data: bytes, kind=None):
        path = tmp_path / "book"
        path.write_bytes(data)
        with path.open("rb") as file:
            return await read_book_apart(file, kind, "book")

    return read


async def refused(read, data: bytes, kind=None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await read(data, kind)
    return caught.value


async def test_it_reads_what_is_read_here(read):
    data = books.two_lamps()
    assert await read(data) == read_book(io.BytesIO(data), None, "book")


async def test_problems_are_told_as_here(read):
    assert (await refused(read, b"hello", "epub")).code == "invalid_book"


def bomb(megabytes: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("META-INF/container.xml", books.CONTAINER)
        with archive.open("OEBPS/book.opf", "w") as entry:
            for _ in range(megabytes):
                entry.write(b" " * 1_000_000)
    return out.getvalue()


async def test_a_zip_bomb_is_unpacked_no_further_than_its_bound(read):
    problem = await refused(read, bomb(100), "epub")
    assert problem.code == "book_too_large"
    assert "unpacked" in problem.message


async def test_entities_are_not_read(read):
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    package = f'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY l0 "lol">{lol}]><package>&l9;</package>'
    files = {"META-INF/container.xml": books.CONTAINER, "OEBPS/book.opf": package}
    assert "declares entities" in (await refused(read, books.zipped(files), "epub")).message
    package = '<!DOCTYPE p [<!ENTITY f SYSTEM "file:///etc/passwd">]><package>&f;</package>'
    problem = await refused(read, books.zipped({**files, "OEBPS/book.opf": package}), "epub")
    assert "declares entities" in problem.message


async def test_deep_trees_are_not_read(read):
    files = {"META-INF/container.xml": books.CONTAINER, "OEBPS/book.opf": "<a>" * 300_000}
    assert (await refused(read, books.zipped(files), "epub")).code == "invalid_book"


async def test_ten_thousand_chapters_are_refused(read):
    text = "\n\n".join(f"Chapter {n}\n\nIt was dark." for n in range(1, 10_001))
    problem = await refused(read, text.encode())
    assert problem.code == "book_too_large"
    assert f"{limits.MAX_CHAPTERS} chapters" in problem.message
    links = "".join(f'<li><a href="a.xhtml#c{n}">{n}</a></li>' for n in range(10_000))
    data = books.epub({"a.xhtml": books.page("<p>x</p>")}, nav=f"<ol>{links}</ol>")
    assert (await refused(read, data)).code == "book_too_large"


async def test_ten_thousand_files_are_read_and_more_than_the_limit_refused(read):
    many = {f"{n}": "" for n in range(limits.MAX_ENTRIES + 1)}
    assert (await refused(read, books.zipped(many), "epub")).code == "book_too_large"


@pytest.mark.skipif(sys.platform == "win32", reason="CPU time is bounded by the clock there")
async def test_who_takes_too_much_cpu_time_is_ended(read, monkeypatch, tmp_path):
    (tmp_path / "stuck.py").write_text(
        "from tts_provider.jobs.read import read_child\n"
        "import sys\n"
        "def read(*_):\n    while True: pass\n"
        "read_child.read_book = read\nread_child.CPU_S = 1\nread_child.main(*sys.argv[1:])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(read_process, "CHILD", "stuck")
    assert (await refused(read, b"hello")).code == "book_too_costly"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
async def test_who_takes_too_much_memory_is_told(read, monkeypatch, tmp_path):
    (tmp_path / "greedy.py").write_text(
        "from tts_provider.jobs.read import read_child\n"
        "import sys\n"
        "read_child.read_book = lambda *_: bytes(500 * 1024 * 1024)\n"
        "read_child.main(*sys.argv[1:])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(read_process, "CHILD", "greedy")
    assert (await refused(read, b"hello")).code == "book_too_costly"
