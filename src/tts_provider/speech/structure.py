"""Structure → plain text: Markdown, HTML and what chat has, read as far as it is written.

A text that arrives in pieces becomes the same plain text as the whole: what more text could change
is waited for. Every pattern is bounded, so that this is never long and takes linear time.

Our own rules, because a Markdown parser wants its paragraph whole, which is too late for a text
that is spoken while it is written, and says nothing of where a character stood.
"""

from __future__ import annotations

import html
from collections.abc import Collection
from typing import Literal, get_args

import regex

from tts_provider.speech import markup
from tts_provider.speech.latex import read_formula
from tts_provider.speech.normalize import say_as
from tts_provider.speech.pause import LONGEST_PAUSE_S, read_pause
from tts_provider.speech.plain import Plain, PlainWriter

NotSpeech = Literal["code", "links", "citations", "thinking", "comments"]
NOT_SPEECH: tuple[NotSpeech, ...] = get_args(NotSpeech)
"""What is left out unless it is asked for: blocks of code, the targets of links, `[1]`, `<think>`,
and HTML's comments."""

_SHORT_LINE = 60
"""A line without an end mark is wrapped if it is longer, else it is a verse or an entry."""

_DEEPEST = 8
"""Blocks within blocks on one line; what follows is text."""

_LOOK_BACK = 2
"""Characters before a mark that decide what it is."""

_LONGEST_END = 60
"""Characters of what ends a part that is left out, `</thinking>`."""


class _Undecided(Exception):
    """What comes next decides."""


class Structure:
    """Reads structure out of a text that arrives in pieces."""

    def __init__(self, aloud: Collection[str] = (), *, tags: bool = False) -> None:
        """`aloud` names what of `NOT_SPEECH` is to be spoken; with `tags`, `<break time="1s"/>` is
        a silence, and what is in `<spell>` is said letter by letter."""
        self._aloud = frozenset(aloud)
        self._tags = tags
        self._out = PlainWriter()
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
        self._fence: regex.Pattern[str] | None = None  # what ends the block of code
        self._jumps: dict[int, tuple[int, str]] = {}  # from a link's `]` to behind its target

    @property
    def characters(self) -> int:
        """How many are waiting for what follows them."""
        return len(self._text) - self._at

    @property
    def is_in_gap(self) -> bool:
        """White space was the last, and nothing is waiting."""
        return self._out.is_in_gap and self.characters == 0

    def push(self, text: str) -> Plain:
        """What `text` decides."""
        kept = max(0, self._at - _LOOK_BACK)
        self._text = self._text[kept:] + text
        self._place += kept
        self._at -= kept
        try:
            while self._at < len(self._text):
                self._step()
        except _Undecided:
            pass
        return self._out.take()

    def flush(self) -> Plain:
        """What is left, as if the text ended here."""
        self._final = True
        plain = self.push("")
        self._final = False
        self._place += len(self._text)
        self._text, self._at = "", 0
        self._out.end()
        self._begin()
        return plain

    def _match(
        self, pattern: regex.Pattern[str], *, ends_itself: bool = False
    ) -> regex.Match[str] | None:
        """Raises `_Undecided` where more text could make it match, or match more."""
        match = pattern.match(self._text, self._at, partial=not self._final)
        if match is not None and not self._final:
            open_ended = match.end() == len(self._text) and not ends_itself
            if match.partial or open_ended:
                raise _Undecided
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

    # --- Steps: each takes a character at least, or waits ----------------------------------------

    def _step(self) -> None:
        if self._until is not None:
            self._leave_out(self._until)
        elif self._fence is not None:
            self._read_code_line(self._fence)
        elif self._at_line_start:
            self._read_line_start()
        elif run := markup.RUN.match(self._text, self._at):
            self._write_to(run.end())
        elif space := markup.SPACE.match(self._text, self._at):
            self._out.gap(" ")
            self._advance(space.end())
        else:
            self._read_mark(self._text[self._at])

    def _leave_out(self, until: regex.Pattern[str]) -> None:
        if end := until.search(self._text, self._at):
            self._until = None
            self._drop_to(end.end())
            return
        kept = 0 if self._final else _LONGEST_END
        if len(self._text) - kept <= self._at:
            raise _Undecided
        self._drop_to(len(self._text) - kept)

    def _read_code_line(self, fence: regex.Pattern[str]) -> None:
        if self._at_line_start and (end := self._match(fence)):
            self._fence = None
            self._out.gap("\n\n")
            self._end_line(end.end())
            return
        self._at_line_start = False
        newline = self._text.find("\n", self._at)
        end_of_line = len(self._text) if newline < 0 else newline
        if "code" in self._aloud:
            for word in regex.finditer(r"\S+", self._text[self._at : end_of_line]):
                self._out.gap(" ")
                self._out.write(word[0], self._place + self._at + word.start())
        self._advance(end_of_line)
        if newline >= 0:
            self._out.gap("\n\n")
            self._end_line(newline + 1)

    # --- The beginning of a line -----------------------------------------------------------------

    def _read_line_start(self) -> None:
        if blank := self._match(markup.BLANK):
            self._out.gap("\n\n")
            self._block = ""
            self._end_line(blank.end())
            return
        if self._nested and (box := self._match(markup.CHECKBOX)):
            self._drop_to(box.end())
            return
        indent = markup.INDENT.match(self._text, self._at)
        assert indent is not None
        mark = self._text[indent.end() : indent.end() + 1]
        names = markup.BLOCKS_AT.get(mark, ()) if self._nested < _DEEPEST else ()
        for name in names:
            if match := self._match(markup.BLOCKS[name]):
                self._begin_block(name, match)
                return
        other = self._match(markup.OTHER)
        if other is not None and not self._nested:
            self._out.gap(self._gap_above(other))
            if self._block in ("heading", "row") or (self._is_list() and not other["indent"]):
                self._block = ""
        self._at_line_start, self._nested = False, 0

    def _is_list(self) -> bool:
        return self._block in ("item", "number", "label")

    def _begin_block(self, name: str, match: regex.Match[str]) -> None:
        if name != "quote" or self._block != "quote":
            self._out.gap("\n\n")
        self._block = name
        if name in markup.WHOLE_LINES:
            if name == "fence":
                self._fence = markup.end_of_fence(match["ticks"])
            self._end_line(match.end())
            return
        if name == "number":
            self._out.write(match["mark"], self._place + match.start("mark"))
            self._out.gap(", ")
        self._advance(match.end())
        # Blocks stand in blocks: "> - # Title".
        if name in ("item", "number", "label"):
            self._nested += 1
        self._at_line_start = self._nested > 0 or name == "quote"

    def _gap_above(self, line: regex.Match[str]) -> str:
        """Between this line, which begins no block, and the one above it."""
        if self._block in ("heading", "row", "rule", "fence", "definition"):
            return "\n\n"
        if self._is_list() and not line["indent"]:
            return "\n\n"
        first = line["first"]  # None where it is the word I
        is_entry = self._line_above < _SHORT_LINE and self._out.last not in ",;-–—.!?…"
        return "\n\n" if is_entry and first and not first.islower() else "\n"

    # --- Within a line ---------------------------------------------------------------------------

    def _read_mark(self, mark: str) -> None:
        if newline := markup.NEWLINE.match(self._text, self._at):
            if mark == "\r":  # is it the first half of \r\n?
                self._match(markup.NEWLINE)
            self._out.gap(" ")
            self._end_line(newline.end())
        elif mark in "*_~=":
            self._read_emphasis(mark)
        elif mark == "`":
            self._read_ticks()
        elif mark in "[!【":
            self._read_bracket(mark)
        elif mark == "]":
            self._close_bracket()
        elif mark == "<":
            self._read_angle()
        elif mark == "&":
            self._read_entity()
        elif mark in "\\$":
            self._read_formula()
        elif mark in ":;":
            face = self._match(markup.EMOTICON) if self._out.is_in_gap else None
            self._drop_to(face.end()) if face else self._write_to(self._at + 1)
        elif mark == "|":
            self._read_pipe()
        elif mark == "#":
            hashes = self._match(markup.CLOSING_HASHES) if self._block == "heading" else None
            self._drop_to(hashes.end()) if hashes else self._write_to(self._at + 1)
        else:
            self._read_picture(mark)

    def _read_emphasis(self, mark: str) -> None:
        """A mark between words or numbers is a sign, one at a word is emphasis."""
        run = self._match(markup.EMPHASIS)
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
        code = self._match(markup.CODE)
        ticks = self._match(markup.TICKS)
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
        # "Look![1]" is no image.
        if mark == "!" and not self._out.is_in_gap and self._before() not in "[(":
            self._write_to(self._at + 1)
            return
        link = None if mark == "【" else self._match(markup.LINK, ends_itself=True)
        if link is not None:
            self._jumps[self._place + link.end("text")] = (
                self._place + link.end(),
                link["target"] or "",
            )
            self._drop_to(link.start("text"))
            return
        citation = None if "citations" in self._aloud else self._match(markup.CITATION)
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
        if link := self._match(markup.AUTOLINK, ends_itself=True):
            self._out.gap(" ")
            address = link["address"].removeprefix("mailto:")
            self._out.write(address, self._place + link.end() - 1 - len(address))
            self._drop_to(link.end())
        elif comment := self._match(markup.COMMENT, ends_itself=True):
            self._drop_to(comment.end())
            if "comments" not in self._aloud:
                self._until = markup.END_OF_COMMENT
        elif declaration := self._match(markup.DECLARATION, ends_itself=True):
            self._drop_to(declaration.end())
        elif self._tags and (spell := self._match(markup.SPELL, ends_itself=True)):
            letters = say_as(spell["text"], "characters")
            self._out.gap(" ")
            self._out.write(letters, self._place + self._at, self._place + spell.end())
            self._drop_to(spell.end())
        elif tag := self._match(markup.TAG, ends_itself=True):
            self._read_tag(tag)
        else:
            self._write_to(self._at + 1)

    def _read_tag(self, tag: regex.Match[str]) -> None:
        name, is_end = tag["name"].lower(), bool(tag["close"])
        time = markup.BREAK_TIME.search(tag["attributes"]) if name == "break" else None
        pause_s = read_pause(time[1]) if time and self._tags else None
        if pause_s is not None:
            self._out.pause(min(pause_s, LONGEST_PAUSE_S), self._place + self._at)
        elif name in markup.BREAKS:
            self._out.gap("\n\n")
        elif name in markup.CELLS:
            self._out.gap(", ")
        elif name == "img" and (alt := markup.ALT.search(tag["attributes"])):
            self._out.write(alt["alt"], self._place + self._at, self._place + tag.end())
        elif name not in markup.INLINE:
            self._out.gap(" ")
            if not (is_end or tag["empty"] or tag["attributes"] or name in markup.LEFT_OUT):
                # No element: "<your name>" stands for a word.
                start = self._place + tag.start("name")
                self._out.write(tag["name"], start)
                self._out.gap(" ")
        what = markup.LEFT_OUT.get(name)
        if what and what not in self._aloud and not is_end and not tag["empty"]:
            self._until = markup.end_of_element(name)
        self._drop_to(tag.end())

    def _read_entity(self) -> None:
        entity = self._match(markup.ENTITY, ends_itself=True)
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
        formula = self._match(markup.FORMULA)
        content = next(filter(None, formula.groups()), "") if formula else ""
        if formula is not None and (formula["d"] is None or markup.IS_FORMULA.search(content)):
            words = read_formula(content)
            if self._before().isalnum():
                self._out.gap(" ")
            self._out.write(words, self._place + self._at, self._place + formula.end())
            self._drop_to(formula.end())
        elif escape := self._match(markup.ESCAPE):
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
        if mark in markup.SPEAKABLE_PICTURES:
            self._write_to(self._at + 1)
        elif picture := self._match(markup.PICTURE):
            if len(picture[0]) > 1 or picture[0] not in "\u20e3\ufe0e\ufe0f":
                self._out.gap(" ")
            self._drop_to(picture.end())
        elif mark in markup.INVISIBLE:
            self._advance(self._at + 1)
        elif regex.match(r"[\p{Cc}\p{Co}\p{Cs}]", mark):
            self._out.gap(" ")
            self._drop_to(self._at + 1)
        else:
            self._write_to(self._at + 1)
