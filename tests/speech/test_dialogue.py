from __future__ import annotations

import pytest

from tts_provider.engines.espeak.engine import VOICES
from tts_provider.speech.dialogue import Dialogue, is_interrupted
from tts_provider.speech.engine import Utterance


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("But I —", True),
        ("But I—", True),
        ("But I--", True),
        ("But I –\n", True),
        ("“But I—”", True),
        ("*But I—*", True),
        ("But I -", False),
        ("well-", False),
        ("But I… ", False),
        ("—", True),
        ("I am done.\n\n---\n", False),
        ("I am done.\n- - -", False),
        ("A heading\n--", False),
        ("I am done.\n\nBut I---", True),
        ("— I said.", False),
        ("—" + " " * 100, False),
    ],
)
def test_an_interruption_ends_in_a_dash(text, expected):
    assert is_interrupted(text) is expected


def test_one_voice_is_a_dialogue_of_one_turn_that_keeps_its_history():
    utterance = Utterance("Hello.", VOICES[0])
    (turn,) = Dialogue.of(utterance).turns
    assert turn.history is utterance.history


def test_turns_hear_one_another_and_nobody_else():
    asked = Dialogue(
        tuple(Utterance(text, voice) for text, voice in zip("ab", VOICES, strict=True))
    )
    first, second = Dialogue.of(asked), Dialogue.of(asked)
    assert len({id(turn.history) for turn in first.turns}) == 1
    assert first.turns[0].history is not second.turns[0].history
    assert [voice.id for voice in first.voices] == ["male", "female"]
    assert (first.characters, first.turn_name(2)) == (2, "turns[2]")
