"""ElevenLabs' API over real sockets: keys, formats, errors, voices, and how words are written."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import decoders
import ears
from servers import running_server
from tts_provider.audio.pcm import from_s16
from tts_provider.server.dialects.elevenlabs.dialogue import Characters
from tts_provider.server.dialects.elevenlabs.http import _Lines, _OneObject
from tts_provider.server.http.speech_file import worded
from tts_provider.server.service.pieces import Piece
from tts_provider.speech.pipeline import Segment
from written import word_at

from .messages import hear, tell

DIGITS = ["two", "one", "four"]
TEXT = "two one four"
SPEECH = "/v1/text-to-speech"


def open_socket(server, way: str, voice: str = "male", **options: Any) -> connect:
    query = "&".join(f"{name}={value}" for name, value in options.pop("query", {}).items())
    url = f"ws://127.0.0.1:{server.port}{SPEECH}/{voice}/{way}?{query}"
    return connect(url, compression=None, max_size=None, **options)


async def hear_until_final(socket) -> list[dict[str, Any]]:
    heard = [await hear(socket)]
    while not heard[-1].get("isFinal"):
        heard.append(await hear(socket))
    return heard


def audio_of(messages: list[dict[str, Any]], context_id: str | None = None) -> bytes:
    return b"".join(
        base64.b64decode(message["audio"])
        for message in messages
        if message["audio"] and message.get("contextId") == context_id
    )


def client_of(server, key: str | None = "any") -> httpx2.AsyncClient:
    headers = {} if key is None else {"xi-api-key": key}
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers)


@pytest.mark.parametrize(
    ("output_format", "name", "rate"),
    [
        ("mp3_44100_128", "mp3", 44_100),
        ("mp3_22050_32", "mp3", 22_050),
        ("opus_48000_32", "opus", 48_000),
        ("ulaw_8000", "mulaw", 8000),
        ("alaw_8000", "alaw", 8000),
        ("pcm_16000", "pcm", 16_000),
    ],
)
async def test_one_text_in_any_format(output_format, name, rate):
    """In several segments: what is joined is one file."""
    async with running_server() as server:
        query = {"output_format": output_format}
        async with open_socket(server, "stream-input", query=query) as socket:
            await tell(socket, {"text": " "}, {"text": "Two one. "}, {"text": "Four. "})
            await tell(socket, {"text": "Nine. "}, {"text": "One. "}, {"text": ""})
            heard = await hear_until_final(socket)
            with pytest.raises(ConnectionClosed) as caught:
                await hear(socket)
            assert caught.value.rcvd.code == 1000
    samples, found_rate, _ = decoders.decode(audio_of(heard), name, rate)
    assert found_rate == rate
    assert ears.hear_digits(samples, rate) == ["two", "one", "four", "nine", "one"]


async def test_a_stream_of_mp3_has_no_gaps():
    """Each segment's end would have 50 ms of the encoder's own, were it encoded by itself."""
    text = {"text": "Two one. Four nine. Six. One. "}
    lengths_s = []
    async with running_server() as server:
        for output_format, name in (("pcm_24000", "pcm"), ("mp3_24000_64", "mp3")):
            query = {"output_format": output_format}
            async with open_socket(server, "stream-input", query=query) as socket:
                await tell(socket, text, {"text": ""})
                data = audio_of(await hear_until_final(socket))
            samples, rate, _ = decoders.decode(data, name, 24_000)
            lengths_s.append(len(samples) / rate)
    assert lengths_s[0] <= lengths_s[1] < lengths_s[0] + 0.15


@pytest.mark.parametrize("way", ["stream-input", "multi-stream-input"])
async def test_whole_phrases_end_words_only_in_auto_mode(way):
    """A client that sends sentences, each without a space behind it."""
    heard = {}
    async with running_server() as server:
        for auto_mode in ("true", "false"):
            query = {"output_format": "pcm_24000", "auto_mode": auto_mode}
            async with open_socket(server, way, query=query) as socket:
                await tell(socket, {"text": "Two one four."}, {"text": "Nine, six."})
                end = {"close_context": True} if way == "multi-stream-input" else {"text": ""}
                await tell(socket, end)
                told = await hear_until_final(socket)
            spelled = [message["alignment"]["chars"] for message in told if message["alignment"]]
            heard[auto_mode] = "".join(character for chars in spelled for character in chars)
    assert heard["true"].split() == ["Two", "one", "four.", "Nine,", "six."]
    assert heard["false"].split() == ["Two", "one", "four.Nine,", "six."]


async def test_contexts_side_by_side():
    async with running_server() as server:
        query = {"output_format": "pcm_24000"}
        async with open_socket(server, "multi-stream-input", query=query) as socket:
            for name, text in (("a", "Two one four."), ("b", "Nine six.")):
                await tell(socket, {"text": " ", "context_id": name})
                await tell(socket, {"text": text, "context_id": name, "flush": True})
            await tell(socket, *({"context_id": name, "close_context": True} for name in "ab"))
            heard = await hear_until_final(socket) + await hear_until_final(socket)
            await tell(socket, {"close_socket": True})
            with pytest.raises(ConnectionClosed) as caught:
                await hear(socket)
            assert caught.value.rcvd.code == 1000
    assert ears.hear_digits(from_s16(audio_of(heard, "a"))) == DIGITS
    assert ears.hear_digits(from_s16(audio_of(heard, "b"))) == ["nine", "six"]


async def test_one_context_too_many_is_refused_and_the_others_go_on():
    async with running_server(max_contexts=1) as server:
        query = {"output_format": "pcm_24000"}
        async with open_socket(server, "multi-stream-input", query=query) as socket:
            await tell(
                socket, {"text": "Two ", "context_id": "a"}, {"text": "x", "context_id": "b"}
            )
            refusal = await hear(socket)
            assert (refusal["error"], refusal["contextId"]) == ("too_many_contexts", "b")
            await tell(socket, {"context_id": "b", "close_context": True})
            await tell(socket, {"context_id": "a", "close_context": True})
            assert ears.hear_digits(from_s16(audio_of(await hear_until_final(socket), "a")))
            await tell(socket, {"text": "More", "context_id": "a"})
            assert (await hear(socket))["error"] == "context_finished"


@pytest.mark.parametrize("way", ["stream-input", "multi-stream-input"])
@pytest.mark.parametrize("key", [{"xi-api-key": "k"}, {"authorization": "Bearer k"}])
async def test_the_key_comes_with_the_first_message(way, key):
    async with running_server(api_keys="k") as server, open_socket(server, way) as socket:
        await tell(socket, {"text": " ", **key}, {"text": "Two. ", "flush": True})
        assert (await hear(socket))["audio"]


@pytest.mark.parametrize("way", ["stream-input", "multi-stream-input"])
@pytest.mark.parametrize("message", [{"text": " "}, {"text": " ", "xi-api-key": "no"}])
async def test_who_has_no_key_is_told_and_sent_away(way, message):
    async with running_server(api_keys="k") as server, open_socket(server, way) as socket:
        await tell(socket, message)
        assert (await hear(socket))["error"] == "invalid_api_key"
        with pytest.raises(ConnectionClosed) as caught:
            await hear(socket)
        assert caught.value.rcvd.code == 1008
        metrics = server.service.metrics.render().decode()
        assert 'tts_errors_total{code="unauthorized"} 1.0' in metrics


@pytest.mark.parametrize("key", [None, "k"])
async def test_who_says_nothing_is_sent_away(key):
    headers = {} if key is None else {"xi-api-key": key}
    limits = {"handshake_timeout_s": 0.3, "idle_timeout_s": 0.1 if key else 300.0}
    async with running_server(api_keys="k", **limits) as server:
        async with open_socket(server, "stream-input", additional_headers=headers) as socket:
            with pytest.raises(ConnectionClosed) as caught:
                await hear(socket)
            assert caught.value.rcvd.code == 1000


@pytest.mark.parametrize(
    ("voice", "query", "key", "status", "code"),
    [
        ("nobody", {}, "k", 400, "voice_not_found"),
        ("male", {"output_format": "wav_24000"}, "k", 400, "invalid_value"),
        ("male", {}, "no", 401, "invalid_api_key"),
    ],
)
async def test_an_address_that_cannot_be_served(voice, query, key, status, code):
    async with running_server(api_keys="k") as server:
        headers = {"xi-api-key": key}
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(
                server, "stream-input", voice, query=query, additional_headers=headers
            ):
                pass
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body)["detail"]["status"] == code


@pytest.mark.parametrize("path", ["", "/stream"])
@pytest.mark.parametrize(
    ("output_format", "name", "rate", "media_type"),
    [
        ("mp3_22050_32", "mp3", 22_050, "audio/mpeg"),
        ("pcm_24000", "pcm", 24_000, "audio/pcm"),
        ("opus_48000_64", "opus", 48_000, "audio/ogg"),
        ("ULAW_8000", "mulaw", 8000, "audio/basic"),
        ("wav_44100", "wav", 44_100, "audio/wav"),
    ],
)
async def test_a_text_over_http(path, output_format, name, rate, media_type):
    async with running_server() as server, client_of(server) as client:
        reply = await client.post(
            f"{SPEECH}/Female{path}",
            params={"output_format": output_format},
            json={"text": TEXT, "voice_settings": {"speed": "0.9", "stability": 0.5}, "seed": 1},
        )
        assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
        samples, _, _ = decoders.decode(reply.content, name, rate)
        assert ears.hear_digits(samples, rate) == DIGITS
        assert ears.median_pitch_hz(samples, rate) > 150


async def test_a_break_is_a_silence_on_every_way():
    async with running_server() as server, client_of(server) as client:
        sizes = []
        for text in ("Two. One, four.", 'Two. <break time="1.5s" /> One, four.'):
            query = {"output_format": "pcm_24000"}
            reply = await client.post(f"{SPEECH}/male", params=query, json={"text": text})
            async with open_socket(server, "stream-input", query=query) as socket:
                await tell(socket, *({"text": letter} for letter in text), {"text": ""})
                assert len(audio_of(await hear_until_final(socket))) == len(reply.content)
            sizes.append(len(reply.content))
        assert sizes[1] - sizes[0] == 2 * 24_000 * 3 // 2


async def test_bits_are_what_was_asked_for():
    async with running_server() as server, client_of(server) as client:
        sizes = []
        for kbits in (32, 128):
            query = {"output_format": f"mp3_44100_{kbits}"}
            reply = await client.post(f"{SPEECH}/male", params=query, json={"text": TEXT * 5})
            sizes.append(len(reply.content))
        assert 3 < sizes[1] / sizes[0] < 5


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (f"{SPEECH}/nobody", {"text": "a"}, 404, "voice_not_found"),
        (f"{SPEECH}/male", {}, 400, "no_text"),
        (f"{SPEECH}/male", {"text": "!!"}, 422, "no_speech"),
        (f"{SPEECH}/male", {"text": "a" * 20_001}, 400, "max_character_limit_exceeded"),
        (f"{SPEECH}/male", {"text": "a", "seed": -1}, 400, "invalid_value"),
        (f"{SPEECH}/male", {"text": "a", "voice_settings": {"speed": 9}}, 400, "invalid_value"),
        (f"{SPEECH}/male", {"text": "a", "voice_settings": 1}, 400, "invalid_type"),
        (f"{SPEECH}/male?output_format=x", {"text": "a"}, 400, "invalid_value"),
        (f"{SPEECH}/male/nothing", {"text": "a"}, 404, "not_found"),
    ],
)
async def test_what_is_wrong_over_http(path, body, status, code):
    async with running_server() as server, client_of(server) as client:
        reply = await client.post(path, json=body)
        assert (reply.status_code, reply.json()["detail"]["code"]) == (status, code)


DIALOGUE = "/v1/text-to-dialogue"
RACHEL, ADAM = "21m00Tcm4TlvDq8ikWAM", "pNInz6obpgDQGcFmaJgB"
INPUTS = [
    {"text": "Two one four.", "voice_id": RACHEL},
    {"text": "Nine, six.", "voice_id": ADAM},
    {"text": "Three", "voice_id": RACHEL},
]


async def test_a_dialogue_in_its_voices():
    query = "?output_format=pcm_24000"
    async with running_server() as server, client_of(server) as client:
        body = {"inputs": INPUTS, "settings": {"stability": 0.5}, "model_id": "eleven_v3"}
        audio = (await client.post(f"{DIALOGUE}{query}", json=body)).content
        assert (await client.post(f"{DIALOGUE}/stream{query}", json=body)).content == audio
        told = (await client.post(f"{DIALOGUE}/with-timestamps{query}", json=body)).json()
        lines = await client.post(f"{DIALOGUE}/stream/with-timestamps{query}", json=body)
    assert base64.b64decode(told["audio_base64"]) == audio
    characters = told["alignment"]["characters"]
    said = [
        (
            "".join(characters[part["character_start_index"] : part["character_end_index"]]),
            part["voice_id"],
            part["dialogue_input_index"],
        )
        for part in told["voice_segments"]
    ]
    assert said == [(each["text"], each["voice_id"], n) for n, each in enumerate(INPUTS)]
    samples = from_s16(audio)
    for part in told["voice_segments"]:
        place = slice(*(int(24_000 * part[f"{end}_time_seconds"]) for end in ("start", "end")))
        is_woman = part["voice_id"] == RACHEL
        assert (ears.median_pitch_hz(samples[place]) > 150) == is_woman
    bodies = [json.loads(line) for line in lines.text.splitlines()]
    assert b"".join(base64.b64decode(each["audio_base64"]) for each in bodies) == audio
    streamed = [part for each in bodies for part in each["voice_segments"]]
    times = ("voice_id", "start_time_seconds", "end_time_seconds", "dialogue_input_index")
    assert [[part[name] for name in times] for part in streamed] == [
        [part[name] for name in times] for part in told["voice_segments"]
    ]
    spelled = [each["alignment"]["characters"] for each in bodies if each["alignment"]]
    assert ["".join(each) for each in spelled] == [each["text"] for each in INPUTS]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 400, "no_text", "inputs"),
        ({"inputs": []}, 400, "no_text", "inputs"),
        ({"inputs": [*INPUTS, {"voice_id": ADAM}]}, 400, "no_text", "inputs[3].text"),
        ({"inputs": [{"text": "Hi."}]}, 400, "invalid_value", "inputs[0].voice_id"),
        (
            {"inputs": [*INPUTS, {"text": "Hi.", "voice_id": "nobody"}]},
            404,
            "voice_not_found",
            "inputs[3].voice_id",
        ),
        ({"inputs": INPUTS * 67}, 400, "too_many_turns", "inputs"),
        (
            {"inputs": [{"text": "a " * 6000, "voice_id": ADAM}] * 2},
            400,
            "max_character_limit_exceeded",
            "inputs",
        ),
        ({"inputs": [{"text": "!", "voice_id": ADAM}]}, 422, "no_speech", "inputs[0].text"),
    ],
)
async def test_what_is_wrong_with_a_dialogue(body, status, code, param):
    async with running_server() as server, client_of(server) as client:
        for way in ("", "/stream", "/with-timestamps", "/stream/with-timestamps"):
            reply = await client.post(f"{DIALOGUE}{way}", json=body)
            detail = reply.json()["detail"]
            assert (reply.status_code, detail["code"], detail["param"]) == (status, code, param)


async def test_voices():
    async with running_server() as server, client_of(server) as client:
        every = (await client.get("/v1/voices")).json()["voices"]
        assert [voice["voice_id"] for voice in every[:2]] == ["male", "female"]
        languages = {voice["voice_id"]: voice["labels"]["language"] for voice in every}
        assert (languages["female"], languages["espeak:de"]) == ("en", "de")
        page = (await client.get("/v2/voices?page_size=100")).json()
        assert (page["has_more"], page["total_count"]) == (True, len(every))
        token = page["next_page_token"]
        page = (await client.get(f"/v2/voices?page_size=100&next_page_token={token}")).json()
        assert page["voices"] == every[100:]
        assert (page["has_more"], page["next_page_token"]) == (False, None)
        assert (await client.get("/v2/voices?page_size=x")).status_code == 400
        assert (await client.get("/v1/voices/21m00Tcm4TlvDq8ikWAM")).json() == every[1]
        assert (await client.get("/v1/voices/nobody")).status_code == 404


async def test_models_are_whose_header_asks():
    async with running_server() as server:
        async with client_of(server) as client:
            (model,) = (await client.get("/v1/models")).json()
            assert (model["model_id"], model["can_do_text_to_speech"]) == ("espeak-ng", True)
            assert (await client.get("/v1/models/espeak-ng")).json()["object"] == "model"
        async with client_of(server, None) as client:
            assert (await client.get("/v1/models")).json()["object"] == "list"


async def test_errors_before_the_route_are_in_its_shape_too():
    async with running_server(api_keys="k") as server, client_of(server, "no") as client:
        for path in ("/v1/models", "/v1/voices", "/v2/voices", "/v1/user/subscription"):
            reply = await client.get(path)
            assert (reply.status_code, reply.json()["detail"]["code"]) == (401, "invalid_api_key")
        assert (await client.get("/v1/audio/models")).json()["error"]["code"] == "unauthorized"


async def speech():
    yield Piece(b"\1\2", 0, 2400)
    yield Segment("Hi", 0, 2400, (word_at("Hi", 0, 100, 0, 2),))
    yield Piece(b"\3\4", 2400, 4800)
    yield Piece(b"\5\6\7", 4800, 9600)
    yield Segment("you.", 2400, 9600, (word_at("you.", 200, 400, 3, 7),))


async def test_characters_of_words_with_times_from_the_beginning():
    body = b"".join([piece.data async for piece in worded(speech(), _OneObject(Characters()))])
    whole = json.loads(body)
    assert base64.b64decode(whole["audio_base64"]) == b"\1\2\3\4\5\6\7"
    assert "".join(whole["alignment"]["characters"]) == "Hi you."
    starts = [0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.35]
    assert whole["alignment"]["character_start_times_seconds"] == starts
    assert whole["normalized_alignment"] == whole["alignment"]
    lines = [json.loads(piece.data) async for piece in worded(speech(), _Lines(Characters()))]
    assert [line["alignment"] and line["alignment"]["characters"] for line in lines] == [
        None,
        ["H", "i"],
        None,
        None,
        [" ", "y", "o", "u", "."],
    ]
    assert lines[4]["alignment"]["character_end_times_seconds"] == [0.2, *starts[4:], 0.4]
    assert b"".join(base64.b64decode(line["audio_base64"]) for line in lines) == bytes(range(1, 8))


async def test_nothing_but_audio_without_words():
    async def silent():
        yield Piece(b"\1", 0, 2400)

    whole = json.loads(
        b"".join([piece.data async for piece in worded(silent(), _OneObject(Characters()))])
    )
    assert whole == {"audio_base64": "AQ==", "alignment": None, "normalized_alignment": None}
