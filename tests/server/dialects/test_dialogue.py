"""Several voices in one request, at `/` and at `/v1/audio/dialogue`: who says what, when, and what
is wrong with a turn."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import pytest

import decoders
import ears
from servers import (
    SteppedEngine,
    ask,
    collect_stream,
    embedded_engine,
    open_socket,
    receive,
    running_server,
    send,
)
from tts_provider.audio.pcm import from_s16
from tts_provider.server.dialects.openai.http import MEDIA_TYPES
from tts_provider.speech import lexicon

PATH = "/v1/audio/dialogue"
TURNS = [
    {"text": "Two one four.", "speaker": 0},
    {"text": "Nine six.", "voice": "female"},
    {"text": "Three.", "voice": "male"},
]
PAUSE = 24 * 300


@pytest.fixture(name="server")
async def serve():
    async with running_server() as server:
        yield server


@asynccontextmanager
async def client_of(server, **options: Any):
    url = f"http://127.0.0.1:{server.port}"
    async with httpx2.AsyncClient(base_url=url, timeout=60, **options) as client:
        yield client


async def whole(server, **request: Any) -> np.ndarray:
    """The samples of a reply in one message."""
    async with open_socket(server) as socket:
        reply = await ask(socket, **request)
        assert reply["status"] == "success", reply
        return from_s16(decoders.wav_data(await receive(socket)))


async def test_turns_are_their_voices_one_after_the_other(server):
    """To the sample: each turn as if it were alone, and the pause between them."""
    together = await whole(server, turns=TURNS)
    alone = [await whole(server, **turn) for turn in TURNS]
    silence = np.zeros(PAUSE, np.float32)
    expected = np.concatenate([alone[0], silence, alone[1], silence, alone[2]])
    assert np.array_equal(together, expected)
    assert ears.hear_digits(together[: len(alone[0]) + PAUSE // 2]) == ["two", "one", "four"]


async def test_the_voice_changes_where_the_turn_does(server):
    """The pitch before and behind, as near as 20 ms."""
    first = await whole(server, text="Two one four.")
    both = await whole(server, turns=TURNS[:2], pause_ms=0)
    change, near = len(first), 24 * 20
    assert ears.median_pitch_hz(both[: change - near]) < 150
    assert ears.median_pitch_hz(both[change + near :]) > 150
    loud = np.flatnonzero(np.abs(both[change:]) > 0.02)[0]
    assert abs(loud - np.flatnonzero(np.abs(await whole(server, **TURNS[1])) > 0.02)[0]) <= near


async def test_an_interruption_lets_the_next_begin_early():
    """As soon as the last sound is over: without the pause, and without the quiet behind it."""
    turns = [{"text": "Two one four—"}, {"text": "Nine six.", "speaker": 1}]
    async with running_server(embedded_engine()) as server:
        alone = [await whole(server, **turn) for turn in turns]
        together = await whole(server, turns=turns)
        last = await whole(server, turns=turns[:1])  # nobody interrupts it
    behind = len(together) - len(alone[1])
    assert np.array_equal(together[behind:], alone[1])
    assert np.array_equal(together[:behind], alone[0][:behind])
    assert behind < len(alone[0]) - 24 * 50
    assert np.abs(alone[0][behind:]).max() < 0.006  # -45 dB
    assert np.abs(alone[0][behind - 24 * 30 : behind]).max() >= 0.005
    assert np.array_equal(last, alone[0])


async def test_a_pause_is_as_long_as_asked_for(server):
    lengths = [len(await whole(server, turns=TURNS, pause_ms=ms)) for ms in (0, 300, 1000)]
    assert lengths[1] - lengths[0] == 2 * 300 * 24
    assert lengths[2] - lengths[0] == 2 * 1000 * 24


async def test_a_turn_has_settings_of_its_own(server):
    slow = [{**TURNS[0], "speed": 0.5}, TURNS[1]]
    together = await whole(server, turns=slow, pause_ms=0)
    alone = [await whole(server, **turn) for turn in slow]
    assert np.array_equal(together, np.concatenate(alone))
    faster = await whole(server, turns=slow, pause_ms=0, speed=2)
    alone = await whole(server, **{**TURNS[1], "speed": 2})
    assert np.array_equal(faster[-len(alone) :], alone)


async def test_words_say_whose_they_are(server):
    async with open_socket(server) as socket:
        reply = await ask(socket, turns=TURNS, timestamps=True)
        audio = from_s16(decoders.wav_data(await receive(socket)))
        said = [(w["text"], w["turn"], w["voice"], w["from"]) for w in reply["words"]]
        assert said == [
            ("Two", 0, "male", 0),
            ("one", 0, "male", 4),
            ("four.", 0, "male", 8),
            ("Nine", 1, "female", 0),
            ("six.", 1, "female", 5),
            ("Three.", 2, "male", 0),
        ]
        for word in reply["words"]:
            place = slice(24 * word["start_ms"], 24 * word["end_ms"])
            assert (ears.median_pitch_hz(audio[place]) > 150) == (word["voice"] == "female")
        await send(socket, turns=TURNS, timestamps=True, stream=True)
        told, ended = [], False
        while not ended:
            if not isinstance(message := await receive(socket), bytes):
                ended = message["status"] == "success"
                told += [message] if message["status"] == "words" else []
        assert [(event["turn"], event["voice"]) for event in told] == [
            (0, "male"),
            (1, "female"),
            (2, "male"),
        ]
        assert [word for event in told for word in event["words"]] == reply["words"]


async def test_streams_are_the_same_audio_in_every_format(server):
    wanted = await whole(server, turns=TURNS)
    async with open_socket(server) as socket:
        assert (await ask(socket, turns=TURNS, stream=True))["status"] == "streaming"
        pieces, _ = await collect_stream(socket)
        assert np.array_equal(from_s16(b"".join(pieces)), wanted)
    async with client_of(server) as client:
        for audio_format, media_type in MEDIA_TYPES.items():
            body = {"turns": TURNS, "response_format": audio_format}
            reply = await client.post(PATH, json=body)
            assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
            samples, rate, _ = decoders.decode(reply.content, audio_format, 24_000)
            assert ears.hear_digits(samples[: rate * 3 // 2], rate)[:3] == ["two", "one", "four"]
            assert len(samples) / rate == pytest.approx(len(wanted) / 24_000, abs=0.15)


async def test_events_over_http_say_who_speaks(server):
    body = {
        "turns": [{**TURNS[0], "voice": {"id": "nova"}}, {"text": "Six.", "speaker": 0}],
        "stream_format": "sse",
        "response_format": "pcm",
        "timestamp_granularities": ["word"],
    }
    async with client_of(server) as client:
        reply = await client.post(PATH, json=body)
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line]
    audio = b"".join(base64.b64decode(e["audio"]) for e in events if "audio" in e)
    assert ears.median_pitch_hz(from_s16(audio)[:24_000]) > 150
    words = [word for event in events for word in event.get("words", ())]
    assert [(word["word"], word["turn"], word["voice"]) for word in words] == [
        ("Two", 0, "female"),
        ("one", 0, "female"),
        ("four.", 0, "female"),
        ("Six.", 1, "male"),
    ]
    assert events[-1]["usage"]["input_tokens"] == len("Two one four.Six.")


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"turns": []}, "no_text", "turns", ""),
    ({"turns": "Hello"}, "invalid_type", "turns", "turns must be"),
    ({"turns": [TURNS[0], "Hello"]}, "invalid_type", "turns", "turns[1]"),
    ({"turns": [TURNS[0], {"voice": "male"}]}, "no_text", "turns[1].text", "turns[1]"),
    ({"turns": [TURNS[0], {"text": " "}]}, "no_text", "turns[1].text", "turns[1]"),
    ({"turns": [{"text": 5}]}, "invalid_type", "turns[0].text", "turns[0]"),
    ({"turns": [{"text": "a\x07b"}]}, "invalid_text", "turns[0].text", "turns[0]"),
    ({"turns": [*TURNS, {"text": "Hi.", "speaker": 7}]}, "unknown_voice", "turns[3].speaker", ""),
    ({"turns": [*TURNS, {"text": "Hi.", "voice": "siri"}]}, "unknown_voice", "turns[3].voice", ""),
    ({"turns": [{"text": "Hi.", "speed": 9}]}, "invalid_value", "turns[0].speed", "turns[0]"),
    ({"turns": [{"text": "Hi.", "seed": -1}]}, "invalid_value", "turns[0].seed", "turns[0]"),
    ({"turns": [TURNS[0], {"text": "!!"}]}, "no_speech", "turns[1].text", "turns[1]"),
    ({"turns": [TURNS[0], {"text": "<b"}], "ssml": True}, "invalid_ssml", "turns[1].text", ""),
    (
        {"turns": [{"text": "a"}] * 20, "pronunciations": {"a": "word " * 30}},
        "pronunciations_too_long",
        "turns[13].pronunciations",
        "turns[13]",
    ),
    ({"turns": TURNS * 67}, "too_many_turns", "turns", "201"),
    ({"turns": [{"text": "a " * 6000}] * 2}, "text_too_long", "turns", "24000"),
    ({"turns": TURNS, "pause_ms": 5001}, "invalid_value", "pause_ms", "5000"),
    ({"turns": TURNS, "pause_ms": "long"}, "invalid_type", "pause_ms", ""),
]


@pytest.mark.parametrize(("request_", "code", "param", "part"), WRONG)
async def test_what_is_wrong_with_a_turn_is_told_before_anything_is_spoken(
    server, request_, code, param, part
):
    turn = param.partition(".")[0] if "]" in param else ""
    async with client_of(server) as client:
        reply = await client.post(PATH, json=request_)
        error = reply.json()["error"]
        assert error["code"] == code, error
        assert reply.status_code in (400, 422)
        if param != "turns" or "[" not in error["param"]:  # it may know more exactly
            assert error["param"] == param
        assert part in error["message"]
        assert turn in error["message"]
    async with open_socket(server) as socket:
        told = await ask(socket, **request_, stream=True)
        assert (told["status"], told["code"]) == ("error", code), told
        assert part in told["message"]
        assert turn in told["message"]
        assert (await ask(socket, text="Hello."))["status"] == "success"  # it goes on


async def test_a_text_beside_turns_is_refused(server):
    async with open_socket(server) as socket:
        for name, value in (("text", "Hi."), ("voice", "male"), ("speaker", 1)):
            told = await ask(socket, turns=TURNS, **{name: value})
            assert (told["code"], name in told["message"]) == ("invalid_value", True)


async def test_the_audio_s_limits_are_those_of_one_request():
    async with running_server(max_reply_audio_s=3) as server, open_socket(server) as socket:
        told = await ask(socket, turns=TURNS, pause_ms=5000)
        assert (told["code"], "pauses" in told["message"]) == ("speech_too_long", True)
        told = await ask(socket, turns=TURNS * 5, pause_ms=0)
        assert (told["code"], "about 7 s" in told["message"]) == ("speech_too_long", True)
        told = await ask(socket, turns=TURNS * 2, pause_ms=0)  # nobody could know before
        assert told["code"] == "speech_too_long"
        assert told["message"].startswith("turns[")
        cut = await ask(socket, turns=TURNS * 5, max_audio_length_ms=1500)
        assert len(decoders.wav_data(await receive(socket))) == 1500 * 48
        assert cut["status"] == "success"


async def test_the_first_turn_is_heard_while_the_others_wait():
    """Ten turns begin as one does: nothing but the first chunk was made when it leaves."""
    stepped = SteppedEngine()
    async with running_server(stepped) as server, open_socket(server) as socket:
        await send(socket, turns=[{"text": "Two one four."}] * 10, stream=True, request_id="a")
        stepped.allow(1)
        assert (await receive(socket))["status"] == "streaming"
        assert isinstance(await receive(socket), bytes)
        assert stepped.chunks_made == 1
        assert await ask(socket, command="cancel", request_id="a") == {
            "status": "cancelled",
            "request_id": "a",
        }
        stepped.allow()
        assert (await ask(socket, text="Six."))["status"] == "success"
        assert server.service.admission.active == 0


async def test_a_dialogue_that_has_begun_is_spoken_to_its_end_while_the_server_drains():
    stepped = SteppedEngine()
    async with running_server(stepped) as server, open_socket(server) as socket:
        await send(socket, turns=TURNS, stream=True)
        stepped.allow(1)
        assert (await receive(socket))["status"] == "streaming"
        first = await receive(socket)
        server.service.admission.drain()
        stepped.allow()
        pieces, last = await collect_stream(socket)
        assert last["status"] == "success"
        assert len(b"".join([first, *pieces])) == last["length_bytes"]


async def test_dialogues_side_by_side_are_each_their_own(server):
    alone = await whole(server, turns=TURNS)
    others = [{"text": "Seven, eight.", "speaker": 1}, {"text": "Zero.", "speaker": 0}]
    together = await asyncio.gather(
        *(whole(server, turns=others) for _ in range(3)), whole(server, turns=TURNS)
    )
    assert np.array_equal(together[-1], alone)


async def test_they_are_counted_and_logged_as_one_request(server, caplog):
    caplog.set_level("INFO", "tts_provider.server.service.meter")
    await whole(server, turns=TURNS)
    (record,) = [r for r in caplog.records if r.message == "request"]
    assert record.voice == "male, female"
    assert record.characters == sum(len(turn["text"]) for turn in TURNS)


async def test_turns_share_the_index_of_a_lexicon(server, monkeypatch):
    # One takes milliseconds where there are 10 000 entries, and short turns are read on the loop.
    built = []

    class Index(lexicon._Index):
        def __init__(self, words):
            built.append(self)
            super().__init__(words)

    monkeypatch.setattr(lexicon, "_Index", Index)
    turns = [{"text": "Hi.", "speaker": number % 2} for number in range(200)]
    said = {"pronunciations": {"hi": "hello"}, "max_audio_length_ms": 100}
    await whole(server, turns=turns, **said)
    assert len(built) == 1
    tagged = "Hi. [voice:female] Hi. [voice:] " * 20
    await whole(server, text=tagged, voice_tags=True, **said)
    assert len(built) == 2
