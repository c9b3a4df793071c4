"""Reads JSON messages: whatever a client gets wrong is one `InvalidRequest` with a code."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, meant_name
from tts_provider.server.service.service import Said
from tts_provider.speech.duration import SPLIT
from tts_provider.speech.lexicon import read_pronunciations
from tts_provider.speech.reading import ReadingOptions
from tts_provider.speech.structure.blocks import NOT_SPEECH

# Control characters, which are neither text nor white space; tab and line ends are allowed.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?")
_WORDS = {"true": True, "false": False, "1": True, "0": False}
_MAX_NUMBERS = 64

MAX_SEED = 2**63 - 1
_JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def parse_object(message: str) -> dict[str, Any]:
    """Raises `InvalidRequest` if `message` is not a JSON object."""
    try:
        body = json.loads(message.removeprefix("\ufeff"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidRequest("Invalid JSON format", code="invalid_json") from None
    if not isinstance(body, dict):
        raise InvalidRequest(
            f'expected a JSON object like {{"text": "Hello"}}; got {_JSON_TYPES[type(body)]}',
            code="invalid_type",
        )
    return body


def read_object(body: bytes) -> dict[str, Any]:
    """Raises `InvalidRequest` if `body` is not a JSON object."""
    try:
        return parse_object(body.decode())
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8", code="invalid_json") from None


def no_text(message: str, name: str = "text") -> InvalidRequest:
    """The error for a missing text, the field `name`."""
    return InvalidRequest(message, code="no_text", param=name)


def read_text(fields: Fields, limits: Limits, missing: str, name: str = "text") -> str:
    """Read a whole text to speak. Raises `InvalidRequest`, with the words of `missing` if there is
    none."""
    text = fields.string(name)
    if text is None or not text.strip():
        raise no_text(missing, name)
    check_text(text, limits, name)
    return text


def parse_query(query: Mapping[str, str]) -> Fields:
    """The parameters of an address; an empty one counts as not given."""
    return Fields({name: value for name, value in query.items() if value}, is_text=True)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def read_said(fields: Fields, limits: Limits) -> Said:
    """Raises `InvalidRequest` if text or audio are missing or invalid."""
    text = read_text(fields, limits, "what was said before needs its text and its audio")
    audio = fields.string("audio")
    try:
        data = base64.b64decode(audio or "", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise InvalidRequest(
            "audio must be an audio file in base64", code="invalid_audio", param="audio"
        )
    return Said(text, data, fields.integer("speaker", 0, None, may_be_text=True) or 0)


def check_text(text: str, limits: Limits, name: str = "text", advice: str = SPLIT) -> None:
    """Raises `InvalidRequest` if `text`, the field `name`, is not text or is too long; `advice`
    says what to do then."""
    if len(text) > limits.max_text_characters:
        raise InvalidRequest(
            f"{name} has {len(text)} characters; the limit is {limits.max_text_characters}: "
            f"{advice}, or raise TTS_PROVIDER_MAX_TEXT_CHARACTERS",
            code="text_too_long",
            param=name,
        )
    for pattern, what in ((_CONTROL, "control character"), (_SURROGATE, "lone surrogate")):
        if match := pattern.search(text):
            raise InvalidRequest(
                f"{name} has the {what} U+{ord(match.group()):04X} at position {match.start()}; "
                "send plain text",
                code="invalid_text",
                param=name,
            )


class Fields:
    """Typed access to a message's fields; null counts as not given, wrong types are errors."""

    def __init__(self, body: Mapping[str, Any], *, is_text: bool = False) -> None:
        """With `is_text`, numbers and booleans are text, as in a query or a form."""
        self._body = body
        self._is_text = is_text

    def check_names(self, known: Collection[str]) -> None:
        """Raises `InvalidRequest` if there is an unknown field."""
        for name in self._body:
            if name not in known:
                meant = meant_name(name, known)
                hint = f"did you mean {meant}? There" if meant else "there"
                raise InvalidRequest(
                    f"there is no field {_short(name)} here; {hint} are {', '.join(known)}",
                    code="unknown_field",
                    param=name[:64],
                )

    def has(self, name: str) -> bool:
        return self._body.get(name) is not None

    def string(self, name: str) -> str | None:
        value: str | None = self._typed(name, str, "a string")
        return value

    def boolean(self, name: str) -> bool | None:
        value: bool | None = self._typed(name, bool, "true or false")
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean that clients also write as a word."""
        value = self._body.get(name)
        word = value.strip().lower() if isinstance(value, str) else ""
        return _WORDS[word] if word in _WORDS else self.boolean(name)

    def object(self, name: str) -> Fields | None:
        value = self._typed(name, dict, "an object")
        return None if value is None else Fields(value)

    def numbers(self, name: str, low: float, high: float) -> list[float] | None:
        value: list[Any] | None = self._typed(name, list, "an array")
        if value is None:
            return None
        found = [Fields({name: entry}).number(name, low, high) for entry in value[:_MAX_NUMBERS]]
        return [number for number in found if number is not None]

    def integer(
        self, name: str, low: int, high: int | None, *, may_be_text: bool = False
    ) -> int | None:
        """With `may_be_text` also "1", as many clients write what their users typed."""
        value: int | None = self._number(name, int, "an integer", may_be_text)
        if value is not None:
            self._check_range(name, value, low, high)
        return value

    def number(
        self, name: str, low: float, high: float, *, may_be_text: bool = False
    ) -> float | None:
        value: float | None = self._number(name, (int, float), "a number", may_be_text)
        if value is not None:
            self._check_range(name, value, low, high)
        return value

    def objects(self, name: str, limit: int | None = None) -> list[Fields]:
        """An array of at most `limit` objects; empty if it is not given."""
        value = self._typed(name, list, "an array")
        if value is None:
            return []
        if limit is not None and len(value) > limit:
            raise InvalidRequest(f"{name} may have {limit} entries; got {len(value)}", param=name)
        for number, entry in enumerate(value):
            if not isinstance(entry, dict):
                raise InvalidRequest(
                    f"{name}[{number}] must be an object; got {_JSON_TYPES[type(entry)]}",
                    code="invalid_type",
                    param=name,
                )
        return [Fields(entry) for entry in value]

    def choices(self, name: str, allowed: tuple[str, ...]) -> frozenset[str] | None:
        """An array of some of these."""
        values = self._typed(name, list, "an array")
        if values is None:
            return None
        return frozenset(self._allowed(name, value, allowed) for value in values)

    def names(self, name: str) -> list[str] | None:
        """An array of strings."""
        values: list[str] | None = self._typed(name, list, "an array")
        for value in values or ():
            if not isinstance(value, str):
                raise InvalidRequest(
                    f"{name} must hold strings; got {_JSON_TYPES[type(value)]}",
                    code="invalid_type",
                    param=name,
                )
        return values

    def strings(self, name: str) -> dict[str, str] | None:
        """An object of strings."""
        value: dict[str, str] | None = self._typed(name, dict, "an object")
        for key, entry in (value or {}).items():
            if not isinstance(entry, str):
                raise InvalidRequest(
                    f"{name} must hold strings; got {_JSON_TYPES[type(entry)]} for {_short(key)}",
                    code="invalid_type",
                    param=name,
                )
        return value

    def reading(self) -> ReadingOptions | None:
        """How a text is to be read; None if the message does not say."""
        ssml, aloud = self.boolean("ssml"), self.choices("read_aloud", NOT_SPEECH)
        pronunciations, voice_tags = self.strings("pronunciations"), self.boolean("voice_tags")
        if ssml is None and aloud is None and pronunciations is None and voice_tags is None:
            return None
        return ReadingOptions(
            ssml=ssml or False,
            voice_tags=voice_tags or False,
            aloud=aloud or frozenset(),
            lexicon=read_pronunciations(pronunciations or {}),
        )

    def choice(self, name: str, allowed: tuple[Any, ...]) -> Any:
        return self._allowed(name, self.string(name), allowed)

    def integer_choice(self, name: str, allowed: tuple[int, ...]) -> Any:
        return self._allowed(name, self._typed(name, int, "an integer"), allowed)

    def _number(
        self, name: str, types: type | tuple[type, ...], expected: str, may_be_text: bool
    ) -> Any:
        value = self._body.get(name)
        if isinstance(value, str) and (may_be_text or self._is_text):
            pattern = _INTEGER if types is int else _NUMBER
            if pattern.fullmatch(value.strip()):
                return int(value) if types is int else float(value)
        return self._typed(name, types, expected)

    def _typed(self, name: str, types: type | tuple[type, ...], expected: str) -> Any:
        value = self._body.get(name)
        # A JSON true is a Python int.
        if value is None or (
            isinstance(value, types) and (types is bool or not isinstance(value, bool))
        ):
            return value
        raise InvalidRequest(
            f"{name} must be {expected}; got {_JSON_TYPES[type(value)]}",
            code="invalid_type",
            param=name,
        )

    def _check_range(self, name: str, value: float, low: float, high: float | None) -> None:
        if value < low or (high is not None and value > high):
            expected = f"from {low} to {high}" if high is not None else f"{low} or more"
            raise InvalidRequest(f"{name} must be {expected}; got {_short(value)}", param=name)

    def _allowed(self, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
        if isinstance(value, str):
            value = value.strip().lower()
        if value is not None and value not in allowed:
            raise InvalidRequest(
                f"{name} must be one of {', '.join(map(str, allowed))}; got {_short(value)}",
                param=name,
            )
        return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
