from __future__ import annotations

import json

import pytest

from rows import rows
from tts_provider.audio.encode.encode import Output
from tts_provider.config import Limits
from tts_provider.errors import EngineFailed, InvalidRequest, NoSpeech, WireError
from tts_provider.server.dialects.deepgram.websocket import DeepgramDialect
from tts_provider.server.dialects.dialect import (
    Answer,
    Append,
    Audio,
    Cancel,
    Cancelled,
    Close,
    ContextSettings,
    Done,
    End,
    Flush,
    Flushed,
    Greeting,
    Handshake,
    Opening,
    Problem,
    Refuse,
    Words,
)
from tts_provider.speech.engine import Manner
from written import word_at

from ..conversation import VOICES, find_voice, tell_begun

SETTINGS = ContextSettings(VOICES["ann"], audio="binary")
OPENING = Opening(SETTINGS)


class Talk:
    def __init__(self, **query: str) -> None:
        self.dialect = DeepgramDialect(Handshake(Limits(), find_voice, query=query))
        self.begun: set[str] = set()

    def tell(self, kind: str, **fields):
        actions = self.dialect.receive(json.dumps({"type": kind, **fields}))
        tell_begun(self.dialect, actions, self.begun)
        return actions

    def hear(self, event):
        return [
            message if isinstance(message, bytes) else json.loads(message)
            for message in self.dialect.write(event)
        ]


@rows(
    ("query", "settings"),
    [
        ({}, {}),
        ({"model": "bob"}, {"voice": VOICES["bob"]}),
        ({"model": "", "mip_opt_out": "true", "tag": "a"}, {}),
        ({"encoding": "linear16", "sample_rate": "16000"}, {"output": Output("pcm", 16_000)}),
        ({"encoding": "mulaw"}, {"output": Output("mulaw", 8000)}),
        ({"encoding": "ALAW", "container": "none"}, {"output": Output("alaw", 8000)}),
        (
            {"sample_rate": "32000", "speed": "1.5"},
            {"output": Output("pcm", 32_000), "manner": Manner(speed=1.5)},
        ),
    ],
)
def test_what_an_address_may_say(query, settings):
    (append,) = Talk(**query).tell("Speak", text="x")
    expected = {"voice": VOICES["ann"], "audio": "binary", **settings}
    assert append.opening == Opening(ContextSettings(**expected))


@rows(
    ("query", "code", "param"),
    [
        ({"model": "eve"}, "unknown_voice", "voice"),
        ({"encoding": "mp3"}, "invalid_value", "encoding"),
        ({"container": "wav"}, "invalid_value", "container"),
        ({"sample_rate": "11000"}, "invalid_value", "sample_rate"),
        ({"sample_rate": "many"}, "invalid_type", "sample_rate"),
        ({"sample_rate": "9" * 400}, "invalid_type", "sample_rate"),
        ({"speed": "9"}, "invalid_value", "speed"),
        ({"speed": "nan"}, "invalid_type", "speed"),
    ],
)
def test_an_address_that_cannot_be_served(query, code, param):
    with pytest.raises(WireError) as caught:
        Talk(**query)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_turn():
    talk = Talk()
    (metadata,) = talk.hear(Greeting("s", "espeak", [], {}))
    assert (metadata["type"], metadata["request_id"]) == ("Metadata", "s")
    assert metadata["model_name"] == "ann"
    assert talk.tell("Speak", text="Hal") == [Append("0", "Hal", OPENING)]
    assert talk.tell("Speak", text="lo.") == [Append("0", "lo.", OPENING)]
    assert talk.tell("Flush") == [Flush("0", may_be_empty=True)]
    assert talk.hear(Audio("0", SETTINGS, 0, 80, b"\0\1")) == [b"\0\1"]
    assert talk.hear(Words("0", [word_at("Hallo.", 0, 80, 0, 6)])) == []
    assert talk.hear(Flushed("0", None)) == [{"type": "Flushed", "sequence_id": 0}]
    assert talk.tell("Close") == [End("0"), Close()]
    assert talk.hear(Done("0", 80)) == []


def test_a_clear_begins_another_context():
    talk = Talk()
    talk.tell("Speak", text="x")
    assert talk.tell("Clear") == [Cancel("0")]
    assert talk.hear(Cancelled("0", 80)) == [{"type": "Cleared", "sequence_id": 0}]
    assert talk.tell("Speak", text="y") == [Append("1", "y", OPENING)]


def test_where_nothing_was_said_a_flush_and_a_clear_are_answered_too():
    talk = Talk()
    for number, (kind, answer) in enumerate([("Flush", "Flushed"), ("Clear", "Cleared")] * 2):
        expected = json.dumps({"type": answer, "sequence_id": number})
        assert talk.tell(kind) == [Answer([expected])]
    assert talk.tell("Close") == [Close()]


def test_a_text_that_is_refused_begins_nothing():
    talk = Talk()
    talk.dialect.receive(json.dumps({"type": "Speak", "text": "\0"}))
    (warning,) = talk.hear(Problem(InvalidRequest("no text", code="invalid_text"), "0"))
    assert warning == {"type": "Warning", "description": "no text", "code": "invalid_text"}
    assert isinstance(talk.tell("Flush")[0], Answer)
    talk.tell("Speak", text="x")
    talk.tell("Speak", text="\0")
    talk.hear(Problem(InvalidRequest("no text"), "0"))
    assert talk.tell("Flush") == [Flush("0", may_be_empty=True)]


def test_after_a_failure_there_is_another_context():
    talk = Talk()
    talk.tell("Speak", text="x")
    (told,) = talk.hear(Problem(EngineFailed("the engine broke"), "0", is_over=True))
    assert (told["type"], told["description"]) == ("Error", "the engine broke")
    assert talk.tell("Speak", text="y") == [Append("1", "y", OPENING)]
    assert talk.hear(Done("0", 0)) == []
    assert talk.tell("Flush") == [Flush("1", may_be_empty=True)]


def test_nothing_to_say_is_a_warning():
    (told,) = Talk().hear(Problem(NoSpeech("nothing can be spoken"), "0", is_over=True))
    assert (told["type"], told["code"]) == ("Warning", "no_speech")


@rows(
    ("message", "code", "param"),
    [
        ("[", "invalid_json", None),
        ("3", "invalid_type", None),
        ("{}", "invalid_value", "type"),
        ('{"type": "Sing"}', "invalid_value", "type"),
        ('{"type": 5}', "invalid_type", "type"),
        ('{"type": "Speak"}', "no_text", "text"),
        ('{"type": "Speak", "text": 5}', "invalid_type", "text"),
    ],
)
def test_what_is_wrong_is_said(message, code, param):
    talk = Talk()
    (refusal,) = talk.dialect.receive(message)
    assert isinstance(refusal, Refuse)
    assert (refusal.error.code, refusal.error.param) == (code, param)
    (told,) = talk.hear(Problem(refusal.error))
    assert (told["type"], told["code"]) == ("Warning", code)
