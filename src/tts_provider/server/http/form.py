"""A form with a file in it, in memory and within bounds: `multipart/form-data`, RFC 7578.

Starlette's own form spools files to disk and leaves the one open that a body was cut off in.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from tts_provider.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 16
MULTIPART = "multipart/form-data"


class Form:
    """Its parts by name; of two with one name the first counts."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.texts: dict[str, str] = {}
        self.names: dict[str, str] = {}
        """How files are called where they come from."""


async def read_form(
    content_type: str, pieces: AsyncIterable[bytes], *, max_bytes: int, max_text_bytes: int
) -> Form:
    """Raises `InvalidRequest` where the body is no form, has text parts that are longer than
    `max_text_bytes`, or is itself longer than `max_bytes`, whatever its `Content-Length` says."""
    kind, options = parse_options_header(content_type)
    if kind.decode("latin-1") != MULTIPART:
        raise InvalidRequest(
            f"the body must be {MULTIPART}; it is {content_type[:64] or 'nothing'}",
            code="unsupported_media_type",
            http_status=415,
        )
    reader, arrived_bytes = _Reader(max_text_bytes), 0
    try:
        parser = MultipartParser(options.get(b"boundary", b""), reader.callbacks())
        async for piece in pieces:
            arrived_bytes += len(piece)
            if arrived_bytes > max_bytes:
                raise InvalidRequest(
                    f"the body is larger than {max_bytes} bytes, the limit",
                    code="body_too_large",
                    http_status=413,
                )
            parser.write(piece)
    except FormParserError as error:
        raise _invalid(f"the form cannot be read: {error}") from None
    if not reader.ended:
        raise _invalid("the form is cut off")
    return reader.form


class _Reader:
    """Takes what the parser finds. Names are UTF-8, as every browser sends them."""

    def __init__(self, max_text_bytes: int) -> None:
        self.form = Form()
        self.ended = False
        self._max_text_bytes = max_text_bytes
        self._parts = 0
        self._header = self._value = b""
        self._disposition = b""
        self._name, self._file_name, self._is_file = "", "", False
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _invalid(f"the form has more than {_MAX_PARTS} parts")
        self._disposition, self._data = b"", bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _invalid("a part of the form has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._is_file = b"filename" in options
        self._file_name = options.get(b"filename", b"").decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if not self._is_file and len(self._data) > self._max_text_bytes:
            raise _invalid(
                f"{self._name[:64]!r} is longer than {self._max_text_bytes} bytes; "
                "a recording is sent as a file"
            )

    def _on_part_end(self) -> None:
        if self._is_file:
            self.form.files.setdefault(self._name, self._data)
            self.form.names.setdefault(self._name, self._file_name)
        else:
            try:
                self.form.texts.setdefault(self._name, self._data.decode())
            except UnicodeDecodeError:
                raise _invalid(f"{self._name[:64]!r} is not UTF-8 text") from None
        self._data = bytearray()

    def _on_end(self) -> None:
        self.ended = True


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_form")
