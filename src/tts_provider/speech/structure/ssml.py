"""A subset of SSML 1.1 → plain text, with pauses where they are asked for.

https://www.w3.org/TR/speech-synthesis11/. What is not in the subset is refused, never spoken. The
parser is expat; documents with a DOCTYPE, in which entities are declared, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from xml.parsers import expat

from tts_provider.errors import InvalidRequest
from tts_provider.speech.lexicon import LONGEST_ENTRY
from tts_provider.speech.normalize import SAY_AS, say_as
from tts_provider.speech.structure.pause import LONGEST_PAUSE_S, read_pause
from tts_provider.speech.structure.plain_text import PlainText, PlainTextWriter

MOST_NESTED = 32

_ELEMENTS: Mapping[str, frozenset[str]] = {
    "speak": frozenset(("version", "xmlns", "xml:lang", "xmlns:xsi", "xsi:schemaLocation")),
    "p": frozenset(("xml:lang",)),
    "s": frozenset(("xml:lang",)),
    "break": frozenset(("time", "strength")),
    "say-as": frozenset(("interpret-as", "format", "detail")),
    "sub": frozenset(("alias",)),
    "phoneme": frozenset(("alphabet", "ph")),
    "lang": frozenset(("xml:lang",)),
    "voice": frozenset(("name",)),
}
_STRENGTHS = {
    "none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.7, "x-strong": 1.2,
}  # fmt: skip
_WHOLE = ("say-as", "sub", "phoneme")
"""Elements that are read when their text is complete."""
_ROOT = b"<speak>"  # around whatever comes, so that bare text is a document too
_DECLARATION = "<?xml"
_PAUSE = re.compile(r"\[pause ([0-9.]{1,8}(?:ms|s))\]")
_PAUSE_SO_FAR = re.compile(r"\[(?:p(?:a(?:u(?:s(?:e(?: [0-9.]{0,8}m?s?)?)?)?)?)?)?\Z")
_WORD = re.compile(r"\S+|\s+")


class Ssml:
    """Reads a text in SSML, with or without `<speak>` around it, that arrives in pieces."""

    def __init__(
        self, language: str = "en", language_of: Callable[[str], str] | None = None
    ) -> None:
        """`language` is the voice's, `language_of` finds that of another by its name, and raises
        `InvalidRequest` where there is none."""
        self.language = language
        self._language_of = language_of
        self._out = PlainTextWriter()
        self._place = 0  # of what the parser was given next, in all that was written
        self._error: InvalidRequest | None = None
        self._begin()

    def _begin(self) -> None:
        parser = expat.ParserCreate("utf-8")
        parser.Parse(_ROOT)  # before there is who hears of it
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.ProcessingInstructionHandler = self._refuse_instruction
        # Nothing is written for these, so the parser's input for them is forgotten.
        parser.CommentHandler = lambda _: self._forget()
        parser.StartCdataSectionHandler = self._forget
        self._parser = parser
        self._head: str | None = ""  # until it is clear whether a declaration is there
        self._given = b""  # to the parser, from `_counted` on
        self._counted = len(_ROOT)
        self._open: list[str] = []
        self._voices: list[tuple[str, str]] = []  # those that are open, and their languages
        self._content: list[str] = []  # of an element that is read as a whole
        self._attributes: dict[str, str] = {}
        self._content_place = 0
        self._held, self._held_place = "", 0  # the beginning of [pause …]
        self._is_said = False

    @property
    def characters(self) -> int:
        """How many are waiting for what follows them."""
        # The part of an open comment or tag that the parser holds.
        unread = self._given[self._parser.CurrentByteIndex - self._counted :]
        waiting = [self._held, self._head or "", unread.decode("utf-8", "ignore"), *self._content]
        if self._open and self._open[-1] in _WHOLE:
            waiting += self._attributes.values()
        return sum(map(len, waiting))

    @property
    def is_in_gap(self) -> bool:
        """White space was the last, and nothing is waiting."""
        return self._out.is_in_gap and self.characters == 0

    def push(self, text: str) -> PlainText:
        """Raises `InvalidRequest`, and from then on always."""
        self._guard(self._feed, text)
        return self._out.take()

    def flush(self) -> PlainText:
        """Raises `InvalidRequest` where an element is open, and as `push` does."""
        self._guard(self._finish)
        plain = self._out.take()
        self._out.end()
        self._begin()
        return plain

    def _guard(self, action: Callable[..., None], *arguments: str) -> None:
        if self._error is not None:
            raise self._error
        try:
            action(*arguments)
        except expat.ExpatError as problem:
            reason = expat.ErrorString(problem.code)
            self._error = _wrong(f"line {problem.lineno} is not XML ({reason})")
            raise self._error from None
        except InvalidRequest as problem:
            self._error = problem
            raise

    def _feed(self, text: str) -> None:
        if self._head is not None:
            text = self._head + text
            self._head = text
            bare = text.lstrip()
            if len(bare) < len(_DECLARATION) and _DECLARATION.startswith(bare):
                return
            if bare.startswith(_DECLARATION):
                end = text.find("?>")
                if end < 0 and len(text) < 200:
                    return
                if end >= 0:
                    self._place += end + 2
                    text = text[end + 2 :]
            self._head = None
        self._given += text.encode("utf-8", "replace")
        self._parser.Parse(text.encode("utf-8", "replace"))

    def _finish(self) -> None:
        if self._head:
            text, self._head = self._head, None
            self._feed(text)
        if self._open:
            raise _wrong(f"<{self._open[-1]}> is not closed")
        self._parser.Parse(b"</speak>", True)
        self._release()
        self._place += len(self._given.decode())

    def _place_now(self) -> int:
        """Where the parser is, in all that was written."""
        count = self._parser.CurrentByteIndex - self._counted
        if count > 0:
            self._place += len(self._given[:count].decode())
            self._given = self._given[count:]
            self._counted += count
        return self._place

    def _forget(self) -> None:
        self._place_now()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        place = self._place_now()
        allowed = _ELEMENTS.get(name)
        if allowed is None or (name == "speak" and (self._open or self._is_said)):
            raise _wrong(
                f"there is no <{name[:40]}> here; there are "
                + ", ".join(f"<{element}>" for element in _ELEMENTS)
            )
        if len(self._open) >= MOST_NESTED:
            raise _wrong(f"elements may be nested {MOST_NESTED} deep")
        if self._open and self._open[-1] in _WHOLE:
            raise _wrong(f"<{self._open[-1]}> holds text only; got <{name}>")
        for attribute in attributes:
            if attribute not in allowed:
                raise _wrong(f"<{name}> has no attribute {attribute[:40]!r}")
        self._release()
        self._is_said = True
        self._open.append(name)
        self._attributes = attributes
        if "xml:lang" in attributes:
            self._check_language(attributes["xml:lang"])
        if name in ("p", "s"):
            self._out.gap("\n\n")
        elif name == "break":
            self._out.pause(_break_s(attributes), place)
        elif name == "voice":
            self._begin_voice(_attribute(name, attributes, "name"))
        elif name in _WHOLE:
            self._content, self._content_place = [], place

    def _end(self, name: str) -> None:
        place = self._place_now()
        if not self._open:  # our own root
            return
        self._release()
        self._open.pop()
        if name in ("p", "s"):
            self._out.gap("\n\n")
        elif name == "voice":
            self._voices.pop()
            self._out.voice(self._voices[-1][0] if self._voices else None)
        elif name in _WHOLE:
            content, self._content = " ".join("".join(self._content).split()), []
            self._write_whole(name, content, place)

    def _begin_voice(self, name: str) -> None:
        language = self.language if self._language_of is None else self._language_of(name)
        self._voices.append((name, language))
        self._out.voice(name)

    def _write_whole(self, name: str, content: str, end: int) -> None:
        attributes, start = self._attributes, self._content_place
        if name == "sub":
            words = " ".join(_attribute(name, attributes, "alias").split())
            self._write_instead(words, content, start, end)
        elif name == "phoneme":
            if attributes.get("alphabet", "ipa") != "ipa":
                raise _wrong("<phoneme> takes the alphabet ipa")
            ipa = _attribute(name, attributes, "ph")
            if len(ipa) > LONGEST_ENTRY:
                raise _wrong(f"<phoneme> takes a ph of up to {LONGEST_ENTRY} characters")
            self._out.write(content, start, end)
            self._out.pronounce(len(content), ipa)
        else:
            kind = _attribute(name, attributes, "interpret-as")
            if kind not in SAY_AS:
                raise _wrong(
                    f"<say-as> reads as {', '.join(SAY_AS)}; got interpret-as={kind[:40]!r}"
                )
            words = say_as(content, kind, attributes.get("format", ""))
            self._write_instead(words, content, start, end)

    def _write_instead(self, words: str, content: str, start: int, end: int) -> None:
        self._out.write(words, start, end)
        if content and words:
            self._out.stand_for(len(words), content)

    def _text(self, data: str) -> None:
        place = self._place_now()
        if self._given.startswith(b"&"):  # an entity stands for one character
            end = place + self._given.find(b";") + 1
            if self._open and self._open[-1] in _WHOLE:
                self._add_content(data, place)
            elif data.isspace():
                self._out.gap(" ")
            else:
                self._release()
                self._out.write(data, place, end)
            return
        if self._open and self._open[-1] in _WHOLE:
            self._add_content(data, place)
            return
        if self._held:
            data, place = self._held + data, self._held_place
            self._held = ""
        done = 0
        for pause in _PAUSE.finditer(data):
            self._write(data[done : pause.start()], place + done)
            self._out.pause(_seconds(pause[1]), place + pause.start())
            done = pause.end()
        rest = data[done:]
        if so_far := _PAUSE_SO_FAR.search(rest):
            self._held, self._held_place = so_far[0], place + done + so_far.start()
            rest = rest[: so_far.start()]
        self._write(rest, place + done)

    def _add_content(self, data: str, place: int) -> None:
        if not self._content:
            self._content_place = place
        self._content.append(data)

    def _release(self) -> None:
        """What was no pause is text."""
        held, self._held = self._held, ""
        self._write(held, self._held_place)

    def _write(self, text: str, place: int) -> None:
        for word in _WORD.finditer(text):
            if word[0].isspace():
                self._out.gap(" ")
            elif word[0].isprintable():
                self._out.write(word[0], place + word.start())
            else:
                spaced = "".join(c if c.isprintable() else " " for c in word[0])
                self._write(spaced, place + word.start())
        if text.strip():
            self._is_said = True

    def _check_language(self, language: str) -> None:
        spoken = self._voices[-1][1] if self._voices else self.language
        if language.partition("-")[0].lower() != spoken.partition("-")[0].lower():
            raise _wrong(f"this voice speaks {spoken}; got xml:lang={language[:40]!r}")

    def _refuse_instruction(self, target: str, _data: str) -> None:
        raise _wrong(f"processing instructions are not taken; got <?{target[:40]}")


def _attribute(name: str, attributes: Mapping[str, str], attribute: str) -> str:
    if not attributes.get(attribute):
        raise _wrong(f"<{name}> needs the attribute {attribute}")
    return attributes[attribute]


def _break_s(attributes: Mapping[str, str]) -> float:
    if "time" in attributes:
        return _seconds(attributes["time"])
    strength = attributes.get("strength", "medium")
    if strength not in _STRENGTHS:
        raise _wrong(f"a break's strength is one of {', '.join(_STRENGTHS)}; got {strength[:40]!r}")
    return _STRENGTHS[strength]


def _seconds(time: str) -> float:
    seconds = read_pause(time)
    if seconds is None:
        raise _wrong(f"a pause is a time like 500ms or 0.5s; got {time[:40]!r}")
    if seconds > LONGEST_PAUSE_S:
        raise _wrong(f"a pause may take {LONGEST_PAUSE_S:g} s; got {time[:40]!r}")
    return seconds


def _wrong(reason: str) -> InvalidRequest:
    return InvalidRequest(f"SSML: {reason}", code="invalid_ssml", param="text")
