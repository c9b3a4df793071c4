from __future__ import annotations

import base64
import json

from rows import rows
from tts_provider.audio.encode.encode import Output
from tts_provider.config import Limits
from tts_provider.errors import EngineFailed, InvalidRequest, OverCapacity
from tts_provider.server.dialects.cartesia.websocket import READING, CartesiaDialect
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
    Opening,
    Problem,
    Refuse,
    SegmentDone,
    Words,
)
from tts_provider.speech.engine import Manner
from written import word_at

from ..conversation import VOICES, find_voice, tell_begun

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
FIRST = {
    "model_id": "sonic-3",
    "voice": {"mode": "id", "id": "bob"},
    "output_format": RAW,
    "language": "en",
}
BOB = ContextSettings(VOICES["bob"], reading=READING)
OPENING = Opening(BOB)


class Talk:
    def __init__(self) -> None:
        self.dialect = CartesiaDialect(Handshake(Limits(), find_voice))
        self.begun: set[str] = set()

    def tell(self, context_id: str | None = "c", **fields):
        message = {"context_id": context_id, **FIRST, **fields}
        actions = self.dialect.receive(json.dumps(message))
        tell_begun(self.dialect, actions, self.begun)
        return actions

    def hear(self, event):
        return [json.loads(message) for message in self.dialect.write(event)]


def test_a_text_in_pieces():
    talk = Talk()
    assert talk.tell(transcript="Hal", **{"continue": True}) == [Append("c", "Hal", OPENING)]
    assert talk.tell(transcript="lo.", **{"continue": True}) == [Append("c", "lo.", OPENING)]
    assert talk.tell(transcript="", **{"continue": True}) == []
    assert talk.tell(transcript="", **{"continue": False}) == [End("c")]
    assert talk.tell("d", transcript="Whole.") == [Append("d", "Whole.", OPENING), End("d")]
    assert talk.tell("d", cancel=True) == [Cancel("d")]


def test_a_context_keeps_what_its_first_message_said():
    talk = Talk()
    talk.tell(transcript="a", **{"continue": True})
    (append, _) = talk.tell(transcript="b", voice="eve", output_format=None)
    assert append.opening == OPENING


@rows(
    ("fields", "settings"),
    [
        ({"voice": "ann"}, {"voice": VOICES["ann"]}),
        ({"voice": {"id": "ann"}}, {"voice": VOICES["ann"]}),
        ({"voice": {"mode": "id", "id": None}}, {"voice": VOICES["ann"]}),
        ({"voice": ""}, {"voice": VOICES["ann"]}),
        ({"output_format": {**RAW, "encoding": "pcm_f32le"}}, {"output": Output("f32le", 24_000)}),
        ({"output_format": {**RAW, "encoding": "pcm_mulaw"}}, {"output": Output("mulaw", 24_000)}),
        (
            {"output_format": {**RAW, "encoding": "PCM_ALAW", "sample_rate": 8000}},
            {"output": Output("alaw", 8000)},
        ),
        (
            {"generation_config": {"speed": 1.5, "volume": 2, "emotion": "angry"}},
            {"manner": Manner(speed=1.5)},
        ),
        ({"speed": "slow"}, {"manner": Manner(speed=0.8)}),
        ({"max_buffer_delay_ms": 3000}, {"clause_pause_s": 3.0}),
        ({"unheard_of": [1]}, {}),
    ],
)
def test_what_the_first_message_may_say(fields, settings):
    (append, _) = Talk().tell(transcript="x", **fields)
    expected = {"voice": VOICES["bob"], "reading": READING, **settings}
    assert append.opening == Opening(ContextSettings(**expected))


def test_flushes_are_numbered_from_one_and_their_audio_has_the_number():
    talk = Talk()
    assert talk.tell(transcript="One.", flush=True, **{"continue": True}) == [
        Append("c", "One.", OPENING),
        Flush("c", "1", may_be_empty=True),
    ]
    assert talk.tell(transcript="", flush=True, **{"continue": True}) == [
        Flush("c", "2", may_be_empty=True)
    ]
    audio = Audio("c", BOB, 0, 80, b"\0\1")
    assert talk.hear(audio)[0]["flush_id"] == 1
    assert talk.hear(Flushed("c", "1")) == [
        {
            "type": "flush_done",
            "context_id": "c",
            "status_code": 206,
            "done": False,
            "flush_done": True,
            "flush_id": 1,
        }
    ]
    assert talk.hear(audio)[0]["flush_id"] == 2


def test_who_keeps_text_back_has_each_message_spoken():
    talk = Talk()
    said = {"max_buffer_delay_ms": 0, "continue": True}
    assert talk.tell(transcript="One. ", **said)[1:] == [Flush("c", "1", may_be_empty=True)]
    assert talk.tell(transcript=" ", **said) == [Append("c", " ", Opening(BOB))]
    end = talk.tell(transcript="Two.", max_buffer_delay_ms=0)
    assert end == [Append("c", "Two.", OPENING), End("c")]


def test_what_is_told():
    talk = Talk()
    talk.tell(transcript="x", **{"continue": True})
    common = {"context_id": "c", "status_code": 206, "done": False}
    (chunk,) = talk.hear(Audio("c", BOB, 0, 80, b"\0\1"))
    assert chunk == {**common, "type": "chunk", "data": "AAE=", "step_time": 0.0, "flush_id": 1}
    assert base64.b64decode(chunk["data"]) == b"\0\1"
    for event in (Greeting("s", "e", [], {}), EngineLoading(), SegmentDone("c", "x", 0, 80)):
        assert talk.hear(event) == []
    assert talk.hear(Done("c", 80)) == [
        {"type": "done", "context_id": "c", "status_code": 200, "done": True}
    ]


def test_times_of_words_where_they_are_asked_for():
    talk = Talk()
    words = Words(
        "c",
        [word_at("It", 0, 90, 0, 2), word_at("is", 90, 200, 3, 5), word_at("$5", 200, 1250, 6, 8)],
    )
    (append,) = talk.tell(transcript="x", add_timestamps=True, **{"continue": True})
    assert append.opening.settings.manner.word_times
    (told,) = talk.hear(words)
    assert told["type"] == "timestamps"
    assert told["done"] is False
    assert told["word_timestamps"] == {
        "words": ["It", "is", "$5"],
        "start": [0.0, 0.09, 0.2],
        "end": [0.09, 0.2, 1.25],
    }
    (append,) = talk.tell("quiet", transcript="x", **{"continue": True})
    assert not append.opening.settings.manner.word_times


def test_nothing_comes_after_a_cancel():
    talk = Talk()
    talk.tell(transcript="x", **{"continue": True})
    assert talk.hear(Cancelled("c", 80)) == []


def test_an_error_is_the_last_of_a_context_that_is_over():
    """Cartesia's package takes a `done` of a context that it has forgotten for another's."""
    talk = Talk()
    talk.tell(transcript="x", **{"continue": True})
    (told,) = talk.hear(Problem(EngineFailed("the engine broke"), "c", is_over=True))
    assert told == {
        "type": "error",
        "context_id": "c",
        "done": False,
        "status_code": 500,
        "title": "Engine failed",
        "message": "the engine broke",
        "error_code": "engine_failed",
    }
    assert talk.hear(Done("c", 0)) == []


def test_a_message_that_is_refused_leaves_its_context():
    talk = Talk()
    talk.tell(transcript="x", **{"continue": True})
    talk.tell(transcript="\0", **{"continue": True})
    (told,) = talk.hear(Problem(InvalidRequest("no text"), "c"))
    assert told["type"] == "error"
    (refusal,) = talk.tell(transcript=3)
    assert talk.hear(Problem(refusal.error, "c"))[0]["error_code"] == "invalid_type"
    assert talk.hear(Audio("c", BOB, 0, 80, b"\0\1"))[0]["type"] == "chunk"
    assert talk.hear(Done("c", 80))[0]["type"] == "done"


def test_contexts_that_are_refused_are_forgotten():
    talk = Talk()
    full = OverCapacity("full", retry_after_ms=1, code="too_many_contexts")
    for number in range(100):
        message = {"context_id": str(number), **FIRST, "transcript": "x", "continue": True}
        talk.dialect.receive(json.dumps(message))
        talk.hear(Problem(full, str(number)))
    assert talk.dialect._contexts == {}
    (append,) = talk.tell("7", transcript="x", voice="ann", **{"continue": True})
    assert append.opening.settings.voice.id == "ann"


@rows(
    ("message", "code", "param"),
    [
        ("[", "invalid_json", None),
        ("[]", "invalid_type", None),
        ("{}", "invalid_value", "context_id"),
        ({"context_id": 5}, "invalid_type", "context_id"),
        ({**FIRST, "context_id": "n"}, "no_text", "transcript"),
        ({**FIRST, "context_id": "n", "transcript": 5}, "invalid_type", "transcript"),
        ({"context_id": "n", "transcript": "x"}, "invalid_value", "output_format"),
        ({**FIRST, "context_id": "n", "transcript": "x", "voice": "eve"}, "unknown_voice", "voice"),
        ({**FIRST, "context_id": "n", "transcript": "x", "voice": 5}, "invalid_type", "voice"),
        (
            {**FIRST, "context_id": "n", "transcript": "x", "voice": {"id": 5}},
            "invalid_type",
            "id",
        ),
        (
            {**FIRST, "context_id": "n", "transcript": "x", "voice": {"embedding": [0.1]}},
            "unknown_voice",
            "voice",
        ),
        (
            {**FIRST, "context_id": "n", "transcript": "x", "continue": 1},
            "invalid_type",
            "continue",
        ),
        ({**FIRST, "context_id": "n", "transcript": "x", "speed": "mad"}, "invalid_value", "speed"),
        (
            {**FIRST, "context_id": "n", "transcript": "x", "generation_config": {"speed": 9}},
            "invalid_value",
            "speed",
        ),
        (
            {**FIRST, "context_id": "n", "transcript": "x", "max_buffer_delay_ms": 5001},
            "invalid_value",
            "max_buffer_delay_ms",
        ),
        *[
            ({**FIRST, "context_id": "n", "transcript": "x", "output_format": output}, code, param)
            for output, code, param in [
                ("raw", "invalid_type", "output_format"),
                ({}, "invalid_value", "sample_rate"),
                ({**RAW, "container": "ogg"}, "invalid_value", "container"),
                ({**RAW, "container": "wav"}, "invalid_value", "output_format"),
                ({**RAW, "container": "mp3"}, "invalid_value", "output_format"),
                ({**RAW, "encoding": "pcm_s8"}, "invalid_value", "encoding"),
                ({**RAW, "encoding": None}, "invalid_value", "encoding"),
                ({**RAW, "sample_rate": 11_000}, "invalid_value", "sample_rate"),
                ({**RAW, "sample_rate": "24000"}, "invalid_type", "sample_rate"),
            ]
        ],
    ],
)
def test_what_is_wrong_is_said_and_begins_nothing(message, code, param):
    talk = Talk()
    text = message if isinstance(message, str) else json.dumps(message)
    (refusal,) = talk.dialect.receive(text)
    assert isinstance(refusal, Refuse)
    assert (refusal.error.code, refusal.error.param) == (code, param)
    (told,) = talk.hear(Problem(refusal.error, refusal.context_id))
    assert (told["type"], told["error_code"]) == ("error", code)
    assert "context_id" in told  # Pipecat reads it in every message
    assert talk.dialect._contexts == {}
