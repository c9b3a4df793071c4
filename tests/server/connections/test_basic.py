"""The basic endpoint over real sockets, with the real embedded voice."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

import decoders
import ears
from recordings import wav
from servers import (
    SteppedEngine,
    ask,
    collect_stream,
    open_socket,
    receive,
    running_server,
    send,
)
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.speech.engine import Spoken

LONG_TEXT = "This is a sentence of a long text. " * 500


async def speak(socket, **request) -> tuple[dict, bytes]:
    return await ask(socket, **request), await receive(socket)


async def test_the_readmes_request_gives_five_keys_and_one_wav():
    async with running_server() as server, open_socket(server) as socket:
        reply, wav = await speak(socket, text="one two three", speaker=0)
        assert reply == {
            "status": "success",
            "message": "Audio generated successfully",
            "format": "wav",
            "sample_rate": 24_000,
            "length_bytes": len(wav),
        }
        samples, rate = ears.read_wav(wav)
        assert rate == 24_000
        assert ears.hear_digits(samples) == ["one", "two", "three"]


async def test_the_old_clients_day():
    """Probe, ping, leave; then connect, send, accept one `loading`, then `success`, then one
    binary message of at most 10 MiB."""
    from servers import GatedEngine

    engine = GatedEngine()
    async with running_server(engine) as server:
        async with open_socket(server, max_size=10 * 2**20) as probe:
            await (await probe.ping())
        async with open_socket(server, max_size=10 * 2**20, ping_interval=None) as socket:
            await send(socket, text="Hello there, old friend.", speaker=0, response_mode="stream")
            assert (await receive(socket))["status"] == "loading"
            engine.gate.set_result(None)
            assert (await receive(socket))["status"] == "success"
            assert isinstance(await receive(socket), bytes)


async def test_speakers_and_voices():
    async with running_server() as server, open_socket(server) as socket:
        text = "The weather is fine today."
        _, male = await speak(socket, text=text)
        _, female = await speak(socket, text=text, speaker=1)
        assert ears.median_pitch_hz(ears.read_wav(male)[0]) < 140
        assert ears.median_pitch_hz(ears.read_wav(female)[0]) > 175
        assert (await speak(socket, text=text, voice="female", speaker=0))[1] == female
        unknown = await ask(socket, text=text, voice="siri")
        assert unknown["code"] == "unknown_voice"
        assert "male, female" in unknown["message"]
        unknown = await ask(socket, text=text, speaker=7)
        assert "0 (male), 1 (female)" in unknown["message"]


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
async def test_every_sample_rate_is_really_resampled(rate):
    async with running_server() as server, open_socket(server) as socket:
        _, base = await speak(socket, text="one two three")
        reply, wav = await speak(socket, text="one two three", sample_rate=rate)
        samples, read_rate = ears.read_wav(wav)
        assert reply["sample_rate"] == read_rate == rate
        assert len(samples) / rate == pytest.approx(len(ears.read_wav(base)[0]) / 24_000, abs=0.001)
        assert ears.hear_digits(samples, rate) == ["one", "two", "three"]


@pytest.mark.parametrize("audio_format", ["pcm", "wav"])
async def test_a_stream_is_the_same_audio_in_pieces(audio_format):
    async with running_server() as server, open_socket(server) as socket:
        text = "Good morning. This is a stream, spoken as it is made."
        _, whole = await speak(socket, text=text, format=audio_format)
        first = await ask(socket, text=text, stream=True, format=audio_format, request_id="s")
        assert first == {
            "status": "streaming",
            "format": audio_format,
            "sample_rate": 24_000,
            "request_id": "s",
        }
        pieces, last = await collect_stream(socket)
        assert last["status"] == "success"
        assert last["length_bytes"] == sum(map(len, pieces))
        streamed = b"".join(pieces)
        if audio_format == "wav":
            streamed, whole = decoders.wav_data(streamed), decoders.wav_data(whole)
        assert streamed == whole
        assert last["duration_ms"] == len(whole) // 48
        assert all(80 <= len(piece) / 48 <= 500 for piece in pieces[:-1])


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "flac", "aac", "mulaw", "alaw"])
async def test_every_format_as_one_message_and_as_a_stream(audio_format):
    async with running_server() as server, open_socket(server) as socket:
        request = {"text": "one two three", "format": audio_format, "sample_rate": 16_000}
        reply, whole = await speak(socket, **request)
        assert (reply["format"], reply["length_bytes"]) == (audio_format, len(whole))
        samples, rate, _ = decoders.decode(whole, audio_format, 16_000)
        assert ears.hear_digits(samples, rate) == ["one", "two", "three"]
        await ask(socket, **request, stream=True)
        pieces, last = await collect_stream(socket)
        assert len(pieces) > 2
        assert (last["format"], last["length_bytes"]) == (audio_format, sum(map(len, pieces)))
        streamed, _, _ = decoders.decode(b"".join(pieces), audio_format, 16_000)
        assert len(streamed) / rate == pytest.approx(last["duration_ms"] / 1000, abs=0.13)
        assert ears.hear_digits(streamed, rate) == ["one", "two", "three"]


async def test_the_audio_limit_and_the_same_seed():
    async with running_server() as server, open_socket(server) as socket:
        options = {"text": LONG_TEXT[:200], "max_audio_length_ms": 1500, "seed": 7}
        _, first = await speak(socket, **options)
        _, second = await speak(socket, **options, temperature=0.9, top_k=50)
        assert first == second
        assert len(ears.read_wav(first)[0]) == 1.5 * 24_000


async def test_every_refusal_keeps_the_connection():
    async with running_server() as server, open_socket(server) as socket:
        for message, code in [
            ("nonsense", "invalid_json"),
            ("[1]", "invalid_type"),
            ('{"text": "  "}', "no_text"),
            ('{"text": 1}', "invalid_type"),
            ('{"text": "a", "format": "opus", "sample_rate": 44100}', "invalid_value"),
            ('{"text": "\\ud800"}', "invalid_text"),
            ('{"text": "a\\u0000"}', "invalid_text"),
            ('{"text": "..."}', "no_speech"),
            (json.dumps({"text": "x" * 20_001}), "text_too_long"),
        ]:
            await socket.send(message)
            assert (await receive(socket))["code"] == code
        assert (await speak(socket, text="Still here."))[0]["status"] == "success"


@pytest.mark.parametrize("is_escaped", [True, False])
@pytest.mark.parametrize("character", ["😀", "я"])
async def test_twenty_thousand_characters_of_any_script_are_spoken(character, is_escaped):
    text = "Hi. " + character * 19_996
    async with running_server() as server, open_socket(server) as socket:
        await socket.send(json.dumps({"text": text, "stream": True}, ensure_ascii=is_escaped))
        assert (await receive(socket))["status"] == "streaming"
        assert len(await receive(socket)) > 0
        socket.transport.abort()  # a goodbye would wait 10 s behind what was not read


async def test_more_than_any_text_needs_is_too_big():
    async with running_server() as server, open_socket(server) as socket:
        await socket.send(json.dumps({"text": "Hi.", "more": "x" * 310_000}))
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1009


async def test_the_servers_own_recording_is_taken_as_context():
    """Nine seconds of WAV in base64 are more than any text needs."""
    audio = base64.b64encode(wav(np.zeros(9 * 24_000, np.float32))).decode()
    async with running_server() as server, open_socket(server) as socket:
        context = [{"speaker": 1, "text": "Before.", "audio": audio}]
        reply = await ask(socket, text="Now.", context=context)
        assert reply["code"] == "context_needs_csm"
        assert (await ask(socket, text="Still here."))["status"] == "success"


class Listening(EspeakEngine):
    """The embedded voice; it listens as CSM does."""

    takes_prompts = True

    def __init__(self) -> None:
        self.heard: list[int] = []

    async def listen(self, text, speaker, samples):
        self.heard.append(len(samples))
        return Spoken(text, speaker, np.zeros((-(-len(samples) // 1920), 32), np.int64))


def said(seconds: float, rate: int = 24_000) -> dict:
    audio = base64.b64encode(wav(np.zeros(int(seconds * rate), np.float32), rate=rate)).decode()
    return {"speaker": 1, "text": "Before.", "audio": audio}


@pytest.mark.parametrize(
    "recordings",
    [[(3.75,)] * 16, [(60, 48_000)], [(59,), (1,)]],
    ids=["sixteen", "one of 7.7 MB", "two"],
)
async def test_a_minute_of_context_is_heard(recordings):
    engine, context = Listening(), [said(*recording) for recording in recordings]
    async with running_server(engine) as server, open_socket(server) as socket:
        reply = await ask(socket, text="Now.", context=context)
        assert reply["status"] == "success", reply
        assert len(engine.heard) == len(context)
        assert sum(engine.heard) == pytest.approx(60 * 24_000, abs=100)


async def test_more_than_a_minute_of_context_is_one_sentence():
    async with running_server(Listening()) as server, open_socket(server) as socket:
        for context in ([said(30), said(31)], [said(61)]):
            reply = await ask(socket, text="Now.", context=context)
            assert (reply["code"], reply["message"]) == (
                "audio_too_long",
                "context may have 60 s of audio, all recordings together; this has more",
            )
        assert (await ask(socket, text="Still here."))["status"] == "success"


async def test_speech_that_turns_out_too_long_says_so():
    """Short sentences take longer than their letters: nobody could know before."""
    async with running_server(max_reply_audio_s=4) as server, open_socket(server) as socket:
        text = "Two one four. " * 7
        for stream in (False, True):
            await send(socket, text=text, stream=stream)
            while isinstance(reply := await receive(socket), bytes) or reply["status"] != "error":
                assert stream
            assert reply["code"] == "speech_too_long"
            assert "longer than 4 s" in reply["message"]
        metrics = server.service.metrics.render().decode()
        assert 'tts_requests_total{endpoint="basic",outcome="speech_too_long"} 2.0' in metrics


async def test_binary_closes_with_1003():
    async with running_server() as server, open_socket(server) as socket:
        await socket.send(b"\x00")
        assert (await receive(socket))["code"] == "binary_not_expected"
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1003


async def test_answers_come_in_the_order_of_requests():
    async with running_server() as server, open_socket(server) as socket:
        await send(socket, text=LONG_TEXT[:1000], request_id="long")
        await send(socket, text="", request_id="bad")
        await send(socket, command="info", request_id="info")
        await send(socket, text="Hi.", request_id="short")
        order = []
        for _ in range(6):
            message = await receive(socket)
            order.append("audio" if isinstance(message, bytes) else message["request_id"])
        assert order == ["long", "audio", "bad", "info", "short", "audio"]


async def test_info_tells_what_this_server_is():
    async with running_server(max_streams=5) as server, open_socket(server) as socket:
        info = await ask(socket, command="info")
        assert (info["engine"], info["device"], info["sample_rate"]) == ("espeak", "cpu", 24_000)
        assert [voice["id"] for voice in info["voices"]][:2] == ["male", "female"]
        assert [v["speaker"] for v in info["voices"][:3]] == [0, 1, None]
        assert info["limits"]["max_streams"] == 5
        assert info["queue"] == {"active": 0, "queued": 0}
        # What clients of earlier versions read.
        assert info["status"] == "success"
        assert info["server_version"] == info["version"]
        assert info["current_model"]["ready"] is info["model_loaded"] is True
        assert info["queue_size"] == 0


async def test_cancel_of_a_stream_no_audio_follows():
    engine = SteppedEngine()
    async with running_server(engine) as server, open_socket(server) as socket:
        await send(socket, text=LONG_TEXT, stream=True, request_id="c")
        engine.allow(5)
        assert (await receive(socket))["status"] == "streaming"
        assert isinstance(await receive(socket), bytes)
        await send(socket, command="cancel", request_id="c")
        _, status = await collect_stream(socket)
        assert status == {"status": "cancelled", "request_id": "c"}
        assert (await ask(socket, command="info"))["queue"]["active"] == 0
        engine.allow()
        assert (await speak(socket, text="Next."))[0]["status"] == "success"


async def test_cancel_of_a_whole_reply_a_waiting_request_and_a_finished_one():
    engine = SteppedEngine()
    async with running_server(engine) as server, open_socket(server) as socket:
        await send(socket, text=LONG_TEXT, request_id="speaking")
        await send(socket, text="Never said.", request_id="waiting")
        await send(socket, command="cancel", request_id="waiting")
        assert await receive(socket) == {"status": "cancelled", "request_id": "waiting"}
        await send(socket, command="cancel", request_id="speaking")
        assert await receive(socket) == {"status": "cancelled", "request_id": "speaking"}
        reply = await ask(socket, command="cancel", request_id="speaking")
        assert (reply["code"], reply["request_id"]) == ("unknown_request", "speaking")


async def test_a_failing_engine_is_an_error_for_its_request_only(caplog):
    class Broken(SteppedEngine):
        async def speak(self, utterance):
            if "fail" in utterance.text:
                raise RuntimeError("wires crossed")
            async for chunk in super().speak(utterance):
                yield chunk

    engine = Broken()
    engine.allow()
    async with running_server(engine) as server, open_socket(server) as socket:
        reply = await ask(socket, text="Please fail.", request_id="f")
        assert (reply["code"], reply["request_id"]) == ("internal_error", "f")
        assert "wires" not in reply["message"]
        assert (await speak(socket, text="Works."))[0]["status"] == "success"
    assert "wires crossed" in caplog.text


async def test_over_capacity_says_when_to_come_back_and_closes_with_1013():
    engine = SteppedEngine()
    async with running_server(engine, max_streams=1, max_queued_requests=1) as server:
        async with open_socket(server) as first, open_socket(server) as second:
            await send(first, text=LONG_TEXT, stream=True, request_id="long")
            engine.allow(1)
            await receive(first)
            await send(second, text="Waiting.")
            while server.service.admission.queued < 1:
                await asyncio.sleep(0)
            async with open_socket(server) as third:
                reply = await ask(third, text="Too many.")
                assert reply["code"] == "over_capacity"
                assert reply["retry_after_ms"] >= 250
                with pytest.raises(ConnectionClosed) as caught:
                    await receive(third)
                assert caught.value.rcvd.code == 1013
            await send(first, command="cancel", request_id="long")
            engine.allow()
            assert (await receive(second))["status"] == "success"


async def test_too_many_connections_and_too_many_requests_on_one():
    async with running_server(max_connections=1) as server:
        async with open_socket(server), open_socket(server) as second:
            reply = await receive(second)
            assert (reply["code"], "1 connections" in reply["message"]) == ("over_capacity", True)
            with pytest.raises(ConnectionClosed) as caught:
                await receive(second)
            assert caught.value.rcvd.code == 1013
    async with running_server(SteppedEngine(), max_pending_requests=3) as server:
        async with open_socket(server) as socket:
            for _ in range(5):
                await send(socket, text="Again and again.")
            assert (await receive(socket))["code"] == "over_capacity"


async def test_an_idle_connection_is_closed_with_1000():
    async with running_server(idle_timeout_s=0.05) as server, open_socket(server) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd.code == 1000
        assert "0.05 s" in caught.value.rcvd.reason


async def test_the_server_does_not_compress():
    async with running_server() as server, open_socket(server, compression="deflate") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


async def test_thirty_two_clients_each_get_their_own_audio():
    texts = [" ".join(np.array(ears.DIGITS)[[i % 10, i // 10, (7 * i) % 10]]) for i in range(32)]

    async def alone(server, text):
        async with open_socket(server) as socket:
            return (await speak(socket, text=text))[1]

    async with running_server() as server:
        expected = [await alone(server, text) for text in texts]
        assert len(set(expected)) == len(set(texts))
        assert await asyncio.gather(*(alone(server, text) for text in texts)) == expected
