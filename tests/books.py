"""Books in the formats that people have, made for tests, as other programs write them."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>"""

PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">urn:x</dc:identifier>
<dc:title>The Two Lamps</dc:title><dc:creator>A. Writer</dc:creator><dc:language>en</dc:language>
<meta name="cover" content="cover-image"/></metadata>
<manifest>{items}</manifest><spine{toc}>{spine}</spine></package>"""


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, data, kind)
    return out.getvalue()


def page(body: str, body_attributes: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html>'
        '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">'
        f"<head><title>t</title></head><body{body_attributes}>{body}</body></html>"
    )


def epub(
    pages: Mapping[str, str],
    nav: str | None = None,
    ncx: str | None = None,
    *,
    extra: Mapping[str, str | bytes] | None = None,
    not_linear: Sequence[str] = (),
) -> bytes:
    """`pages` are whole documents in reading order; `nav` an `ol`, `ncx` some `navPoint`s."""
    items = [
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(pages)
    ]
    spine = [
        f'<itemref idref="i{n}" linear="{"no" if name in not_linear else "yes"}"/>'
        for n, name in enumerate(pages)
    ]
    files: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        **{f"OEBPS/{name}": text for name, text in pages.items()},
    }
    toc = ""
    if nav is not None:
        items.append(
            '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
        )
        spine.insert(0, '<itemref idref="nav"/>')
        files["OEBPS/nav.xhtml"] = page(f'<nav epub:type="toc"><h1>Contents</h1>{nav}</nav>')
    if ncx is not None:
        items.append('<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>')
        toc = ' toc="ncx"'
        files["OEBPS/toc.ncx"] = (
            '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" '
            '"http://www.daisy.org/z3986/2005/ncx-2005-1.dtd">'
            f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{ncx}</navMap></ncx>'
        )
    items.append('<item id="cover-image" href="cover.png" media-type="image/png"/>')
    files["OEBPS/cover.png"] = png()
    files["OEBPS/book.opf"] = PACKAGE.format(items="".join(items), spine="".join(spine), toc=toc)
    return zipped({**files, **(extra or {})})


def two_lamps() -> bytes:
    """A cover, a title page, two chapters with a note, a page number, a picture; an index."""
    return epub(
        {
            "cover.xhtml": page('<img src="cover.png" alt="Cover"/>', ' epub:type="cover"'),
            "title.xhtml": page("<h1>The Two Lamps</h1><p>A. Writer</p><p>Copyright 1899</p>"),
            "one.xhtml": page(
                '<h2 id="a">Chapter 1. The First Lamp</h2>'
                '<p>It was dark.<a href="#n1" epub:type="noteref">1</a> She lit the lamp.</p>'
                '<span epub:type="pagebreak" id="p2">2</span><p>It burned all night.</p>'
                '<img src="lamp.png" alt="A lamp"/>'
                '<aside epub:type="footnote" id="n1"><p>As nights are.</p></aside>'
            ),
            "two.xhtml": page(
                "<h2>Chapter 2. The Second Lamp</h2><p>The oil was gone&nbsp;by "
                "morning<sup><a href='#x'>2</a></sup>.</p>"
                "<hr/><p>Then there was light; e = mc<sup>2</sup>.</p>"
            ),
            "index.xhtml": page("<h2>Index</h2><p>Lamp, 1, 2</p>"),
        },
        nav='<ol><li><a href="one.xhtml#a">The First Lamp</a></li>'
        '<li><a href="two.xhtml">The Second Lamp</a></li>'
        '<li><a href="index.xhtml">Index</a></li></ol>',
    )


def png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + chunk(b"IEND", b"")
    )


_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def docx(body: str) -> bytes:
    """`body` is of `<w:p>`s; `Heading1` and `Title` are styles."""
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "word/document.xml": f"<w:document {_W}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f'<w:styles {_W}><w:style w:styleId="Heading1">'
            '<w:name w:val="heading 1"/></w:style><w:style w:styleId="TOC1">'
            '<w:name w:val="toc 1"/></w:style></w:styles>',
            "docProps/core.xml": '<c xmlns:dc="http://purl.org/dc/elements/1.1/">'
            "<dc:title>Letters</dc:title><dc:creator>A. Writer</dc:creator></c>",
        }
    )


def docx_paragraph(text: str, style: str = "") -> str:
    mark = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{mark}<w:r><w:t>{text}</w:t></w:r></w:p>"


def _in_string(text: str) -> str:
    return re.sub(r"([\\()])", r"\\\1", text)


def pdf(pages: Sequence[Sequence[str]], outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """Lines of text, a page each; an outline names pages from 0."""
    objects: list[bytes] = []

    def add(data: str | bytes) -> int:
        objects.append(data.encode("latin-1") if isinstance(data, str) else data)
        return len(objects)

    catalog, tree = add(""), add("")
    font = add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    kids = []
    for lines in pages:
        shown = "".join(f"({_in_string(line)}) Tj 0 -14 Td " for line in lines)
        stream = f"BT /F1 11 Tf 72 720 Td {shown}ET"
        content = add(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        kids.append(
            add(
                f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] "
                f"/Contents {content} 0 R /Resources << /Font << /F1 {font} 0 R >> >> >>"
            )
        )
    marks = ""
    if outline:
        root = len(objects) + 1
        first, last = root + 1, root + len(outline)
        add(f"<< /Type /Outlines /First {first} 0 R /Last {last} 0 R /Count {len(outline)} >>")
        for at, (title, number) in enumerate(outline):
            after = f"/Next {first + at + 1} 0 R " if at + 1 < len(outline) else ""
            before = f"/Prev {first + at - 1} 0 R " if at else ""
            add(
                f"<< /Title ({title}) /Parent {root} 0 R {before}{after}"
                f"/Dest [{kids[number]} 0 R /Fit] >>"
            )
        marks = f" /Outlines {root} 0 R"
    objects[catalog - 1] = f"<< /Type /Catalog /Pages {tree} 0 R{marks} >>".encode()
    refs = " ".join(f"{kid} 0 R" for kid in kids)
    objects[tree - 1] = f"<< /Type /Pages /Kids [{refs}] /Count {len(kids)} >>".encode()
    out = b"%PDF-1.4\n"
    places = []
    for number, data in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, data)
    at = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        at,
    )
