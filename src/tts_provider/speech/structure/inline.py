"""Within a line: emphasis, code, links, tags, entities, formulas and pictures → plain text."""

from __future__ import annotations

import html
from collections.abc import Collection

import regex

from tts_provider.speech.normalize import say_as
from tts_provider.speech.structure import patterns
from tts_provider.speech.structure.latex import read_formula
from tts_provider.speech.structure.pause import LONGEST_PAUSE_S, read_pause
from tts_provider.speech.structure.plain_text import PlainTextWriter


class Undecided(Exception):
    """The next character decides."""


class InlineParser:
    """A position in a text that arrives in pieces, and how the text there is read.

    Each `_read_…` takes at least one character, or raises `Undecided`.
    """

    def __init__(self, aloud: Collection[str], tags: bool, acts: bool, voices: bool) -> None:
        self._aloud = frozenset(aloud)
        self._voices = voices
        self._tags = tags
        self._acts = acts
        self._out = PlainTextWriter()
        self._text = ""
        self._at = 0
        self._place = 0  # of `_text` in all that was written
        self._final = False
        self._begin()

    def _begin(self) -> None:
        self._at_line_start = True
        self._block = ""  # what the line is
        self._nested = 0  # marks of blocks that stand before, on the same line
        self._line_length = self._line_above = 0
        self._until: regex.Pattern[str] | None = None  # what ends the part that is left out
        self._jumps: dict[int, tuple[int, str]] = {}  # from a link's `]` to behind its target

    def _match(
        self, pattern: regex.Pattern[str], *, ends_itself: bool = False
    ) -> regex.Match[str] | None:
        """Raises `Undecided` if more text could make it match, or match more."""
        match = pattern.match(self._text, self._at, partial=not self._final)
        if match is not None and not self._final:
            open_ended = match.end() == len(self._text) and not ends_itself
            if match.partial or open_ended:
                raise Undecided
        return match

    def _before(self) -> str:
        return self._text[max(0, self._at - 1) : self._at]

    def _advance(self, end: int) -> None:
        self._line_length += end - self._at
        self._at = end

    def _write_to(self, end: int) -> None:
        self._out.write(self._text[self._at : end], self._place + self._at)
        self._advance(end)

    def _drop_to(self, end: int) -> None:
        self._out.drop()
        self._advance(end)

    def _end_line(self, end: int) -> None:
        self._advance(end)
        self._line_above, self._line_length = self._line_length, 0
        self._at_line_start, self._nested = True, 0
        self._jumps.clear()

    def _read_mark(self, mark: str) -> None:
        if newline := patterns.NEWLINE.match(self._text, self._at):
            if mark == "\r":  # is it the first half of \r\n?
                self._match(patterns.NEWLINE)
            self._out.gap(" ")
            self._end_line(newline.end())
        elif mark in "*_~=":
            self._read_emphasis(mark)
        elif mark == "`":
            self._read_ticks()
        elif mark in "[!【":
            self._read_bracket(mark)
        elif mark == "(":
            if not self._read_act():
                self._write_to(self._at + 1)
        elif mark == "]":
            self._close_bracket()
        elif mark == "<":
            self._read_angle()
        elif mark == "&":
            self._read_entity()
        elif mark in "\\$":
            self._read_formula()
        elif mark in ":;":
            face = self._match(patterns.EMOTICON) if self._out.is_in_gap else None
            self._drop_to(face.end()) if face else self._write_to(self._at + 1)
        elif mark == "|":
            self._read_pipe()
        elif mark == "#":
            hashes = self._match(patterns.CLOSING_HASHES) if self._block == "heading" else None
            self._drop_to(hashes.end()) if hashes else self._write_to(self._at + 1)
        else:
            self._read_picture(mark)

    def _read_act(self) -> bool:
        """`[sighs]`, `*whispers*`: for an engine that can; no other reads it aloud."""
        after = self._text[self._at + 1 : self._at + 2]
        if after and not after.isalpha():
            return False
        act = self._match(patterns.ACT, ends_itself=True)
        if act is None:
            return False
        self._out.gap(" ")
        if self._acts:
            self._out.write(act[0], self._place + self._at)
            self._out.gap(" ")
        self._drop_to(act.end())
        return True

    def _read_emphasis(self, mark: str) -> None:
        """A mark between words or numbers is a sign, one at a word is emphasis."""
        if mark == "*" and self._read_act():
            return
        run = self._match(patterns.EMPHASIS)
        assert run is not None
        before, after = self._before(), self._text[run.end() : run.end() + 1]
        inside = before.isalnum() and after.isalnum()
        apart = not before.strip() and not after.strip()
        if mark == "_":
            is_sign = inside or before in ("/", "@")
        elif mark == "*":
            # 2*3, 2*x, x*y
            numeric = (
                before.isdigit()
                or after.isdigit()
                or not self._text[max(0, self._at - 2) : self._at - 1].isalnum()
            )
            is_sign = (inside and numeric) or (apart and len(run[0]) <= 2)
        else:
            is_sign = len(run[0]) == 1 or inside or apart or len(run[0]) > 2
        if is_sign:
            self._write_to(run.end())
        else:
            self._drop_to(run.end())

    def _read_ticks(self) -> None:
        after = self._text[self._at + 1 : self._at + 2]
        if not after and not self._final:
            raise Undecided
        if self._before().isalpha() and after.isalpha():  # typed for an apostrophe: I`ll
            self._out.write("'", self._place + self._at)
            self._advance(self._at + 1)
            return
        code = self._match(patterns.CODE)
        ticks = self._match(patterns.TICKS)
        assert ticks is not None
        self._drop_to(ticks.end())
        if code is not None:
            for word in regex.finditer(r"\S+", code["code"]):
                start = code.start("code") + word.start()
                if word.start():
                    self._out.gap(" ")
                self._out.write(word[0], self._place + start)
            self._drop_to(code.end())

    def _read_bracket(self, mark: str) -> None:
        if mark == "[" and (pause := self._match(patterns.PAUSE, ends_itself=True)):
            pause_s = read_pause(pause["time"].replace(" ", "").lower())
            if pause_s is not None:
                self._out.pause(min(pause_s, LONGEST_PAUSE_S), self._place + self._at)
                self._drop_to(pause.end())
                return
        if (
            mark == "["
            and self._voices
            and (voice := self._match(patterns.VOICE, ends_itself=True))
        ):
            self._out.voice(voice["name"].strip() or None)
            self._drop_to(voice.end())
            return
        if mark == "[" and self._read_act():
            return
        if mark == "[" and (said := self._match(patterns.PHONEMES, ends_itself=True)):
            self._drop_to(said.start("text"))
            self._write_to(said.end("text"))
            self._out.pronounce(len(said["text"]), said["ipa"])
            self._drop_to(said.end())
            return
        # "Look![1]" is not an image.
        if mark == "!" and not self._out.is_in_gap and self._before() not in "[(":
            self._write_to(self._at + 1)
            return
        link = None if mark == "【" else self._match(patterns.LINK, ends_itself=True)
        if link is not None:
            self._jumps[self._place + link.end("text")] = (
                self._place + link.end(),
                link["target"] or "",
            )
            self._drop_to(link.start("text"))
            return
        citation = None if "citations" in self._aloud else self._match(patterns.CITATION)
        self._drop_to(citation.end()) if citation else self._write_to(self._at + 1)

    def _close_bracket(self) -> None:
        behind, target = self._jumps.pop(self._place + self._at, (0, ""))
        if not behind:
            self._write_to(self._at + 1)
            return
        if target and "links" in self._aloud:
            self._out.gap(", ")
            self._out.write(target, self._place + self._text.index(target, self._at))
            self._out.gap(" ")
        self._drop_to(behind - self._place)

    def _read_angle(self) -> None:
        if self._read_act():
            return
        if link := self._match(patterns.AUTOLINK, ends_itself=True):
            self._out.gap(" ")
            address = link["address"].removeprefix("mailto:")
            self._out.write(address, self._place + link.end() - 1 - len(address))
            self._drop_to(link.end())
        elif comment := self._match(patterns.COMMENT, ends_itself=True):
            self._drop_to(comment.end())
            if "comments" not in self._aloud:
                self._until = patterns.END_OF_COMMENT
        elif declaration := self._match(patterns.DECLARATION, ends_itself=True):
            self._drop_to(declaration.end())
        elif self._tags and (spell := self._match(patterns.SPELL, ends_itself=True)):
            letters = say_as(spell["text"], "characters")
            self._out.gap(" ")
            self._out.write(letters, self._place + self._at, self._place + spell.end())
            self._drop_to(spell.end())
        elif tag := self._match(patterns.TAG, ends_itself=True):
            self._read_tag(tag)
        else:
            self._write_to(self._at + 1)

    def _read_tag(self, tag: regex.Match[str]) -> None:
        name, is_end = tag["name"].lower(), bool(tag["close"])
        time = patterns.BREAK_TIME.search(tag["attributes"]) if name == "break" else None
        pause_s = read_pause(time[1]) if time and self._tags else None
        if pause_s is not None:
            self._out.pause(min(pause_s, LONGEST_PAUSE_S), self._place + self._at)
        elif self._acts and patterns.is_act(tag):
            self._out.gap(" ")
            self._out.write(tag[0], self._place + self._at)
            self._out.gap(" ")
        elif name in patterns.BREAKS:
            self._out.gap("\n\n")
        elif name in patterns.CELLS:
            self._out.gap(", ")
        elif name == "img" and (alt := patterns.ALT.search(tag["attributes"])):
            self._out.write(alt["alt"], self._place + self._at, self._place + tag.end())
        elif name not in patterns.INLINE:
            self._out.gap(" ")
            if not (is_end or tag["empty"] or tag["attributes"] or name in patterns.LEFT_OUT):
                # Not an element: "<your name>" stands for a word.
                start = self._place + tag.start("name")
                self._out.write(tag["name"], start)
                self._out.gap(" ")
        what = patterns.LEFT_OUT.get(name)
        if what and what not in self._aloud and not is_end and not tag["empty"]:
            self._until = patterns.end_of_element(name)
        self._drop_to(tag.end())

    def _read_entity(self) -> None:
        entity = self._match(patterns.ENTITY, ends_itself=True)
        character = html.unescape(entity[0]) if entity else ""
        if entity is None or character == entity[0]:
            self._write_to(self._at + 1)
            return
        if character.isspace():
            self._out.gap(" ")
        elif character.isprintable():
            self._out.write(character, self._place + self._at, self._place + entity.end())
        self._advance(entity.end())

    def _read_formula(self) -> None:
        formula = self._match(patterns.FORMULA)
        content = next(filter(None, formula.groups()), "") if formula else ""
        if formula is not None and (formula["d"] is None or patterns.IS_FORMULA.search(content)):
            words = read_formula(content)
            if self._before().isalnum():
                self._out.gap(" ")
            self._out.write(words, self._place + self._at, self._place + formula.end())
            self._drop_to(formula.end())
        elif escape := self._match(patterns.ESCAPE):
            self._drop_to(escape.end() - 1)
            self._write_to(escape.end())
        else:
            self._write_to(self._at + 1)

    def _read_pipe(self) -> None:
        """Between cells, or between words: a comma's pause."""
        if self._block == "row" or self._out.is_in_gap:
            self._out.gap(", ")
            self._drop_to(self._at + 1)
        else:
            self._write_to(self._at + 1)

    def _read_picture(self, mark: str) -> None:
        if mark in patterns.SPEAKABLE_PICTURES:
            self._write_to(self._at + 1)
        elif picture := self._match(patterns.PICTURE):
            if len(picture[0]) > 1 or picture[0] not in "\u20e3\ufe0e\ufe0f":
                self._out.gap(" ")
            self._drop_to(picture.end())
        elif mark in patterns.INVISIBLE:
            self._advance(self._at + 1)
        elif regex.match(r"[\p{Cc}\p{Co}\p{Cs}]", mark):
            self._out.gap(" ")
            self._drop_to(self._at + 1)
        else:
            self._write_to(self._at + 1)
