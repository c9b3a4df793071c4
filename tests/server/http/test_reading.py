"""How a text is read can be asked for at every endpoint of our own."""

from __future__ import annotations

import json

import httpx2
import pytest
from websockets.asyncio.client import connect

from ears import hear_digits
from servers import running_server
from tts_provider.audio.pcm import from_s16
from tts_provider.speech.engine import SAMPLE_RATE

SSML = 'one <break time="700ms"/> two'


async def speak_over_openai(server, **request) -> bytes:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        body = {"response_format": "pcm", "input": request.pop("text"), **request}
        reply = await client.post("/v1/audio/speech", json=body)
        return reply.content if reply.status_code == 200 else reply.json()["error"]["code"].encode()


async def speak_over_seed(server, **request) -> bytes:
    async with connect(f"ws://127.0.0.1:{server.port}/", max_size=None) as socket:
        await socket.send(json.dumps({"format": "pcm", **request}))
        first = json.loads(await socket.recv())
        return first["code"].encode() if first["status"] == "error" else await socket.recv()


async def speak_in_session(server, **request) -> bytes:
    text, audio = request.pop("text"), b""
    async with connect(f"ws://127.0.0.1:{server.port}/v1/stream") as socket:
        for message in (
            {"type": "session.update", "audio": "binary", **request},
            {"type": "input_text.append", "context_id": "c", "text": text},
            {"type": "input_text.end", "context_id": "c"},
        ):
            await socket.send(json.dumps(message))
        async for message in socket:
            if isinstance(message, bytes):
                audio += message
                continue
            body = json.loads(message)
            if body["type"] == "error":
                return body["code"].encode()
            if body["type"] == "context.done":
                return audio
    raise AssertionError("the connection ended")


WAYS = pytest.mark.parametrize("speak", [speak_over_openai, speak_over_seed, speak_in_session])


@WAYS
async def test_pauses_of_ssml_are_heard(speak):
    async with running_server() as server:
        with_pause = from_s16(await speak(server, text=SSML, ssml=True))
        parts = [from_s16(await speak(server, text=text)) for text in ("one", "two")]
    pause = len(with_pause) - sum(map(len, parts))
    assert pause == SAMPLE_RATE * 700 // 1000
    assert not with_pause[len(parts[0]) : len(parts[0]) + pause].any()
    assert hear_digits(with_pause) == ["one", "two"]


@WAYS
async def test_wrong_ssml_is_refused(speak):
    async with running_server() as server:
        assert await speak(server, text="<b>one</b>", ssml=True) == b"invalid_ssml"
        assert await speak(server, text="<b>one</b>") == await speak(server, text="one")


@WAYS
async def test_pronunciations_and_what_is_read_aloud(speak):
    async with running_server() as server:
        plain = await speak(server, text="two three")
        said = {"zwei": "two"}
        assert await speak(server, text="zwei three [1]", pronunciations=said) == plain
        aloud = await speak(server, text="zwei [3]", pronunciations=said, read_aloud=["citations"])
        assert aloud == await speak(server, text="two [3]", read_aloud=["citations"])
        assert len(aloud) > len(await speak(server, text="two [3]"))


@WAYS
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"ssml": "yes"}, b"invalid_type"),
        ({"read_aloud": ["music"]}, b"invalid_value"),
        ({"pronunciations": {"a": 5}}, b"invalid_type"),
        ({"pronunciations": {"a": ""}}, b"invalid_pronunciation"),
    ],
)
async def test_wrong_wishes_are_refused(speak, wrong, code):
    async with running_server() as server:
        assert await speak(server, text="one", **wrong) == code


async def test_a_session_tells_what_was_asked_for_and_takes_it_back():
    async with running_server() as server:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/stream") as socket:

            async def update(**settings):
                await socket.send(json.dumps({"type": "session.update", **settings}))
                while (body := json.loads(await socket.recv()))["type"] != "session.updated":
                    pass
                return body

            assert "ssml" not in await update(speed=1.0)
            asked = {"ssml": True, "read_aloud": ["code"], "pronunciations": {"a": "b"}}
            assert asked.items() <= (await update(**asked)).items()
            assert asked.items() <= (await update(speed=1.5)).items()
            assert "ssml" not in await update(ssml=False)


async def test_a_context_that_begins_with_wrong_ssml_does_not_begin():
    async with running_server() as server:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/stream") as socket:
            for message in (
                {"type": "session.update", "ssml": True},
                {"type": "input_text.append", "context_id": "c", "text": "<b>"},
                {"type": "input_text.append", "context_id": "c", "text": "<p>one</p>"},
                {"type": "input_text.end", "context_id": "c"},
            ):
                await socket.send(json.dumps(message))
            kinds = []
            while (body := json.loads(await socket.recv()))["type"] != "context.done":
                kinds.append(body["type"])
    assert kinds.count("error") == 1
    assert "audio.segment" in kinds


async def test_the_servers_dictionary(tmp_path):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("zwei = two\n[female]\nzwei = three\n", "utf-8")
    async with running_server(lexicon=lexicon) as server:
        heard = {
            voice: hear_digits(from_s16(await speak_over_openai(server, text="zwei", voice=voice)))
            for voice in ("male", "female")
        }
    assert heard == {"male": ["two"], "female": ["three"]}


async def words_of(server, body: object) -> tuple[int, dict]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        reply = await client.post("/v1/audio/words", json=body)
        return reply.status_code, reply.json()


@pytest.mark.parametrize(
    ("fields", "segments"),
    [
        ({"input": "# $5\n* `1/2`"}, ["five dollars", "one half"]),
        ({"input": "Say sql.", "pronunciations": {"sql": "sequel"}}, ["Say sequel."]),
        ({"input": SSML, "ssml": True}, ["one", "two"]),
        ({"input": "As said [1].", "read_aloud": ["citations"]}, ["As said, one."]),
        ({"input": "![](https://x.org)"}, []),
        ({"input": "zwei 2", "voice": "female"}, ["three two"]),
    ],
)
async def test_a_text_as_it_would_be_spoken(tmp_path, fields, segments):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("[female]\nzwei = three\n", "utf-8")
    async with running_server(lexicon=lexicon) as server:
        status, body = await words_of(server, fields)
    assert status == 200
    assert body == {"segments": segments}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "no_text", "input"),
        ({"input": "a" * 20_001}, "text_too_long", "input"),
        ({"input": "<b>", "ssml": True}, "invalid_ssml", "input"),
        ({"input": "a", "voice": "nobody"}, "unknown_voice", "voice"),
        ({"input": "a", "pronunciations": {"a": "1"}}, "invalid_pronunciation", "pronunciations"),
        ({"input": "a", "read_aloud": ["all"]}, "invalid_value", "read_aloud"),
        ([], "invalid_type", None),
    ],
)
async def test_what_cannot_be_read_is_said(body, code, param):
    async with running_server() as server:
        status, reply = await words_of(server, body)
    assert (status, reply["error"]["code"], reply["error"]["param"]) == (400, code, param)


async def test_words_need_the_key():
    async with running_server(api_keys=["k"]) as server:
        status, reply = await words_of(server, {"input": "a"})
    assert (status, reply["error"]["code"]) == (401, "unauthorized")
