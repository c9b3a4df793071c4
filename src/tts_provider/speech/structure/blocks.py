"""Structure → plain text: Markdown, HTML and what chat has, read as far as it is written.

A text that arrives in pieces becomes the same plain text as the whole: what more text could change
is waited for. Every pattern is bounded, so that this is never long and takes linear time.

Our own rules, because a Markdown parser wants its paragraph whole, which is too late for a text
that is spoken while it is written, and says nothing of where a character stood.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import regex

from tts_provider.speech.structure import patterns
from tts_provider.speech.structure.inline import InlineParser, Undecided
from tts_provider.speech.structure.plain_text import PlainText

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


class BlockParser(InlineParser):
    """Reads the structure of a text that arrives in pieces: its lines here, their content in
    `InlineParser`."""

    def __init__(
        self,
        aloud: Collection[str] = (),
        *,
        tags: bool = False,
        acts: bool = False,
        voices: bool = False,
    ) -> None:
        """`aloud` names what of `NOT_SPEECH` is to be spoken; with `tags`, `<break time="1s"/>` is
        a silence, and what is in `<spell>` is said letter by letter; with `acts`, `[sighs]` and the
        like stay; with `voices`, `[voice:name]` says who speaks."""
        super().__init__(aloud, tags, acts, voices)

    def _begin(self) -> None:
        super()._begin()
        self._fence: regex.Pattern[str] | None = None  # what ends the block of code

    @property
    def characters(self) -> int:
        """How many characters wait for what follows them."""
        return len(self._text) - self._at

    @property
    def is_in_gap(self) -> bool:
        """White space was the last, and nothing is waiting."""
        return self._out.is_in_gap and self.characters == 0

    def push(self, text: str) -> PlainText:
        """What `text` decides."""
        kept = max(0, self._at - _LOOK_BACK)
        self._text = self._text[kept:] + text
        self._place += kept
        self._at -= kept
        try:
            while self._at < len(self._text):
                self._step()
        except Undecided:
            pass
        return self._out.take()

    def flush(self) -> PlainText:
        """Read the rest, as if the text ended here."""
        self._final = True
        plain = self.push("")
        self._final = False
        self._place += len(self._text)
        self._text, self._at = "", 0
        self._out.end()
        self._begin()
        return plain

    # --- Steps: each takes a character at least, or waits ----------------------------------------

    def _step(self) -> None:
        if self._until is not None:
            self._leave_out(self._until)
        elif self._fence is not None:
            self._read_code_line(self._fence)
        elif self._at_line_start:
            self._read_line_start()
        elif run := patterns.RUN.match(self._text, self._at):
            self._write_to(run.end())
        elif space := patterns.SPACE.match(self._text, self._at):
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
            raise Undecided
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
        if blank := self._match(patterns.BLANK):
            self._out.gap("\n\n")
            self._block = ""
            self._end_line(blank.end())
            return
        if self._nested and (box := self._match(patterns.CHECKBOX)):
            self._drop_to(box.end())
            return
        indent = patterns.INDENT.match(self._text, self._at)
        assert indent is not None
        mark = self._text[indent.end() : indent.end() + 1]
        names = patterns.BLOCKS_AT.get(mark, ()) if self._nested < _DEEPEST else ()
        for name in names:
            if match := self._match(patterns.BLOCKS[name]):
                self._begin_block(name, match)
                return
        other = self._match(patterns.OTHER)
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
        if name in patterns.WHOLE_LINES:
            if name == "fence":
                self._fence = patterns.end_of_fence(match["ticks"])
            self._end_line(match.end())
            return
        if name == "number":
            self._out.write(match["mark"], self._place + match.start("mark"))
            self._out.gap(", ")
        self._advance(match.end())
        # Blocks may contain blocks: "> - # Title".
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
