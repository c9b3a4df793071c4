"""ElevenLabs' text-to-dialogue: its inputs, and the characters of several voices.

https://elevenlabs.io/docs/api-reference/text-to-dialogue/convert
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, part_named, text_named
from tts_provider.server.dialects.dialogue import check_characters, check_turns
from tts_provider.server.dialects.elevenlabs import websocket as elevenlabs
from tts_provider.server.dialects.fields import Fields, no_text, read_text
from tts_provider.speech.dialogue import Dialogue
from tts_provider.speech.engine import Manner, Utterance, Voice, Word

NAME = "inputs"


def read_dialogue(
    fields: Fields, limits: Limits, find_voice: Callable[[str], Voice], manner: Manner
) -> tuple[Dialogue, Sequence[str]]:
    """Read the text and the voice of each input. Raises `InvalidRequest`, which names the input."""
    inputs = fields.objects(NAME)
    if not inputs:
        raise no_text("inputs is needed: what to speak, by whom", NAME)
    check_turns(len(inputs), limits, NAME)
    manner = replace(manner, seed=fields.integer("seed", 0, 2**32 - 1))
    turns, voice_ids = list[Utterance](), list[str]()
    for number, each in enumerate(inputs):
        with part_named(f"{NAME}[{number}]"), text_named("voice_id", "voice"):
            text = read_text(each, limits, "text is needed: what to speak")
            voice_id = each.string("voice_id")
            if voice_id is None:
                raise InvalidRequest("voice_id is needed: who says it", param="voice_id")
            turns.append(Utterance(text, find_voice(voice_id), manner))
            voice_ids.append(voice_id)
    check_characters(sum(len(turn.text) for turn in turns), limits, NAME)
    return Dialogue(tuple(turns), name=NAME), voice_ids


class Characters:
    """When each character is spoken, and in a dialogue by which voice; times count from the
    beginning."""

    def __init__(self, voice_ids: Sequence[str] | None = None) -> None:
        """`voice_ids` are those of a dialogue's inputs."""
        self._voice_ids = voice_ids
        self._turn: int | None = None
        self._position = self._end_ms = 0

    def tell(self, words: Sequence[Word]) -> dict[str, Any]:
        """The characters of words that follow those of the previous call."""
        spelled, segments = list[elevenlabs.Character](), list[dict[str, Any]]()
        for turn, group in groupby(words, lambda word: word.turn):
            said = [*group]
            if turn != self._turn:
                self._turn, self._position = turn, 0
            before = len(spelled)
            spelled += elevenlabs.spell(said, self._position, self._end_ms)
            self._position, self._end_ms = said[-1].text_end, said[-1].end_ms
            if self._voice_ids is not None and turn is not None:
                segments.append(
                    {
                        "voice_id": self._voice_ids[turn],
                        "start_time_seconds": said[0].start_ms / 1000,
                        "end_time_seconds": said[-1].end_ms / 1000,
                        "character_start_index": before,
                        "character_end_index": len(spelled),
                        "dialogue_input_index": turn,
                    }
                )
        alignment = _align(spelled) if spelled else None
        told: dict[str, Any] = {"alignment": alignment, "normalized_alignment": alignment}
        return told if self._voice_ids is None else {**told, "voice_segments": segments}


def _align(spelled: Sequence[elevenlabs.Character]) -> dict[str, Any]:
    return {
        "characters": [character.text for character in spelled],
        "character_start_times_seconds": [character.start_ms / 1000 for character in spelled],
        "character_end_times_seconds": [character.end_ms / 1000 for character in spelled],
    }
