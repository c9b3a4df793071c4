"""The basic endpoint with plain values: no socket, no engine, no clock."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rows import rows
from tts_provider.audio.encode.encode import Output
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, OverCapacity
from tts_provider.server.dialects import basic
from tts_provider.server.dialects.basic import (
    CancelRequest,
    Connection,
    InfoRequest,
    Refusal,
    SpeechRequest,
)


def read(message: str | dict, **limits):
    connection = Connection(Limits(**limits))
    cancel = connection.receive(message if isinstance(message, str) else json.dumps(message))
    return cancel or connection.next_turn()


def test_the_seeds_request():
    request = read({"text": "Text to convert to speech", "speaker": 1})
    assert isinstance(request, SpeechRequest)
    assert (request.text, request.speaker) == ("Text to convert to speech", 1)
    assert (request.output, request.stream) == (Output("wav", 24_000), False)
    assert request.request_id is None


def test_the_seeds_reply_has_exactly_five_keys():
    body = json.loads(basic.success(read({"text": "hi"}), 1234, 56))
    assert body == {
        "status": "success",
        "message": "Audio generated successfully",
        "format": "wav",
        "sample_rate": 24_000,
        "length_bytes": 1234,
    }


def test_the_seeds_loading_message():
    assert json.loads(basic.loading()) == {
        "status": "loading",
        "message": "TTS model is still loading, request will be processed when ready",
    }


def test_a_stream_is_pcm_unless_it_says_otherwise_and_echoes_its_id():
    request = read({"text": "hi", "stream": True, "request_id": "é\n"})
    assert json.loads(basic.streaming(request)) == {
        "status": "streaming",
        "format": "pcm",
        "sample_rate": 24_000,
        "request_id": "é\n",
    }
    assert json.loads(basic.success(request, 8, 9))["duration_ms"] == 9
    assert read({"text": "hi", "stream": True, "format": "wav"}).output.format == "wav"


@rows(
    ("message", "code", "text"),
    [
        ("", "invalid_json", "Invalid JSON format"),
        ("not json", "invalid_json", "Invalid JSON format"),
        ('{"text": NaN}', "invalid_json", "Invalid JSON format"),
        ("[" * 60_000, "invalid_json", "Invalid JSON format"),
        ('{"seed": ' + "9" * 5000 + "}", "invalid_json", "Invalid JSON format"),
        ("[]", "invalid_type", "got an array"),
        ('"text"', "invalid_type", "got a string"),
        ("null", "invalid_type", "got null"),
        ("7", "invalid_type", "got an integer"),
        ({}, "no_text", "No text provided"),
        ({"text": ""}, "no_text", "No text provided"),
        ({"text": " \n\t"}, "no_text", "No text provided"),
        ({"text": None}, "no_text", "No text provided"),
        ({"text": 5}, "invalid_type", "text must be a string; got an integer"),
        ({"text": ["a"]}, "invalid_type", "text must be a string; got an array"),
        ({"text": "a", "speaker": "x"}, "invalid_type", "speaker must be an integer; got a string"),
        ({"text": "a", "speaker": True}, "invalid_type", "got a boolean"),
        ({"text": "a", "speaker": 0.0}, "invalid_type", "got a number"),
        ({"text": "a", "speaker": -1}, "invalid_value", "speaker must be 0 or more; got -1"),
        ({"text": "a", "voice": 3}, "invalid_type", "voice must be a string"),
        ({"text": "a", "stream": "yes"}, "invalid_type", "stream must be true or false"),
        ({"text": "a", "stream": 1}, "invalid_type", "stream must be true or false"),
        ({"text": "a", "format": "ogg"}, "invalid_value", "format must be one of wav, pcm"),
        ({"text": "a", "format": "opus", "sample_rate": 22050}, "invalid_value", "for opus"),
        ({"text": "a", "sample_rate": 11024}, "invalid_value", "sample_rate must be one of 8000"),
        ({"text": "a", "sample_rate": 24000.0}, "invalid_type", "sample_rate must be an integer"),
        ({"text": "a", "temperature": 2.1}, "invalid_value", "from 0.0 to 2.0; got 2.1"),
        ({"text": "a", "temperature": "hot"}, "invalid_type", "temperature must be a number"),
        ({"text": "a", "top_k": 0}, "invalid_value", "top_k must be from 1 to 2048; got 0"),
        ({"text": "a", "seed": -1}, "invalid_value", "seed must be from 0"),
        ({"text": "a", "seed": 10**300}, "invalid_value", "seed must be from 0"),
        ({"text": "a", "max_audio_length_ms": 0}, "invalid_value", "must be 1 or more"),
        ({"text": "a", "request_id": 7}, "invalid_type", "request_id must be a string"),
        ({"text": "a" * 20_001}, "text_too_long", "20001 characters; the limit is 20000"),
        ({"text": "a\x00b"}, "invalid_text", "control character U+0000 at position 1"),
        ({"text": "\x1b[31m"}, "invalid_text", "control character U+001B at position 0"),
        ('{"text": "ab\\ud800"}', "invalid_text", "lone surrogate U+D800 at position 2"),
        ({"command": "reboot"}, "invalid_value", "command must be one of info, cancel"),
        ({"command": "cancel"}, "invalid_value", "needs the request_id"),
    ],
)
def test_what_is_wrong_is_said(message, code, text):
    turn = read(message)
    assert isinstance(turn, Refusal)
    body = json.loads(basic.error(turn.error, turn.request_id))
    assert body["status"] == "error"
    assert body["code"] == code
    assert text in body["message"]
    assert set(body) == {"status", "message", "code"}


def test_null_counts_as_not_given_and_unknown_fields_are_ignored():
    request = read(
        {"text": "hi", "speaker": None, "format": None, "seed": None}
        | {"lang": "en", "rate": "+10%", "model": "edge", "extra_params": {"a": [1]}}
    )
    assert isinstance(request, SpeechRequest)
    assert (request.speaker, request.output.format, request.manner.seed) == (None, "wav", None)


def test_ordinary_text_of_any_language_passes():
    for text in ("Zażółć gęślą jaźń\n", "日本語\t", "👩‍👩‍👧‍👦", "﷽", "a\u200bb", "line\r\nline"):
        assert isinstance(read({"text": text}), SpeechRequest)


def test_errors_echo_the_request_id():
    turn = read({"text": "", "request_id": "r1"})
    assert json.loads(basic.error(turn.error, turn.request_id))["request_id"] == "r1"


def test_turns_are_taken_in_order():
    connection = Connection(Limits())
    for text in ("one", "", "two"):
        connection.receive(json.dumps({"text": text}))
    connection.receive('{"command": "info", "request_id": "i"}')
    turns = []
    while (turn := connection.next_turn()) is not None:
        turns.append(turn)
        connection.finish_turn()
    assert [type(turn) for turn in turns] == [SpeechRequest, Refusal, SpeechRequest, InfoRequest]


def test_more_than_the_limit_may_not_wait():
    connection = Connection(Limits(max_pending_requests=2))
    connection.receive('{"text": "a"}')
    connection.receive('{"text": "b"}')
    with pytest.raises(OverCapacity, match="2 requests waiting"):
        connection.receive('{"text": "c"}')


def test_cancel_of_the_active_the_waiting_and_the_unknown():
    connection = Connection(Limits())
    for name in ("active", "waiting", "other"):
        connection.receive(json.dumps({"text": "a", "request_id": name}))
    assert connection.next_turn().request_id == "active"
    assert connection.cancel(CancelRequest("active")) == ([], True)
    messages, stop = connection.cancel(CancelRequest("waiting"))
    assert (json.loads(messages[0]), stop) == (
        {"status": "cancelled", "request_id": "waiting"},
        False,
    )
    messages, stop = connection.cancel(CancelRequest("waiting"))
    assert (json.loads(messages[0])["code"], stop) == ("unknown_request", False)
    connection.finish_turn()
    assert json.loads(connection.cancel(CancelRequest("active"))[0][0])["code"] == "unknown_request"
    assert connection.next_turn().request_id == "other"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from(
    [
        "text",
        "speaker",
        "voice",
        "stream",
        "format",
        "sample_rate",
        "temperature",
        "top_k",
        "seed",
        "max_audio_length_ms",
        "request_id",
        "command",
        "lang",
    ]
)


@given(st.dictionaries(_FIELDS, _JSON) | _JSON)
def test_whatever_json_arrives_is_a_turn_with_an_answer(body):
    check_answer(json.dumps(body))


@given(st.text())
def test_whatever_text_arrives_is_a_turn_with_an_answer(message):
    check_answer(message)


def check_answer(message: str) -> None:
    turn = read(message)
    if isinstance(turn, Refusal):
        answer = basic.error(turn.error, turn.request_id)
    elif isinstance(turn, SpeechRequest):
        assert turn.text.strip()
        answer = basic.success(turn, 1, 1)
    elif isinstance(turn, CancelRequest):
        answer = basic.cancelled(turn.request_id)
    else:
        answer = basic.info({}, turn.request_id)
    answer.encode("utf-8")
    assert json.loads(answer)["status"] in ("error", "success", "cancelled")


def said(audio_bytes: int) -> dict[str, str]:
    return {"text": "Before.", "audio": base64.b64encode(bytes(audio_bytes)).decode()}


def test_context_may_be_larger_than_any_text():
    """A minute as this server's own WAV is 2.9 MB; of 16 recordings, all have 8 MiB together."""
    request = read({"text": "Now.", "context": [said(2_880_044), said(2_880_044)]})
    assert isinstance(request, SpeechRequest)
    assert [len(each.audio) for each in request.context] == 2 * [2_880_044]
    many = read({"text": "Now.", "context": [said(360_000)] * 16})
    assert isinstance(many, SpeechRequest)
    assert isinstance(read({"text": "Now.", "context": [said(100)] * 17}), Refusal)


def test_what_is_larger_and_no_context_is_too_big():
    with pytest.raises(InvalidRequest) as problem:
        read({"text": "Now.", "more": "x" * Limits().max_wire_bytes})
    assert problem.value.code == "message_too_big"


def test_context_that_waits_has_a_bound():
    connection = Connection(Limits(max_waiting_bytes=8000))
    message = json.dumps({"text": "Now.", "context": [said(4000)]})
    connection.receive(message)
    assert connection.next_turn() is not None
    connection.receive(message)
    with pytest.raises(OverCapacity, match="requests wait on this connection"):
        connection.receive(message)
