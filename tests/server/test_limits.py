"""A key's limits at every endpoint, from a real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from servers import SteppedEngine, ask, collect_stream, open_socket, receive, running_server
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.keys.counts import Usage, read_usage
from tts_provider.keys.store import KeyStore, Limits

TEXT = "Hello there."


def key_with(folder: Path, name: str = "anna", **limits: int) -> dict[str, str]:
    """The header of a key that has these limits."""
    with KeyStore(folder) as store:
        return {"X-API-Key": store.add(name, limits=Limits(**limits))}


def client_of(server, headers: dict[str, str]) -> httpx2.AsyncClient:
    base = f"http://127.0.0.1:{server.port}"
    pool = httpx2.Limits(max_connections=50)
    return httpx2.AsyncClient(base_url=base, headers=headers, limits=pool, timeout=120)


async def test_of_a_thousand_requests_at_once_exactly_a_hundred_pass(tmp_path):
    """They have nothing to say, which costs little and is a request as any other."""
    headers = key_with(tmp_path, requests_per_minute=100)
    body = b'{"input": "!"}'
    head = (
        f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {headers['X-API-Key']}"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    ).encode()

    async def ask_twenty(server) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(19 * (head + b"\r\n" + body) + head + b"Connection: close\r\n\r\n" + body)
        answers = await reader.read()
        writer.close()
        return answers

    async with running_server(data_dir=tmp_path) as server:
        answers = b"".join(await asyncio.gather(*(ask_twenty(server) for _ in range(50))))
        assert answers.count(b"HTTP/1.1 422 ") == 100
        assert answers.count(b"HTTP/1.1 429 ") == 900
        async with client_of(server, headers) as client:
            reply = await client.post("/v1/audio/speech", json={"input": "!"})
            assert reply.status_code == 429
            assert reply.json()["error"]["code"] == "rate_limit_exceeded"
            assert reply.json()["error"]["type"] == "rate_limit_error"
            assert 0 < int(reply.headers["retry-after"]) <= 60
            assert reply.headers["x-ratelimit-limit-requests"] == "100"
            assert reply.headers["x-ratelimit-remaining-requests"] == "0"
            assert (await client.get("/v1/models")).status_code == 200
    amounts = [row.amount for row in read_usage(tmp_path)]
    assert sum(amount.requests for amount in amounts) == 1001
    assert sum(amount.failures for amount in amounts) == 1001


async def test_what_is_left_is_told_with_the_audio(tmp_path):
    headers = key_with(tmp_path, requests_per_minute=10, characters_per_day=100)
    async with running_server(data_dir=tmp_path) as server, client_of(server, headers) as client:
        reply = await client.post("/v1/audio/speech", json={"input": TEXT})
        assert reply.status_code == 200
        assert reply.headers["x-ratelimit-remaining-requests"] == "9"
        assert reply.headers["x-ratelimit-remaining-characters"] == str(100 - len(TEXT))
        reply = await client.post("/v1/audio/speech", json={"input": "a" * 100})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exceeded")
        assert int(reply.headers["retry-after"]) <= 86_400
        told = (await client.get("/v1/user/subscription")).json()
        assert (told["character_count"], told["character_limit"]) == (len(TEXT), 100)


SERVICES = {
    "/v1/text-to-speech/{voice}": ({"text": TEXT}, ("detail", "code")),
    "/tts/bytes": (
        {
            "transcript": TEXT,
            "model_id": "sonic",
            "voice": {"id": "{voice}"},
            "output_format": {"container": "wav", "encoding": "pcm_s16le", "sample_rate": 24000},
        },
        ("error_code",),
    ),
    "/v1/speak": ({"text": TEXT}, ("err_code",)),
}


@pytest.mark.parametrize("path", SERVICES)
async def test_each_service_says_it_in_its_own_words(path, tmp_path):
    headers = key_with(tmp_path, requests_per_minute=1)
    body, where = SERVICES[path]
    async with running_server(data_dir=tmp_path) as server, client_of(server, headers) as client:
        voice = server.service.engine.voices()[0].id
        sent = json.loads(json.dumps(body).replace("{voice}", voice))
        replies = [await client.post(path.format(voice=voice), json=sent) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]
    assert "retry-after" in replies[1].headers
    code = replies[1].json()
    for name in where:
        code = code[name]
    assert code == "rate_limit_exceeded"


async def test_the_basic_endpoint_refuses_a_request_and_goes_on(tmp_path):
    headers = key_with(tmp_path, requests_per_minute=2)
    async with running_server(data_dir=tmp_path) as server:
        async with open_socket(server, additional_headers=headers) as socket:
            for _ in range(2):
                assert (await ask(socket, text=TEXT))["status"] == "success"
                await receive(socket)
            for _ in range(2):
                refusal = await ask(socket, text=TEXT, request_id="a")
                assert (refusal["code"], refusal["request_id"]) == ("rate_limit_exceeded", "a")
                assert 0 < refusal["retry_after_ms"] <= 60_000
            assert (await ask(socket, command="info"))["status"] == "success"


async def test_a_session_refuses_a_context_and_finishes_what_was_begun(tmp_path):
    headers = key_with(tmp_path, streams=1, characters_per_day=2 * len(TEXT))
    options = {"path": "v1/stream", "additional_headers": headers}
    async with running_server(data_dir=tmp_path) as server, open_socket(server, **options) as one:

        async def until(**wanted) -> dict:
            while not wanted.items() <= (message := await receive(one)).items():
                pass
            return message

        async def append(context_id: str) -> None:
            kind = "input_text.append"
            await one.send(json.dumps({"type": kind, "context_id": context_id, "text": TEXT + " "}))

        async def end(context_id: str) -> None:
            await one.send(json.dumps({"type": "input_text.end", "context_id": context_id}))

        await append("a")
        await until(type="audio.delta", context_id="a")
        await append("b")
        problem = await until(type="error", context_id="b")
        assert (problem["code"], problem["retryable"]) == ("too_many_streams", True)
        for _ in range(3):  # more than the day has
            await append("a")
        await end("a")
        done = await until(type="context.done", context_id="a")
        assert done["audio_ms"] > 2000
        await append("c")
        assert (await until(type="error", context_id="c"))["code"] == "quota_exceeded"
        async with open_socket(server, **options) as other:
            await receive(other)
            message = {"type": "input_text.append", "context_id": "a", "text": "Hi. "}
            await other.send(json.dumps(message))
            assert (await receive(other))["code"] == "quota_exceeded"
    amounts = {row.place.voice: row.amount for row in read_usage(tmp_path)}
    voice = next(name for name in amounts if name)
    assert amounts[voice].characters == 4 * (len(TEXT) + 1)
    assert amounts[voice].audio_samples >= 24 * done["audio_ms"]
    assert (amounts[voice].requests, amounts[voice].failures) == (1, 0)
    assert amounts[""] == Usage(requests=3, failures=3)


async def test_a_revoked_key_ends_nothing_that_is_spoken_and_begins_nothing(tmp_path):
    headers = key_with(tmp_path)
    engine = SteppedEngine()
    async with running_server(engine, data_dir=tmp_path) as server:
        async with open_socket(server, additional_headers=headers) as socket:
            await socket.send(json.dumps({"text": TEXT, "stream": True}))
            while not engine.waiting:
                await asyncio.sleep(0)
            with KeyStore(tmp_path) as store:
                store.revoke("anna")
            server.keys._looked_s -= 1
            engine.allow()
            _, status = await collect_stream_after(socket)
            assert status["status"] == "success"
            assert (await ask(socket, text=TEXT))["code"] == "unauthorized"


async def collect_stream_after(socket):
    assert (await receive(socket))["status"] == "streaming"
    return await collect_stream(socket)


async def test_streams_at_once_are_of_all_connections_and_free_when_they_end(tmp_path):
    headers = key_with(tmp_path, streams=2)
    engine = SteppedEngine()
    async with running_server(engine, data_dir=tmp_path) as server:
        async with client_of(server, headers) as client:
            speech = {"json": {"input": TEXT}}
            both = [
                asyncio.create_task(client.post("/v1/audio/speech", **speech)) for _ in range(2)
            ]
            while engine.waiting < 2:
                await asyncio.sleep(0)
            reply = await client.post("/v1/audio/speech", **speech)
            assert (reply.status_code, reply.json()["error"]["code"]) == (429, "too_many_streams")
            async with open_socket(server, additional_headers=headers) as socket:
                assert (await ask(socket, text=TEXT))["code"] == "too_many_streams"
                both[0].cancel()
                while engine.waiting > 1:
                    await asyncio.sleep(0)
                while server.service.allowances._streams["anna"] > 1:
                    await asyncio.sleep(0)
                engine.allow()
                assert (await ask(socket, text=TEXT))["status"] == "success"
            assert (await both[1]).status_code == 200
        assert server.service.allowances._streams == {}


async def test_characters_of_speech_that_could_not_be_made_are_given_back(tmp_path):
    headers = key_with(tmp_path, characters_per_day=50)

    class Broken(EspeakEngine):
        is_broken = False

        async def speak(self, utterance):
            if self.is_broken:
                raise RuntimeError("a fault of ours")
            async for sound in super().speak(utterance):
                yield sound

    engine = Broken()
    async with running_server(engine, data_dir=tmp_path) as server:
        async with client_of(server, headers) as client:
            engine.is_broken = True
            for _ in range(5):
                reply = await client.post("/v1/audio/speech", json={"input": "a" * 40})
                assert reply.status_code == 500
    (row,) = read_usage(tmp_path)
    assert row.amount == Usage(requests=5, failures=5)


async def test_without_named_keys_nothing_is_counted_and_nothing_written(tmp_path):
    async with running_server(data_dir=tmp_path, api_keys="k") as server:
        async with client_of(server, {"X-API-Key": "k"}) as client:
            reply = await client.post("/v1/audio/speech", json={"input": TEXT})
            assert reply.status_code == 200
            assert not [name for name in reply.headers if name.startswith("x-ratelimit")]
    assert list(tmp_path.iterdir()) == []


async def test_an_api_key_beside_named_ones_is_counted_without_a_name(tmp_path):
    key_with(tmp_path)
    async with running_server(data_dir=tmp_path, api_keys="k") as server:
        async with client_of(server, {"X-API-Key": "k"}) as client:
            await client.post("/v1/audio/speech", json={"input": TEXT})
    (row,) = read_usage(tmp_path)
    assert (row.place.name, row.amount.characters) == ("", len(TEXT))
    assert row.place.engine == "espeak"


async def test_the_log_and_metrics_name_the_key_where_that_is_asked_for(tmp_path, caplog):
    caplog.set_level("INFO")
    headers = key_with(tmp_path)
    series = 'tts_key_characters_total{key="anna"}'
    for by_key in (False, True):
        async with running_server(data_dir=tmp_path, api_keys="k", metrics_by_key=by_key) as server:
            async with client_of(server, headers) as client:
                await client.post("/v1/audio/speech", json={"input": TEXT})
                metrics = await client.get("/metrics", headers={"X-API-Key": "k"})
                assert (series in metrics.text) == by_key
    assert [r.key for r in caplog.records if r.message == "request"] == ["anna", "anna"]
