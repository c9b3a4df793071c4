from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest
from tts_provider.server.dialects import native as wire
from tts_provider.server.dialects.native import Begin, Cancel, End, Flush, Listen, Refuse, Say
from tts_provider.server.fields import Said
from tts_provider.speech.engine import Voice

VOICES = {name: Voice(name, name, "unknown", "test") for name in ("ann", "bob")}


def find_voice(name: str | None) -> Voice:
    if name is not None and name not in VOICES:
        raise InvalidRequest(f"there is no voice {name!r}", code="unknown_voice", param="voice")
    return VOICES[name or "ann"]


def new_session(**limits: int) -> wire.Session:
    return wire.Session(Limits(**limits), find_voice)


def tell(session: wire.Session, kind: str, context_id: str | None = "c", **fields) -> list:
    body = {"type": kind, **({} if context_id is None else {"context_id": context_id}), **fields}
    return session.receive(json.dumps(body))


def test_a_context_from_its_first_text_to_its_end():
    session = new_session()
    begun = tell(session, "input_text.append", text="Hello there. How a")
    assert begun == [Begin("c", session.settings), Say("c", ["Hello there."])]
    assert tell(session, "input_text.append", text="re you? Fine") == [Say("c", ["How are you?"])]
    flushed = tell(session, "input_text.flush", flush_id="f")
    assert flushed == [Say("c", ["Fine"]), Flush("c", "f")]
    assert tell(session, "input_text.append", text="Bye") == [Say("c", [])]
    assert tell(session, "input_text.end") == [Say("c", ["Bye"]), End("c")]
    session.finish("c")
    assert not session._contexts


def test_settings_are_for_contexts_made_later():
    session = new_session()
    tell(session, "input_text.append", "a", text="x")
    update = {"voice": "bob", "format": "mulaw", "sample_rate": 8000, "audio": "binary", "seed": 3}
    (updated,) = tell(session, "session.update", None, **update)
    assert wire.updated(updated.settings) == json.dumps(
        {"type": "session.updated", **update, "temperature": None, "top_k": None}
    )
    begin, _ = tell(session, "input_text.append", "b", text="x")
    assert begin.settings == updated.settings
    begin, _ = tell(session, "input_text.append", "c", text="x", voice="ann")
    assert begin.settings.voice.id == "ann"
    assert begin.settings.format == "mulaw"


def test_a_cancelled_context_is_over_at_once():
    session = new_session(max_contexts=1)
    tell(session, "input_text.append", text="Hello. There")
    assert tell(session, "context.cancel") == [Cancel("c")]
    assert not session._contexts
    tell(session, "input_text.append", "d", text="x")


def test_halves_of_a_character_are_put_together():
    session = new_session()
    cut = json.dumps("\N{GRINNING FACE}")  # two escapes, as UTF-16 has them
    for half in (cut[:7] + '"', '"' + cut[7:]):
        session.receive(f'{{"type":"input_text.append","context_id":"c","text":{half}}}')
    assert tell(session, "input_text.end")[0] == Say("c", ["\N{GRINNING FACE}"])


def test_half_a_character_at_the_end_is_replaced():
    session = new_session()
    tell(session, "input_text.append", text="Hm \ud83d")
    assert tell(session, "input_text.end")[0] == Say("c", ["Hm \ufffd"])


def test_what_the_other_side_said():
    session = new_session()
    audio = base64.b64encode(b"RIFF").decode()
    actions = tell(session, "context.append_audio", text="Hi.", audio=audio, speaker=1)
    assert actions == [Begin("c", session.settings), Listen("c", Said("Hi.", b"RIFF", 1))]


WRONG = [
    ("[", "invalid_json", None),
    ("[]", "invalid_type", None),
    ("{}", "invalid_value", "type"),
    ({"type": "speak"}, "invalid_value", "type"),
    ({"type": 3}, "invalid_type", "type"),
    ({"type": "input_text.append", "text": "x"}, "invalid_value", "context_id"),
    ({"type": "input_text.append", "context_id": 5, "text": "x"}, "invalid_type", "context_id"),
    ({"type": "input_text.append", "context_id": "", "text": "x"}, "invalid_value", "context_id"),
    (
        {"type": "input_text.append", "context_id": "i" * 129, "text": "x"},
        "invalid_value",
        "context_id",
    ),
    ({"type": "input_text.append", "context_id": "n"}, "no_text", "text"),
    ({"type": "input_text.append", "context_id": "n", "text": 1}, "invalid_type", "text"),
    ({"type": "input_text.append", "context_id": "n", "text": "\x00"}, "invalid_text", "text"),
    ({"type": "input_text.append", "context_id": "n", "text": "\udc00"}, "invalid_text", "text"),
    ({"type": "input_text.append", "context_id": "n", "text": "x" * 101}, "text_too_long", "text"),
    (
        {"type": "input_text.append", "context_id": "n", "text": "x", "voice": "eve"},
        "unknown_voice",
        "voice",
    ),
    (
        {"type": "input_text.append", "context_id": "n", "text": "x", "rate": 3},
        "unknown_field",
        "rate",
    ),
    (
        {"type": "input_text.append", "context_id": "open", "text": "x", "voice": "ann"},
        "invalid_value",
        "voice",
    ),
    (
        {"type": "input_text.append", "context_id": "open", "text": "y" * 99},
        "text_too_long",
        "text",
    ),
    (
        {"type": "input_text.append", "context_id": "ended", "text": "x"},
        "context_ended",
        "context_id",
    ),
    ({"type": "input_text.flush", "context_id": "ended"}, "context_ended", "context_id"),
    ({"type": "input_text.end", "context_id": "ended"}, "context_ended", "context_id"),
    (
        {"type": "input_text.append", "context_id": "over", "text": "x"},
        "context_finished",
        "context_id",
    ),
    ({"type": "context.cancel", "context_id": "over"}, "context_finished", "context_id"),
    ({"type": "input_text.flush", "context_id": "n"}, "unknown_context", "context_id"),
    ({"type": "input_text.end", "context_id": "n"}, "unknown_context", "context_id"),
    ({"type": "context.cancel", "context_id": "n"}, "unknown_context", "context_id"),
    ({"type": "input_text.flush", "context_id": "blank"}, "nothing_to_flush", "context_id"),
    ({"type": "session.update", "format": "mp3"}, "invalid_value", "format"),
    ({"type": "session.update", "sample_rate": 11025}, "invalid_value", "sample_rate"),
    (
        {"type": "session.update", "format": "opus", "sample_rate": 44100},
        "invalid_value",
        "sample_rate",
    ),
    ({"type": "session.update", "audio": "hex"}, "invalid_value", "audio"),
    ({"type": "session.update", "voice": "eve"}, "unknown_voice", "voice"),
    ({"type": "session.update", "temperature": 3}, "invalid_value", "temperature"),
    ({"type": "session.update", "voices": "ann"}, "unknown_field", "voices"),
    ({"type": "context.append_audio", "context_id": "n", "audio": "AAAA"}, "no_text", "text"),
    (
        {"type": "context.append_audio", "context_id": "n", "text": "x", "audio": "?"},
        "invalid_audio",
        "audio",
    ),
    (
        {"type": "input_text.append", "context_id": "n", "text": "x", "voice": "v" * 2000},
        "message_too_big",
        None,
    ),
]


@pytest.mark.parametrize(("message", "code", "param"), WRONG)
def test_what_is_wrong_is_said_and_changes_nothing(message, code, param):
    session = new_session(max_text_characters=100, max_message_bytes=1024)
    tell(session, "input_text.append", "open", text="xx")
    tell(session, "input_text.append", "blank", text=" ")
    tell(session, "input_text.append", "ended", text="x")
    tell(session, "input_text.end", "ended")
    tell(session, "input_text.append", "over", text="x")
    session.finish("over")
    before = session.settings
    text = message if isinstance(message, str) else json.dumps(message)
    (refusal,) = session.receive(text)
    assert isinstance(refusal, Refuse)
    assert (refusal.error.code, refusal.error.param) == (code, param)
    assert session.settings == before
    told = json.loads(wire.error(refusal.error, refusal.context_id))
    assert set(told) - {"context_id"} == {"type", "code", "message", "param", "retryable"}
    # The contexts are as they were.
    assert tell(session, "input_text.end", "open")[0] == Say("open", ["xx"])


def test_text_that_is_not_spoken_yet_is_bounded_whatever_was_flushed():
    session = new_session(max_text_characters=100)
    tell(session, "input_text.append", text="x" * 60)
    (say, _) = tell(session, "input_text.flush")
    (refusal,) = tell(session, "input_text.append", text="y" * 60)
    assert refusal.error.code == "text_too_long"
    assert "120" in refusal.error.message
    session.spoken("c", say.segments[0])
    assert tell(session, "input_text.append", text="y" * 60) == [Say("c", [])]


def test_audio_that_is_not_heard_yet_is_bounded():
    session = new_session(max_audio_message_bytes=1024)
    audio = base64.b64encode(bytes(700)).decode()
    _, listen = tell(session, "context.append_audio", text="Hi.", audio=audio, voice="bob")
    (refusal,) = tell(session, "context.append_audio", text="Hi.", audio=audio)
    assert refusal.error.code == "too_much_audio"
    session.heard("c", listen.said)
    assert tell(session, "context.append_audio", text="Hi.", audio=audio) == [listen]


def test_a_long_context_takes_no_more_memory_than_a_short_one():
    session = new_session()
    tell(session, "input_text.append", text="A")
    for _ in range(3000):
        (say,) = tell(session, "input_text.append", text=" sentence of some length. Another")
        for segment in say.segments:
            session.spoken("c", segment)
    assert len(session._contexts["c"].segmenter._text) < 1000


def test_one_context_more_than_the_limit():
    session = new_session()
    for number in range(8):
        tell(session, "input_text.append", str(number), text="x")
    (refusal,) = tell(session, "input_text.append", "8", text="x")
    assert refusal.error.code == "too_many_contexts"
    assert "8" in refusal.error.message
    session.finish("3")
    assert len(tell(session, "input_text.append", "8", text="x")) == 2


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 50_000),
    st.floats(),
    st.text(max_size=20),
    st.just([]),
)
_BODIES = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(wire._FIELDS))},
    optional={
        "context_id": st.sampled_from("abc") | _VALUES,
        **{
            name: _VALUES
            for fields in wire._FIELDS.values()
            for name in fields
            if name != "context_id"
        },
    },
)


@given(st.lists(_BODIES | st.text(max_size=40), max_size=30))
def test_any_messages_give_actions_that_fit_together(messages):
    session = new_session()
    open_contexts: set[str] = set()
    for message in messages:
        for action in session.receive(message if isinstance(message, str) else json.dumps(message)):
            if isinstance(action, Begin):
                assert action.context_id not in open_contexts
                open_contexts.add(action.context_id)
            elif isinstance(action, Cancel):
                open_contexts.remove(action.context_id)
            elif isinstance(action, (Say, Flush, End, Listen)):
                assert action.context_id in open_contexts
    assert set(session._contexts) == open_contexts
