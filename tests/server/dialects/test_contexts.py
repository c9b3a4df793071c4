from __future__ import annotations

import base64
import itertools
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.config import Limits
from tts_provider.errors import WireError
from tts_provider.server.dialects.contexts import Contexts
from tts_provider.server.dialects.dialect import (
    Append,
    Cancel,
    ChangeVoice,
    ContextSettings,
    End,
    Flush,
    Listen,
    Opening,
)
from tts_provider.server.service.service import Said
from tts_provider.speech.reading import Passage

from .conversation import VOICES, Conversation, new_reader

OPENING = Opening(ContextSettings(VOICES["ann"]))


def test_a_context_from_its_first_text_to_its_end():
    talk = Conversation()
    assert talk.tell("input_text.append", text="Hello there. How a") == ["Hello there."]
    assert talk.tell("input_text.append", text="re you? Fine") == ["How are you?"]
    assert talk.tell("input_text.flush", flush_id="f") == ["Fine", Flush("c", "f")]
    assert talk.tell("input_text.append", text="Bye") == []
    assert talk.tell("input_text.end") == ["Bye", End("c")]
    talk.contexts.finish("c")
    (refusal,) = talk.tell("input_text.append", text="More")
    assert refusal.error.code == "context_finished"


def test_a_passage_has_what_was_written_and_what_is_said():
    contexts = Contexts(Limits(), new_reader)
    contexts.take(Append("c", "It costs $5", OPENING))
    assert contexts.take(End("c")) == [
        Passage("It costs $5", "It costs five dollars", 0, 11),
        End("c"),
    ]


def test_a_passage_with_nothing_to_say_is_left_out():
    talk = Conversation()
    assert talk.tell("input_text.append", text="One.\n\n***\n\nTwo. ") == ["One."]
    assert talk.tell("input_text.end") == ["Two.", End("c")]


def test_a_cancelled_context_is_over_at_once():
    talk = Conversation(max_contexts=1)
    talk.tell("input_text.append", text="Hello. There")
    assert talk.tell("context.cancel") == []
    assert talk.tell("input_text.append", "d", text="x") == []


def test_another_voice_ends_the_segment_and_places_go_on():
    contexts = Contexts(Limits(), new_reader)
    ann, bob = VOICES["ann"], VOICES["bob"]
    assert contexts.take(ChangeVoice("c", bob)) == []  # what begins it says so
    contexts.take(Append("c", "Hello my", OPENING))
    assert contexts.take(ChangeVoice("c", ann)) == []  # it is the same
    (first,) = contexts.take(ChangeVoice("c", bob))
    assert (first.text, first.voice, first.start) == ("Hello my", None, 0)
    contexts.take(Append("c", " dear. Bye", OPENING))
    (second,) = contexts.take(ChangeVoice("c", ann))[:1]
    assert (second.text, second.voice, second.start, second.end) == ("Bye", bob, 15, 18)
    contexts.take(Append("c", "now", OPENING))
    last, end = contexts.take(End("c"))
    assert (last.text, last.voice, last.start) == ("now", ann, 18)
    assert isinstance(end, End)
    with pytest.raises(WireError, match="was ended"):
        contexts.take(ChangeVoice("c", bob))


def test_half_a_character_is_another_voice_s_no_more():
    contexts = Contexts(Limits(), new_reader)
    contexts.take(Append("c", "Hm \ud83d", OPENING))
    (passage,) = contexts.take(ChangeVoice("c", VOICES["bob"]))
    assert passage.text == "Hm \ufffd"


def test_halves_of_a_character_are_put_together():
    talk = Conversation()
    cut = json.dumps("\N{MATHEMATICAL SCRIPT CAPITAL A}")  # two escapes, as UTF-16 has them
    for half in (cut[:7] + '"', '"' + cut[7:]):
        talk.receive(f'{{"type":"input_text.append","context_id":"c","text":{half}}}')
    assert talk.tell("input_text.end")[0] == "\N{MATHEMATICAL SCRIPT CAPITAL A}"


def test_half_a_character_at_the_end_is_replaced():
    talk = Conversation()
    talk.tell("input_text.append", text="Hm \ud83d")
    assert talk.tell("input_text.end")[0] == "Hm \ufffd"


def test_what_the_other_side_said():
    talk = Conversation()
    audio = base64.b64encode(b"RIFF").decode()
    (listen,) = talk.tell("context.append_audio", text="Hi.", audio=audio, speaker=1)
    assert isinstance(listen, Listen)
    assert listen.said == Said("Hi.", b"RIFF", 1)


def test_text_that_is_not_spoken_yet_is_bounded_whatever_was_flushed():
    talk = Conversation(max_text_characters=100)
    talk.tell("input_text.append", text="x" * 60)
    talk.tell("input_text.flush")
    (refusal,) = talk.tell("input_text.append", text="y" * 60)
    assert refusal.error.code == "text_too_long"
    assert "120" in refusal.error.message
    talk.contexts.find("c").spoken(Passage("x" * 60, "x" * 60))
    assert talk.tell("input_text.append", text="y" * 60) == []


def test_audio_that_is_not_heard_yet_is_bounded():
    talk = Conversation(max_audio_message_bytes=1024)
    audio = base64.b64encode(bytes(700)).decode()
    (listen,) = talk.tell("context.append_audio", text="Hi.", audio=audio, voice="bob")
    assert listen.opening.settings.voice.id == "bob"
    (refusal,) = talk.tell("context.append_audio", text="Hi.", audio=audio)
    assert refusal.error.code == "too_much_audio"
    talk.contexts.find("c").heard(listen.said)
    (again,) = talk.tell("context.append_audio", text="Hi.", audio=audio)
    assert again.said == listen.said


def test_a_long_context_keeps_no_more_text_than_a_short_one():
    contexts = Contexts(Limits(), new_reader)
    for _ in range(3000):
        for passage in contexts.take(Append("c", " sentence of some length. Another", OPENING)):
            contexts.find("c").spoken(passage)
    context = contexts.find("c")
    assert context.unspoken == 0
    assert context.reader.characters < 100


def test_one_context_more_than_the_limit():
    talk = Conversation()
    for number in range(8):
        talk.tell("input_text.append", str(number), text="x")
    (refusal,) = talk.tell("input_text.append", "8", text="x")
    assert refusal.error.code == "too_many_contexts"
    assert "8" in refusal.error.message
    talk.contexts.finish("3")
    assert talk.tell("input_text.append", "8", text="x") == []


_IDS = st.sampled_from("abc") | st.text(max_size=3)
_OPENINGS = st.sampled_from([OPENING, replace(OPENING, is_first=True)])
_SAID = st.builds(Said, st.text(), st.binary(max_size=9), st.just(0))
_ACTIONS = st.one_of(
    st.builds(Append, _IDS, st.text(max_size=20), _OPENINGS),
    st.builds(
        Listen, _IDS, st.builds(Said, st.text(), st.binary(max_size=9), st.just(0)), _OPENINGS
    ),
    st.builds(Flush, _IDS, st.none() | st.text(max_size=3)),
    st.builds(End, _IDS),
    st.builds(Cancel, _IDS),
)


@given(st.lists(_ACTIONS, max_size=30))
def test_any_actions_leave_contexts_that_fit_together(actions):
    contexts = Contexts(Limits(), new_reader)
    open_ids: set[str] = set()
    for action in actions:
        try:
            items = contexts.take(action)
        except WireError:
            continue
        assert all(isinstance(item, Passage) or item is action for item in items)
        if isinstance(action, Cancel):
            open_ids.remove(action.context_id)
        else:
            open_ids.add(action.context_id)
        assert contexts.names == open_ids
        assert len(open_ids) <= Limits().max_contexts


def fill(contexts: Contexts, actions) -> tuple[list, WireError]:
    """What the timelines would have to do when the first action is refused."""
    items: list = []
    for action in actions:
        try:
            items += contexts.take(action)
        except WireError as problem:
            return items, problem
    raise AssertionError("nothing was refused")


def size_bytes(item) -> int:
    # The opening of a context is one for all its items.
    return len(pickle.dumps(replace(item, opening=None) if isinstance(item, Listen) else item))


@pytest.mark.parametrize("contexts_count", [1, 8])
@pytest.mark.parametrize(
    "hoard",
    [
        lambda name: [Listen(name, Said("x" * 20_000, b"y", 0), OPENING)],
        lambda name: [Listen(name, Said("x", b"y", 0), OPENING)],
        lambda name: [Listen(name, Said("\U0001f600" * 20_000, b"y", 0), OPENING)],
        lambda name: [Append(name, "a", OPENING), Flush(name, "f" * 128)],
        lambda name: [Append(name, "a", OPENING), Flush(name, None)],
    ],
    ids=["texts", "pieces", "wide texts", "named flushes", "flushes"],
)
def test_what_waits_on_a_connection_has_one_bound(hoard, contexts_count):
    limits = Limits(max_waiting_bytes=1_000_000)
    contexts = Contexts(limits, new_reader)
    names = [f"c{n}" for n in range(contexts_count)]
    once = [action for name in names for action in hoard(name)]
    items, problem = fill(contexts, itertools.islice(itertools.cycle(once), 100_000))
    assert problem.code in ("too_much_waiting", "text_too_long")
    assert sum(map(size_bytes, items)) < 1_100_000


def test_what_was_done_makes_room():
    contexts = Contexts(Limits(max_waiting_bytes=50_000), new_reader)
    listen = Listen("c", Said("x" * 1000, b"y", 0), OPENING)
    for _ in range(3):
        items, problem = fill(contexts, [listen] * 100)
        assert problem.code == "too_much_waiting"
        assert len(items) > 20
        for item in items:
            contexts.find("c").taken(item)
            contexts.find("c").heard(item.said)


def test_a_full_connection_can_end_and_cancel():
    contexts = Contexts(Limits(max_waiting_bytes=5000), new_reader)
    listens = [Listen("c", Said("x" * 100, b"y", 0), OPENING)] * 100
    _, problem = fill(contexts, [Append("d", "Hello", OPENING), *listens])
    assert problem.code == "too_much_waiting"
    assert contexts.take(Cancel("c")) == []
    assert contexts.take(End("d"))[-1] == End("d")
    assert contexts.take(Append("e", "There is room again.", OPENING)) == []


def test_a_flush_has_no_long_name():
    contexts = Contexts(Limits(), new_reader)
    contexts.take(Append("c", "Hello", OPENING))
    _, problem = fill(contexts, [Flush("c", "f" * 129)])
    assert (problem.code, problem.param) == ("invalid_value", "flush_id")
    assert contexts.take(Flush("c", "f" * 128))[-1] == Flush("c", "f" * 128)
