from __future__ import annotations

import json
from typing import Any

import pytest

from tts_provider.config import Limits
from tts_provider.errors import NoSpeech
from tts_provider.server.dialects.dialect import (
    Answer,
    Append,
    Audio,
    ContextSettings,
    Done,
    End,
    Greeting,
    Handshake,
    Problem,
    Refuse,
)
from tts_provider.server.dialects.wyoming import WyomingDialect

from .conversation import VOICES, find_voice

SETTINGS = ContextSettings(VOICES["ann"])


def new_dialect(**limits: int) -> WyomingDialect:
    return WyomingDialect(Handshake(Limits(**limits), find_voice))


def tell(dialect: WyomingDialect, kind: str, **data: Any) -> list[Any]:
    actions = dialect.receive(json.dumps({"type": kind, "data": data}))
    return short(actions)


def short(actions) -> list[Any]:
    return [(a.context_id, a.text) if isinstance(a, Append) else a for a in actions]


def written(dialect: WyomingDialect, event) -> list[tuple[dict[str, Any], bytes]]:
    return [parse(message) for message in dialect.write(event)]


def parse(message: bytes) -> tuple[dict[str, Any], bytes]:
    line, payload = message.split(b"\n", 1)
    header = json.loads(line)
    assert len(payload) == header.pop("payload_length", 0)
    return header, payload


def test_a_whole_text():
    dialect = new_dialect()
    assert tell(dialect, "synthesize", text="Hi.") == [("1", "Hi."), End("1")]
    place = {"rate": 24_000, "width": 2, "channels": 1}
    assert written(dialect, Audio("1", SETTINGS, 0, 40, b"\1\2")) == [
        ({"type": "audio-start", "data": {**place, "timestamp": 0}}, b""),
        ({"type": "audio-chunk", "data": {**place, "timestamp": 0}}, b"\1\2"),
    ]
    assert written(dialect, Audio("1", SETTINGS, 40, 80, b"\3\4")) == [
        ({"type": "audio-chunk", "data": {**place, "timestamp": 40}}, b"\3\4"),
    ]
    assert written(dialect, Done("1", 80)) == [
        ({"type": "audio-stop", "data": {"timestamp": 80}}, b"")
    ]
    assert dialect.follow(Done("1", 80)) == []


def test_a_text_in_chunks_and_the_whole_of_it_ignored():
    dialect = new_dialect()
    assert tell(dialect, "synthesize-start", voice={"name": "bob"}) == []
    (append,) = dialect.receive('{"type": "synthesize-chunk", "data": {"text": "He"}}')
    assert append.opening.settings.voice.id == "bob"
    assert tell(dialect, "synthesize-chunk", text="llo.") == [("1", "llo.")]
    assert tell(dialect, "synthesize", text="Hello.") == []
    assert tell(dialect, "synthesize-stop") == [End("1")]
    kinds = [header["type"] for header, _ in written(dialect, Done("1", 80))]
    assert kinds == ["audio-stop", "synthesize-stopped"]


def test_one_after_another():
    dialect = new_dialect()
    assert tell(dialect, "synthesize", text="One.") == [("1", "One."), End("1")]
    assert tell(dialect, "synthesize", text="Two.", voice={"name": "bob"}) == []
    assert tell(dialect, "synthesize-start") == []
    assert tell(dialect, "synthesize-chunk", text="Three") == []
    assert short(dialect.follow(Done("1", 0))) == [("2", "Two."), End("2")]
    assert short(dialect.follow(Done("2", 0))) == [("3", "Three")]
    assert tell(dialect, "synthesize-chunk", text=".") == [("3", ".")]
    assert tell(dialect, "synthesize-stop") == [End("3")]


def test_questions_about_the_server():
    dialect = new_dialect()
    assert dialect.write(Greeting("s", "espeak", [VOICES["ann"], VOICES["bob"]], {})) == []
    (info,) = tell(dialect, "describe")
    assert isinstance(info, Answer)
    header, _ = parse(info.messages[0])
    (program,) = header["data"]["tts"]
    assert program["supports_synthesize_streaming"] is True
    assert [(v["name"], v["languages"], v["installed"]) for v in program["voices"]] == [
        ("ann", ["en"], True),
        ("bob", ["en"], True),
    ]
    (pong,) = tell(dialect, "ping", text="x")
    assert parse(pong.messages[0]) == ({"type": "pong", "data": {"text": "x"}}, b"")
    assert tell(dialect, "audio-chunk", rate=1) == tell(dialect, "select-program") == []


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["{"], "invalid_json"),
        (['{"type": 1}'], "invalid_type"),
        (['{"type": "synthesize"}'], "no_text"),
        (['{"type": "synthesize", "data": []}'], "invalid_type"),
        (['{"type": "synthesize", "data": {"text": 1}}'], "invalid_type"),
        (
            ['{"type": "synthesize", "data": {"text": "a", "voice": {"name": "x"}}}'],
            "unknown_voice",
        ),
        (['{"type": "synthesize-chunk", "data": {"text": "a"}}'], "unknown_context"),
        (['{"type": "synthesize-stop"}'], "unknown_context"),
        (['{"type": "synthesize-start"}', '{"type": "synthesize-start"}'], "unknown_context"),
    ],
)
def test_what_it_cannot_do_ends_the_connection(messages, code):
    dialect = new_dialect()
    *_, (refuse,) = [dialect.receive(message) for message in messages]
    assert isinstance(refuse, Refuse)
    assert refuse.error.code == code
    ((header, _),) = written(dialect, Problem(refuse.error))
    assert header == {"type": "error", "data": {"text": refuse.error.message, "code": code}}
    assert dialect.close_code(Problem(refuse.error)) == 1008


def test_so_many_may_wait():
    dialect = new_dialect(max_pending_requests=2)
    for _ in range(3):
        tell(dialect, "synthesize", text="a")
    (refuse,) = tell(dialect, "synthesize", text="a")
    assert refuse.error.code == "over_capacity"


def test_a_text_of_nothing_is_told():
    dialect = new_dialect()
    tell(dialect, "synthesize-start")
    assert tell(dialect, "synthesize-stop") == [("1", ""), End("1")]
    ((header, _),) = written(dialect, Problem(NoSpeech("nothing"), "1"))
    assert header["data"]["code"] == "no_speech"
