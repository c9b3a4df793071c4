from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rows import rows
from tts_provider.config import Limits
from tts_provider.errors import OverCapacity
from tts_provider.server.dialects import native
from tts_provider.server.dialects.dialect import (
    Append,
    Audio,
    Cancel,
    Cancelled,
    ContextSettings,
    Done,
    End,
    EngineLoading,
    Flush,
    Flushed,
    Greeting,
    Handshake,
    Interrupt,
    Interrupted,
    Listen,
    Opening,
    Problem,
    Refuse,
    SegmentDone,
    Update,
    Updated,
    Words,
)
from written import word_at

from .conversation import VOICES, Conversation, find_voice

SETTINGS = ContextSettings(VOICES["ann"])


def new_dialect(**limits: int) -> native.NativeDialect:
    return native.NativeDialect(Handshake(Limits(**limits), find_voice))


def test_each_message_is_one_action():
    receive = new_dialect().receive
    opening = Opening(SETTINGS)
    for message, action in [
        ({"type": "input_text.append", "text": "Hal"}, Append("c", "Hal", opening)),
        ({"type": "input_text.flush", "flush_id": "f"}, Flush("c", "f")),
        ({"type": "input_text.end"}, End("c")),
        ({"type": "context.cancel"}, Cancel("c")),
        ({"type": "context.interrupt", "played_ms": 900}, Interrupt("c", 900)),
        (
            {"type": "input_text.append", "text": "Hal", "continues": "b"},
            Append("c", "Hal", Opening(SETTINGS, continues="b")),
        ),
    ]:
        assert receive(json.dumps({"context_id": "c", **message})) == [action]


def test_settings_are_for_contexts_made_later():
    talk = Conversation()
    update = {
        "voice": "bob",
        "format": "mulaw",
        "sample_rate": 8000,
        "audio": "binary",
        "seed": 3,
        "temperature": 0.5,
        "top_k": 5,
        "speed": 1.5,
        "max_ahead_ms": 500,
    }
    (updated,) = talk.tell("session.update", None, **update)
    (told,) = talk.dialect.write(Updated(updated.settings))
    assert json.loads(told) == {"type": "session.updated", **update}
    append = json.dumps({"type": "input_text.append", "context_id": "b", "text": "x"})
    (action,) = talk.dialect.receive(append)
    assert action.opening == Opening(updated.settings)
    _, action = talk.dialect.receive(append[:-1] + ', "voice": "ann"}')
    assert not action.opening.is_first
    assert action.opening.settings.voice.id == "ann"
    assert action.opening.settings.output.format == "mulaw"


@rows(
    ("event", "message"),
    [
        (EngineLoading(), {"type": "session.loading"}),
        (
            Greeting("s", "espeak", [VOICES["ann"]], {"max_streams": 3}),
            {
                "type": "session.created",
                "session_id": "s",
                "engine": "espeak",
                "sample_rate": 24_000,
                "voices": [
                    {
                        "id": "ann",
                        "name": "ann",
                        "gender": "unknown",
                        "source": "test",
                        "speaker": None,
                        "language": "en",
                    }
                ],
                "limits": {"max_streams": 3},
            },
        ),
        (
            Audio("c", SETTINGS, 80, 240, b"\0\1"),
            {
                "type": "audio.delta",
                "context_id": "c",
                "start_ms": 80,
                "duration_ms": 160,
                "audio": "AAE=",
            },
        ),
        (
            SegmentDone("c", "Hi.", 80, 240),
            {
                "type": "audio.segment",
                "context_id": "c",
                "text": "Hi.",
                "start_ms": 80,
                "end_ms": 240,
            },
        ),
        (
            Words("c", [replace(word_at("$5", 80, 400, 9, 11), is_estimated=True)]),
            {
                "type": "audio.words",
                "context_id": "c",
                "words": [{"text": "$5", "start_ms": 80, "end_ms": 400, "from": 9, "to": 11}],
                "estimated": True,
            },
        ),
        (Flushed("c", None), {"type": "audio.flushed", "context_id": "c", "flush_id": None}),
        (Done("c", 240), {"type": "context.done", "context_id": "c", "audio_ms": 240}),
        (Cancelled("c", 240), {"type": "context.cancelled", "context_id": "c", "audio_ms": 240}),
        (
            Interrupted("c", 240, "Hal", "lo"),
            {
                "type": "context.interrupted",
                "context_id": "c",
                "played_ms": 240,
                "heard": "Hal",
                "unheard": "lo",
            },
        ),
        (
            Problem(OverCapacity("full", retry_after_ms=5), "c"),
            {
                "type": "error",
                "code": "over_capacity",
                "message": "full",
                "param": None,
                "retryable": True,
                "retry_after_ms": 5,
                "context_id": "c",
            },
        ),
    ],
)
def test_each_event_is_one_message(event, message):
    (told,) = new_dialect().write(event)
    assert json.loads(told) == message


def test_binary_audio_follows_its_header():
    settings = ContextSettings(VOICES["ann"], audio="binary")
    header, data = new_dialect().write(Audio("c", settings, 0, 80, b"abc"))
    assert json.loads(header)["bytes"] == 3
    assert data == b"abc"


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
        {
            "type": "context.append_audio",
            "context_id": "open",
            "text": "x",
            "audio": "UklGRg==",
            "voice": "ann",
        },
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
    ({"type": "session.update", "sample_rate": 11000}, "invalid_value", "sample_rate"),
    (
        {"type": "session.update", "format": "opus", "sample_rate": 44100},
        "invalid_value",
        "sample_rate",
    ),
    ({"type": "session.update", "max_ahead_ms": 399}, "invalid_value", "max_ahead_ms"),
    ({"type": "context.interrupt", "context_id": "open"}, "invalid_value", "played_ms"),
    (
        {"type": "context.interrupt", "context_id": "open", "played_ms": -1},
        "invalid_value",
        "played_ms",
    ),
    (
        {"type": "context.interrupt", "context_id": "n", "played_ms": 1},
        "unknown_context",
        "context_id",
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
        {"type": "input_text.append", "context_id": "n", "text": "x", "voice": "v" * 3000},
        "message_too_big",
        None,
    ),
]


@rows(
    ("field", "meant"),
    [("txt", "text"), ("contextid", "context_id"), ("Text", "text"), ("rate", None), ("x", None)],
)
def test_an_unknown_field_is_answered_with_a_close_name_or_none(field, meant):
    talk = Conversation(max_text_characters=100, max_message_bytes=1024)
    (problem,) = talk.tell("input_text.append", "n", text="x", **{field: 3})
    assert problem.error.code == "unknown_field"
    told = f"did you mean {meant}? There are type" if meant else "here; there are type"
    assert told in problem.error.message


@rows(("message", "code", "param"), WRONG)
def test_what_is_wrong_is_said_and_changes_nothing(message, code, param):
    talk = Conversation(max_text_characters=100, max_message_bytes=1024)
    talk.tell("input_text.append", "open", text="xx")
    talk.tell("input_text.append", "blank", text=" ")
    talk.tell("input_text.append", "ended", text="x")
    talk.tell("input_text.end", "ended")
    talk.tell("input_text.append", "over", text="x")
    talk.contexts.finish("over")
    text = message if isinstance(message, str) else json.dumps(message)
    (refusal,) = talk.receive(text)
    assert isinstance(refusal, Refuse)
    assert (refusal.error.code, refusal.error.param) == (code, param)
    (told,) = talk.dialect.write(Problem(refusal.error, refusal.context_id))
    assert set(json.loads(told)) - {"context_id"} == {
        "type",
        "code",
        "message",
        "param",
        "retryable",
    }
    # The settings and the contexts are as they were.
    assert talk.tell("session.update", None) == [Update(SETTINGS)]
    assert talk.tell("input_text.end", "open")[0] == "xx"


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 50_000),
    st.floats(),
    st.text(max_size=20),
    st.just([]),
)
_BODIES = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(native._FIELDS))},
    optional={
        "context_id": st.sampled_from("abc") | _VALUES,
        **{
            name: _VALUES
            for fields in native._FIELDS.values()
            for name in fields
            if name != "context_id"
        },
    },
)


@given(st.lists(_BODIES | st.text(max_size=40), max_size=30))
def test_any_message_is_one_action_or_one_refusal(messages):
    dialect = new_dialect()
    for message in messages:
        (action,) = dialect.receive(message if isinstance(message, str) else json.dumps(message))
        if isinstance(action, (Append, Listen, Flush, End, Cancel)):
            assert isinstance(action.context_id, str)
