"""Several turns as one text: who says what, and what is between the turns."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tts_provider.speech.engine import MOST_HEARD, History, Utterance, Voice

PAUSE_MS = 300
"""Between two turns, beside the quiet that a voice ends with."""
LONGEST_PAUSE_MS = 5000

# A dash, or two hyphens, as scripts have them; closing marks may follow it.
_INTERRUPTED = re.compile(r"(?:[—―–]|--)[\s\"'”’»)\]*_]*\Z")
# Markdown's horizontal rule, or the line under a heading.
_RULE = re.compile(r"(?:\A|\n)[ \t]*(?:-[ \t]*){2,}\s*\Z")
_LOOKED_AT = 40  # characters at the end


@dataclass(frozen=True)
class Dialogue:
    """Turns that are spoken one after the other; each hears those before it."""

    turns: tuple[Utterance, ...]
    """One at least. All are as long and tell their words as the first does."""
    pause_s: float = PAUSE_MS / 1000
    name: str = "turns"
    """What the request calls them."""

    @classmethod
    def of(cls, asked: Utterance | Dialogue) -> Dialogue:
        """A dialogue of one turn: one text in one voice. The turns of a dialogue share a
        history."""
        if isinstance(asked, Utterance):
            return cls((asked,))
        history = History(heard=MOST_HEARD)
        return replace(asked, turns=tuple(replace(t, history=history) for t in asked.turns))

    @property
    def voices(self) -> tuple[Voice, ...]:
        """Each voice once, in order."""
        return tuple({turn.voice.id: turn.voice for turn in self.turns}.values())

    @property
    def characters(self) -> int:
        return sum(len(turn.text) for turn in self.turns)

    def turn_name(self, number: int) -> str:
        """The name of a turn in errors."""
        return f"{self.name}[{number}]"


def is_interrupted(text: str) -> bool:
    """Whether the next turn begins as soon as this one's last sound is over: it ends in a dash."""
    end = text[-_LOOKED_AT:]
    return _INTERRUPTED.search(end) is not None and _RULE.search(end) is None
