"""Turns in a request: what each says, who says it, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, part_named
from tts_provider.server.dialects.fields import MAX_SEED, Fields, read_text
from tts_provider.speech.dialogue import LONGEST_PAUSE_MS, PAUSE_MS
from tts_provider.speech.engine import Manner, Utterance, Voice

FindVoice = Callable[[str | None, int | None], Voice]
"""Finds a voice by its name or a speaker's number. Raises `InvalidRequest`."""

_INSTEAD = ("text", "speaker", "voice")


@dataclass(frozen=True)
class TurnRequest:
    """One turn, whose voice is not looked up yet."""

    text: str
    speaker: int | None
    voice: str | None
    manner: Manner


def read_turns(
    turns: Sequence[Fields], request: Fields, manner: Manner, limits: Limits, name: str = "turns"
) -> tuple[TurnRequest, ...]:
    """Read the turns of a request; `manner` is the request's own, for turns that do not set it.
    Raises `InvalidRequest`, which names the turn."""
    if not turns:
        return ()
    check_turns(len(turns), limits, name)
    for other in _INSTEAD:
        if request.has(other):
            raise InvalidRequest(
                f"{name} and {other} were given; each turn has its own {other}", param=other
            )
    read = []
    for number, fields in enumerate(turns):
        with part_named(f"{name}[{number}]"):
            read.append(_read_turn(fields, manner, limits))
    check_characters(sum(len(turn.text) for turn in read), limits, name)
    return tuple(read)


def check_turns(count: int, limits: Limits, name: str = "turns") -> None:
    """Raises `InvalidRequest` if there are too many."""
    if count > limits.max_turns:
        raise InvalidRequest(
            f"{name} has {count} entries; the limit is {limits.max_turns}",
            code="too_many_turns",
            param=name,
        )


def check_characters(characters: int, limits: Limits, name: str = "turns") -> None:
    """Raises `InvalidRequest` if all turns together are longer than a text may be."""
    if characters > limits.max_text_characters:
        raise InvalidRequest(
            f"{name} have {characters} characters together; the limit is "
            f"{limits.max_text_characters}: send some of the turns first",
            code="text_too_long",
            param=name,
        )


def read_pause_s(fields: Fields) -> float:
    """Read the silence between two turns. Raises `InvalidRequest`."""
    pause_ms = fields.integer("pause_ms", 0, LONGEST_PAUSE_MS)
    return (PAUSE_MS if pause_ms is None else pause_ms) / 1000


def make_turns(
    turns: Sequence[TurnRequest], find_voice: FindVoice, name: str = "turns"
) -> tuple[Utterance, ...]:
    """Raises `InvalidRequest` if there is no such voice for a turn."""
    made = []
    for number, turn in enumerate(turns):
        with part_named(f"{name}[{number}]"):
            voice = find_voice(turn.voice, turn.speaker)
        made.append(Utterance(turn.text, voice, turn.manner))
    return tuple(made)


def _read_turn(fields: Fields, manner: Manner, limits: Limits) -> TurnRequest:
    text = read_text(fields, limits, "a turn needs a text")
    given: dict[str, Any] = {
        "temperature": fields.number("temperature", 0.0, 2.0),
        "top_k": fields.integer("top_k", 1, 2048),
        "seed": fields.integer("seed", 0, MAX_SEED),
        "speed": fields.number("speed", SLOWEST, FASTEST, may_be_text=True),
    }
    return TurnRequest(
        text,
        fields.integer("speaker", 0, None, may_be_text=True),
        fields.string("voice"),
        replace(manner, **{k: v for k, v in given.items() if v is not None}),
    )
