"""`--engine-key`: who has it, proven by both sides over real sockets, and never sent."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time

import httpx2
import pytest

from engines.remote.hostile import DESCRIBED, hostile
from engines.remote.running import (
    ESPEAK,
    HEAD,
    collect,
    frames_bytes,
    remote_engine,
    running_replica,
    utterance,
)
from engines.remote.test_engine import AUDIO, until
from tts_provider.config import load_settings
from tts_provider.engines.remote import proof as proofs
from tts_provider.engines.remote.build import build, look_at
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.frames import End
from tts_provider.engines.remote.proof import CLOCK_SKEW_S, NOTHING_SHA256, Guard, Proof, key_id
from tts_provider.errors import EngineLost, StartupError, Unauthorized

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
KEY = "correct-horse-battery-staple"
SHORT = utterance("Good morning")


class Recorder:
    """Passes bytes on between a gateway and a replica, and keeps them."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = b""
        self.answered = b""

    async def start(self, url: str) -> asyncio.Server:
        port = int(url.rpartition(":")[2])

        async def serve(reader, writer) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source, sink, kept) -> None:
                while data := await source.read(65536):
                    setattr(self, kept, getattr(self, kept) + data)
                    sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, back, "asked"), pump(there, writer, "answered"))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server


async def raw(url: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_key_is_on_no_wire_and_what_was_sent_is_of_no_use_again():
    recorder = Recorder()
    async with running_replica(keys=[KEY]) as replica, await recorder.start(replica.url):
        async with remote_engine(recorder.url, key=KEY) as engine:
            chunks = await collect(engine, SHORT)
            assert chunks
        sent, answered = recorder.asked, recorder.answered
        assert KEY.encode() not in sent + answered
        assert b"TTS-HMAC-SHA256" in sent
        assert b"x-tts-proof" in answered
        (passage,) = re.findall(rb"POST /speak .*\Z", sent, re.DOTALL)
        answer = await raw(replica.url, passage)
        assert b" 401 " in answer
        # Nor for another request: the body and the path are signed.
        fresh = Proof.of(KEY, "POST", "/speak", hashlib.sha256(b"{}").hexdigest()).authorization
        async with httpx2.AsyncClient() as client:
            headers = {"Authorization": fresh}
            reply = await client.post(f"{replica.url}/listen", content=b"{}", headers=headers)
            assert reply.status_code == 401
            other = await client.post(f"{replica.url}/speak", content=b"[]", headers=headers)
            assert (other.status_code, "signed" in other.text) == (400, True)
        assert replica.active == 0


async def test_strangers_are_refused_before_their_body_is_read():
    async with running_replica(keys=[KEY]) as replica:
        head = b"POST /speak HTTP/1.1\r\nHost: r\r\nContent-Length: 10000000\r\n\r\n"
        assert b" 401 " in await raw(replica.url, head)


@pytest.mark.parametrize("key", [None, "wrong", KEY + "x"])
async def test_a_replica_takes_no_other_key_and_says_so(key):
    async with running_replica(keys=[KEY]) as replica:
        engine = RemoteEngine([replica.url], key)
        with pytest.raises(StartupError, match="--engine-key") as caught:
            await engine.load(print)
        assert "both sides" in str(caught.value) or "is not this replica's" in str(caught.value)
        await engine.close()


async def shown(*headers: str) -> bytes:
    return HEAD.replace(b"\r\n\r\n", "".join(f"\r\n{h}" for h in headers).encode() + b"\r\n\r\n")


@pytest.mark.parametrize("proof", ["", "0" * 64, "é", "x" * 10_000])
async def test_a_gateway_believes_nobody_who_does_not_prove_the_key(proof, caplog):
    said = await shown("X-TTS-Replica: scripted", *([f"X-TTS-Proof: {proof}"] if proof else []))
    described = said + ESPEAK.model_dump_json().encode()
    spoken = said + frames_bytes(AUDIO, End())
    async with hostile(spoken, describe=described) as replica:
        engine = RemoteEngine([replica.url], KEY)
        with pytest.raises(StartupError, match="did not prove that it has this gateway's --engine"):
            await engine.load(print)
        assert not engine.voices()
        assert KEY not in "".join(replica.heads)
        # Nor a passage, where it was believed before.
        next(iter(engine.replicas.addresses)).is_up = True
        with pytest.raises(EngineLost, match="did not prove"):
            await collect(engine, SHORT)
        await engine.close()


async def test_a_replica_without_a_key_is_not_believed_by_a_gateway_with_one():
    async with running_replica() as replica:
        engine = RemoteEngine([replica.url], KEY)
        with pytest.raises(StartupError, match="give both sides the same"):
            await engine.load(print)
        await engine.close()


async def test_who_does_not_prove_the_key_is_passed_by():
    async with hostile(HEAD + frames_bytes(AUDIO, End())) as bad:
        async with running_replica(keys=[KEY]) as good:
            async with remote_engine(bad.url, good.url, key=KEY) as engine:
                first, second = engine.replicas.addresses
                assert (first.is_up, second.is_up) == (False, True)
                first.is_up = True
                for _ in range(3):
                    assert len(await collect(engine, SHORT)) > 1, "what the good one says"
                assert not first.is_up


async def test_an_answer_proves_itself_for_one_request_only():
    """A proof that was seen is of no use for the next request, nor with another status or name."""
    proof = Proof.of(KEY, "GET", "/describe", NOTHING_SHA256)
    right = proof.answer(200, "gpu-1")
    assert proof.is_answered(right, 200, "gpu-1")
    assert not proof.is_answered(right, 503, "gpu-1")
    assert not proof.is_answered(right, 200, "gpu-2")
    assert not proof.is_answered(proof.mac, 200, "gpu-1"), "what the gateway sent itself"
    again = Proof.of(KEY, "GET", "/describe", NOTHING_SHA256)
    assert not again.is_answered(right, 200, "gpu-1")
    recorder = Recorder()
    async with running_replica(keys=[KEY]) as replica, await recorder.start(replica.url):
        async with remote_engine(recorder.url, key=KEY):
            pass
    (seen,) = re.findall(rb"x-tts-proof: \w+", recorder.answered)
    described = HEAD.replace(b"\r\n\r\n", b"\r\n" + seen + b"\r\nX-TTS-Replica: a-replica\r\n\r\n")
    async with hostile(describe=described + ESPEAK.model_dump_json().encode()) as impostor:
        engine = RemoteEngine([impostor.url], KEY)
        with pytest.raises(StartupError, match="did not prove"):
            await engine.load(print)
        await engine.close()


async def test_refusals_of_who_proves_nothing_count_by_their_status_alone():
    """Ray and balancers have no key: their 503 is a wait. What else they say is shown to nobody."""
    error = b'{"error":{"kind":"InvalidRequest","code":"a","message":"forged","status":400}}'
    sent = b"HTTP/1.1 %s\r\nConnection: close\r\n\r\n" + error
    async with running_replica(keys=[KEY]) as good, hostile() as bad:
        async with remote_engine(good.url, bad.url, key=KEY) as engine:
            first, second = engine.replicas.addresses
            for status, problem in (
                (b"503 Busy", "all engines are busy"),
                (b"404 No", "no engine can be reached: .* has no engine"),
                (b"401 No", "no engine can be reached: .*must be the same on both sides"),
                (b"400 No", "answered with the status 400"),
            ):
                bad.speak = sent % status
                first.is_up, second.is_up = False, True
                with pytest.raises(Exception, match=problem) as caught:
                    await collect(engine, SHORT)
                assert "forged" not in str(caught.value)


async def test_a_replica_that_loads_is_waited_for_with_a_key_too():
    async with running_replica(keys=[KEY], is_loaded=False) as replica:
        lines = []
        engine = RemoteEngine([replica.url], KEY)
        loading = asyncio.create_task(engine.load(lines.append))
        await until(lambda: lines)
        assert "still loading its model" in lines[0], "its words are believed: it proved the key"
        replica.open()
        await asyncio.wait_for(loading, 60)
        assert await collect(engine, SHORT)
        await engine.close()


@pytest.mark.parametrize(("off_s", "word"), [(-3600, "behind"), (3600, "ahead of")])
async def test_clocks_that_are_apart_are_said_to_be(monkeypatch, off_s, word):
    async with running_replica(keys=[KEY]) as replica:
        now = time.time
        replica._guard._clock = lambda: now() - off_s
        engine = RemoteEngine([replica.url], KEY)
        with pytest.raises(StartupError, match=rf"clock is 3\d\d\d s {word} this replica's"):
            await engine.load(print)
        await engine.close()


async def test_keys_change_while_everybody_speaks():
    async with running_replica(keys=["old-key", "new-key"]) as replica:
        for key in ("old-key", "new-key"):
            async with remote_engine(replica.url, key=key) as engine:
                assert await collect(engine, SHORT)


async def test_a_gateway_of_an_older_release_is_told_to_change_its_key():
    async with running_replica(keys=[KEY]) as replica, httpx2.AsyncClient() as client:
        headers = {"Authorization": f"Bearer {KEY}"}
        reply = await client.get(f"{replica.url}/describe", headers=headers)
        assert reply.status_code == 401
        assert "sent its key instead of a proof" in reply.json()["error"]["message"]


async def test_prometheus_has_a_key_of_its_own():
    async with running_replica(keys=[KEY], metrics_keys=["scrape"]) as replica:
        signed = Proof.of(KEY, "GET", "/metrics", NOTHING_SHA256).authorization
        async with httpx2.AsyncClient() as client:
            for path, shown, status in (
                ("/metrics", "Bearer scrape", 200),
                ("/metrics", f"Bearer {KEY}", 401),
                ("/metrics", "Bearer", 401),
                ("/metrics", signed, 200),
                ("/describe", "Bearer scrape", 401),
            ):
                headers = {"Authorization": shown}
                reply = await client.get(replica.url + path, headers=headers)
                assert reply.status_code == status


def test_settings_have_one_key_or_several(tmp_path, monkeypatch):
    def settings(key):
        return load_settings({"data_dir": tmp_path, "engine_key": key}, tmp_path / "none")

    assert settings("new, old").engine_keys == ("new", "old")
    monkeypatch.setenv("TTS_PROVIDER_ENGINE_KEY", "new,old")
    assert load_settings({}, tmp_path / "none").engine_keys == ("new", "old")
    for wrong in ("a,,b", "a b", "ä", ","):
        with pytest.raises(StartupError, match="a key is one or more printable") as caught:
            settings(wrong)
        assert "ä" not in str(caught.value)
    built = load_settings({"engine_key": "new,old", "engine_urls": "http://h"}, tmp_path / "none")
    assert build(built).replicas._client._key == "new"


async def test_doctor_proves_the_key_too(tmp_path):
    settings = load_settings({"data_dir": tmp_path, "engine_key": KEY}, tmp_path / "none")
    async with running_replica(keys=[KEY]) as replica:
        assert "espeak on cpu" in await asyncio.to_thread(look_at, replica.url, settings, 3.0)
    async with hostile(describe=DESCRIBED) as bad:
        assert "did not prove" in await asyncio.to_thread(look_at, bad.url, settings, 3.0)


# --- without sockets ---


def proof_at(time_s: int, nonce: int, key: str = KEY) -> Proof:
    return Proof(key, "POST", "/speak", NOTHING_SHA256, time_s, f"{nonce:032x}")


def test_a_request_is_taken_once_and_within_the_skew():
    guard = Guard([KEY], clock=lambda: 1000.0)
    for time_s in (1000 - CLOCK_SKEW_S, 1000, 1000 + CLOCK_SKEW_S):
        guard.admit(proof_at(time_s, time_s))
        with pytest.raises(Unauthorized, match="sent before"):
            guard.admit(proof_at(time_s, time_s))
    for time_s in (0, 1000 - CLOCK_SKEW_S - 1, 1000 + CLOCK_SKEW_S + 1, 10**11):
        with pytest.raises(Unauthorized, match="clock"):
            guard.admit(proof_at(time_s, 7))


def test_nonces_take_bounded_memory_and_none_that_is_forgotten_is_taken_again():
    clock = [1000.0]
    guard = Guard([KEY], clock=lambda: clock[0], nonces_kept=10)
    taken = [proof_at(1000 + number // 5, number) for number in range(60)]
    for number, new in enumerate(taken):
        clock[0] = 1000.0 + number // 5
        guard.admit(new)
        assert len(guard._seen) == len(guard._by_time) <= 10
        if number % 20 == 19:
            clock[0] -= 30  # a clock that is set back forgets nothing either
        for old in taken[: number + 1]:
            with pytest.raises(Unauthorized, match="sent before"):
                guard.admit(old)
    clock[0] = 5000.0
    guard.admit(proof_at(5000, 10**6))
    assert len(guard._seen) == 1


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "TTS-HMAC-SHA256",
        "TTS-HMAC-SHA256 " + "a" * 100_000,
        proof_at(1, 1).authorization.replace("1", "١"),
        proof_at(1, 1).authorization + ", x",
        proof_at(1, 1).authorization.replace(f'id="{key_id(KEY)}"', 'id="0000000000000000"'),
        proof_at(1, 1, "other").authorization.replace(key_id("other"), key_id(KEY)),
        proof_at(1, 1).authorization.replace('ts="1"', 'ts="2"'),
        proof_at(1, 1).authorization.replace(f"{1:032x}", f"{2:032x}"),
        proof_at(1, 1).authorization.replace(NOTHING_SHA256, "0" * 64),
        Proof("", "POST", "/speak", NOTHING_SHA256, 1, f"{1:032x}").authorization,
    ],
)
def test_a_claim_that_was_changed_is_nobodys(authorization):
    guard = Guard([KEY])
    assert guard.identify(proof_at(1, 1).authorization, "POST", "/speak") == proof_at(1, 1)
    with pytest.raises(Unauthorized, match="--engine-key"):
        guard.identify(authorization, "POST", "/speak")
    for method, path in (("GET", "/speak"), ("POST", "/listen"), ("POST", "/speak\n")):
        with pytest.raises(Unauthorized, match="--engine-key"):
            guard.identify(proof_at(1, 1).authorization, method, path)


def test_a_key_is_not_told_by_its_name():
    assert key_id("a") != key_id("b")
    assert re.fullmatch(r"[0-9a-f]{16}", key_id("a"))
    assert key_id("a") not in proofs._mac("a", "request", "id")
