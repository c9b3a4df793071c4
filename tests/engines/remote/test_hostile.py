"""What a gateway does with answers that no replica gives. Each kept it waiting, took its memory, or
ended in an exception of its own, before it believed nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import struct

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from engines.remote.hostile import DESCRIBED, MOST_BYTES, Endless, dribble, head, hostile
from engines.remote.running import (
    ESPEAK,
    HEAD,
    collect,
    frames_bytes,
    remote_engine,
    running_replica,
    utterance,
)
from engines.remote.test_engine import AUDIO
from tts_provider import config
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.engines.remote import client, frames, messages, replicas
from tts_provider.engines.remote.build import look_at
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.remote.frames import Alive, Bounds, End, Kind, SamplesFrame
from tts_provider.engines.remote.messages import SpeakRequest
from tts_provider.errors import EngineFailed, EngineLost, InvalidRequest, StartupError
from tts_provider.server.dialects.openai.requests import DialogueRequest, SpeechRequest
from tts_provider.speech.engine import Phonemes, Sound, Spoken
from tts_provider.voices import store

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
SHORT = utterance("Good morning")  # twelve characters
# What one answer may have brought before it was closed: a MiB, and what two sockets hold.
MOST_TAKEN_BYTES = 16 * 1024 * 1024
NEST = b"[" * 10_000


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<BI", kind, len(payload)) + payload


def facts(**changes: object) -> bytes:
    """An error as JSON, which may have numbers that are none."""
    error = {"kind": "EngineFailed", "code": "engine_failed", "message": "broken", "param": None}
    return json.dumps({**error, "status": 500, **changes}).encode()


def chunked(again: bytes) -> Endless:
    return Endless(head("200 OK", "Transfer-Encoding: chunked"), again)


# --- what it says of itself ---


@pytest.mark.parametrize(
    ("describe", "problem"),
    [
        pytest.param(Endless(HEAD, b" " * 65536), "more than 1048576 bytes", id="endless"),
        pytest.param(chunked(b"1\r\n \r\n" * 9000), "bytes in 4162 pieces", id="chunks"),
        pytest.param(
            head("200 OK", "Content-Encoding: gzip") + gzip.compress(bytes(20_000_000)),
            "in the encoding 'gzip'",
            id="bomb",
        ),
        pytest.param(Endless(head("500 Oops"), b" " * 65536), "more than 1048576", id="error"),
        pytest.param(
            Endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 9000), "head of more", id="head"
        ),
        pytest.param(Endless(b"HTTP/1.1 200 OK\n", b"a:b\n" * 999), "head of more", id="lines"),
        pytest.param(Endless(b"", b"HTTP/1.1 100 Go on\r\n\r\n"), "informational", id="continue"),
        pytest.param(dribble(b"", b"HTTP/1.1 103 Hints\r\n\r\n"), "informational", id="hints"),
        pytest.param(HEAD + b'{"replica":' + NEST, "is no engine of this release", id="nested"),
        pytest.param(HEAD + b"\xff\xfe\x00", "is no engine of this release", id="not text"),
    ],
)
async def test_what_it_says_of_itself_is_read_to_a_mebibyte(describe, problem):
    async with hostile(describe=describe) as replica:
        engine = RemoteEngine([replica.url])
        await engine.replicas.probe()
        (address,) = engine.replicas.addresses
        assert not address.is_up
        assert problem in address.problem
        assert replica.described_bytes < MOST_TAKEN_BYTES < MOST_BYTES
        assert "accept-encoding: identity" in replica.heads[0].lower()
        await engine.close()


@pytest.mark.parametrize(
    "describe",
    [
        dribble(HEAD, b" "),
        dribble(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        dribble(b"HTTP/1.1 2", b"0"),
    ],
    ids=["body", "head", "status"],
)
async def test_what_it_says_of_itself_has_a_deadline(monkeypatch, describe):
    monkeypatch.setattr(replicas, "_PROBE_TIMEOUT_S", 0.2)
    async with hostile(describe=describe) as replica:
        engine = RemoteEngine([replica.url])
        await engine.replicas.probe()
        (address,) = engine.replicas.addresses
        assert not address.is_up
        assert "answer in 0" in address.problem
        await engine.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "csm\n12:00:00 INFO all is well"},
        {"device": "\x1b[2J"},
        {"engine": "x" * 201},
        {"replica": ""},
        {"speeds": [float("inf"), float("inf")]},
        {"speeds": [float("nan"), 2.0]},
        {"speeds": [0.0, 2.0]},
        {"max_streams": 10**30},
        {"max_streams": -1},
        {"voices": [{**ESPEAK.model_dump()["voices"][0], "id": "a\nb"}]},
        {"voices": [{**ESPEAK.model_dump()["voices"][0], "speaker": -(10**30)}]},
        {"voices": [ESPEAK.model_dump()["voices"][0]] * 2},
        {"voices": [{**ESPEAK.model_dump()["voices"][0], "id": f"v{n}"} for n in range(5000)]},
    ],
    ids=lambda changes: ascii(next(iter(changes)))[:20],
)
async def test_what_it_says_of_itself_is_plausible_and_one_line(caplog, changes):
    body = json.dumps({**ESPEAK.model_dump(), **changes}).encode()
    async with hostile(describe=HEAD + body) as replica:
        engine = RemoteEngine([replica.url])
        with pytest.raises(StartupError, match="is no engine of this release") as caught:
            await engine.load(print)
        assert str(caught.value).isprintable()
        assert not engine.voices()
        await engine.close()
        assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_doctor_believes_as_little(settings_of):
    async with hostile(describe=Endless(HEAD, b" " * 65536)) as replica:
        shown = await asyncio.to_thread(look_at, replica.url, settings_of(), 3.0)
        assert shown == "sent a body of more than 1048576 bytes"
    async with hostile(describe=head("500 Oops") + b'{"error":' + NEST) as replica:
        assert await asyncio.to_thread(look_at, replica.url, settings_of(), 3.0) == (
            "answers with the status 500"
        )


@pytest.fixture
def settings_of(tmp_path):
    return lambda: config.load_settings({"data_dir": tmp_path}, tmp_path / "none")


# --- what it answers a passage with ---


@pytest.mark.parametrize(
    ("speak", "problem"),
    [
        pytest.param(Endless(HEAD, frames_bytes(AUDIO)), "more audio than the text", id="audio"),
        pytest.param(
            HEAD + frame(Kind.AUDIO, bytes(4 * 1024 * 1024)), "more audio than", id="large audio"
        ),
        pytest.param(
            Endless(HEAD, frames_bytes(Alive()) * 1000), r"more than \d+ frames", id="alive"
        ),
        pytest.param(
            Endless(HEAD, frame(Kind.AUDIO, b"") * 1000), r"more than \d+ frames", id="no samples"
        ),
        pytest.param(
            Endless(HEAD, frame(Kind.WORDS, b"[]" + b" " * 60_000)),
            r"more than \d+ bytes of words",
            id="words",
        ),
        pytest.param(
            chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in frames_bytes(Alive())) * 2000),
            "bytes in 4162 pieces",
            id="pieces",
        ),
        pytest.param(
            Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "informational", id="continue"
        ),
        pytest.param(HEAD + frame(Kind.SPOKEN, bytes(10**6)), "bytes of spoken", id="spoken"),
        pytest.param(HEAD + frame(Kind.ERROR, bytes(10**6)), "bytes of error", id="large error"),
        pytest.param(HEAD + frame(Kind.ALIVE, b"x"), "0 bytes of alive", id="alive with a payload"),
        pytest.param(HEAD + frame(Kind.WORDS, NEST), "kind 2 that cannot be read", id="nested"),
        pytest.param(
            HEAD + frame(Kind.WORDS, b"[[0, 1e999, 0, 1, false]]"), "kind 2", id="infinite"
        ),
        pytest.param(HEAD + frame(Kind.WORDS, b"[[0,1,0,13,false]]"), "the text", id="far word"),
        pytest.param(
            HEAD + frame(Kind.WORDS, b"[[0,2000000,0,1,false]]"), "the audio", id="late word"
        ),
        pytest.param(HEAD + frame(Kind.WORDS, b"[[2,1,0,1,false]]"), "the audio", id="backwards"),
        pytest.param(
            HEAD + frame(Kind.WORDS, b"[[0,%d,0,1,false]]" % 10**4000), "kind 2", id="digits"
        ),
        pytest.param(
            HEAD + frames_bytes(SamplesFrame(np.array([0, np.nan], np.float32))),
            "not finite",
            id="nan",
        ),
        pytest.param(
            HEAD + frames_bytes(SamplesFrame(np.array([0, np.inf], np.float32))),
            "not finite",
            id="inf",
        ),
        pytest.param(
            HEAD + frames_bytes(SamplesFrame(np.array([1e30], np.float32))), "far beyond", id="loud"
        ),
        pytest.param(
            HEAD + frames_bytes(Spoken("x" * 29, 0, np.zeros((1, 32), np.int64))),
            "longer than what was asked",
            id="long segment",
        ),
        pytest.param(
            HEAD + frames_bytes(Spoken("x", 0, np.zeros((5000, 1), np.int64))),
            "longer than what was asked",
            id="many codes",
        ),
        pytest.param(
            HEAD
            + frame(Kind.SPOKEN, b'{"text":"x","speaker":%d,"codebooks":1,"codes":""}' % 10**40),
            "kind 3",
            id="speaker",
        ),
        pytest.param(
            HEAD + frame(Kind.SPOKEN, b'{"text":"x","speaker":0,"codebooks":0,"codes":"AAAA"}'),
            "kind 3",
            id="codebooks",
        ),
        *(
            pytest.param(HEAD + frame(Kind.ERROR, payload), "kind 4 that cannot be", id=name)
            for name, payload in (
                ("nested error", NEST),
                ("nested in an error", b'{"kind":' + NEST),
                ("infinite status", facts(status=float("inf"))),
                ("infinite wait", facts(retry_after_ms=float("inf"))),
                ("long wait", facts(retry_after_ms=10**9)),
                ("status of digits", facts(status=5).replace(b"5", b"5" * 5000)),
                ("status 99", facts(status=99)),
                ("status 1000000", facts(status=1_000_000)),
                ("status 200", facts(status=200)),
                ("code of two lines", facts(code="a\nb")),
                ("kind that is none", facts(kind=["EngineFailed"])),
                ("param that is none", facts(param={"a": "b"})),
            )
        ),
        pytest.param(
            head("200 OK", "Content-Encoding: gzip") + frames_bytes(AUDIO, End()),
            "in the encoding 'gzip'",
            id="encoded",
        ),
    ],
)
async def test_what_no_replica_answers_is_a_loss_and_sets_it_aside(speak, problem):
    async with hostile(speak) as replica, remote_engine(replica.url) as engine:
        bounds, heard = Bounds.of_speech(SHORT), []

        async def listen() -> None:
            async for chunk in engine.speak(SHORT):
                heard.append(len(chunk.samples))

        with pytest.raises(EngineLost, match=problem):
            await listen()
        assert sum(heard) <= bounds.samples
        assert replica.sent_bytes < 4 * bounds.samples + MOST_TAKEN_BYTES < MOST_BYTES
        (address,) = engine.replicas.addresses
        assert not address.is_up
        assert address.problem.isprintable()


@pytest.mark.parametrize(
    ("speak", "problem"),
    [
        (dribble(HEAD + frames_bytes(AUDIO)[:9], b"\0"), "sent no whole frame for 0.2 s"),
        (dribble(HEAD, frames_bytes(Alive())), "took . s for 0 s of audio"),
        (dribble(HEAD, frame(Kind.AUDIO, b"")), "took . s for 0 s of audio"),
        (dribble(HEAD, frame(Kind.AUDIO, bytes(4))), r"took . s for .* s of audio"),
        (dribble(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), r"did not begin to answer in 0.4"),
        (dribble(head("500 Oops"), b" "), "did not answer in 0.3 s"),
    ],
    ids=["frame", "alive", "no samples", "a sample", "head", "refusal"],
)
async def test_a_dribble_that_never_ends_is_a_loss(monkeypatch, speak, problem):
    monkeypatch.setattr(client, "_CONNECT_S", 0.2)
    monkeypatch.setattr(client, "_FIRST_AUDIO_S", 0.5)
    monkeypatch.setattr(replicas, "_REFUSAL_TIMEOUT_S", 0.3)
    async with hostile(speak) as replica, remote_engine(replica.url, silence_s=0.2) as engine:
        with pytest.raises(EngineLost, match=problem):
            await collect(engine, SHORT)


async def test_time_in_which_nobody_listens_is_not_the_replicas(monkeypatch):
    monkeypatch.setattr(client, "_FIRST_AUDIO_S", 0.3)
    sent = HEAD + frames_bytes(AUDIO) * 30 + frames_bytes(End())
    async with hostile(sent) as replica, remote_engine(replica.url, silence_s=0.3) as engine:
        heard = []
        async for chunk in engine.speak(SHORT):
            if not heard:
                await asyncio.sleep(0.6)  # longer than anything may take
            heard.append(chunk)
        assert len(heard) == 30


@pytest.mark.parametrize("body", [NEST, b'{"error":' + NEST, b'{"error":{"code":1e999}}', b"\xff"])
async def test_a_refusal_that_cannot_be_read_is_that_of_its_status(body):
    async with hostile(head("500 Oops") + body) as replica, remote_engine(replica.url) as engine:
        with pytest.raises(EngineLost, match="answered with the status 500"):
            await collect(engine, SHORT)


@pytest.mark.parametrize("after", ["9" * 5000, "-1", "1e9", "Infinity", "²", "99999"])
async def test_a_wait_that_a_replica_names_is_at_most_a_minute(after):
    refusal = head("503 Busy", f"Retry-After: {after}")
    async with hostile(refusal) as replica, remote_engine(replica.url) as engine:
        with pytest.raises(Exception, match="all engines are busy") as caught:
            await collect(engine, SHORT)
        assert 1000 <= caught.value.retry_after_ms <= 60_000


async def test_what_it_says_is_one_line_of_bounded_length_wherever_it_goes(caplog):
    caplog.set_level(logging.INFO)
    message = "no\r\n12:00:00 INFO    forged\x1b[2J\u202etxet\0" + "x" * 10_000
    told = facts(message=message, param="a\nb")
    sent = HEAD + frame(Kind.ERROR, told)
    async with hostile(sent) as replica, remote_engine(replica.url) as engine:
        with pytest.raises(EngineFailed, match="no  12:00:00 INFO    forged") as caught:
            await collect(engine, SHORT)
        assert caught.value.message.isprintable()
        assert len(caught.value.message) <= 500
        assert caught.value.param == "a b"
        for status, code in (("503 Away", "loading"), ("401 No", "unauthorized")):
            replica.speak = head(status) + b'{"error":' + facts(message=message, code=code) + b"}"
            next(iter(engine.replicas.addresses)).is_up = True
            with pytest.raises(EngineLost, match="no engine can be reached") as lost:
                await collect(engine, SHORT)
            assert lost.value.message.isprintable()
            assert len(lost.value.message) < 1000
    assert any("is set aside" in record.getMessage() for record in caplog.records)
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 1000


async def test_the_name_it_gives_itself_is_counted_only_where_it_is_one():
    for name in ("x" * 5000, "gpu 1", "\x80\x9b"):
        spoken = head("200 OK", f"X-TTS-Replica: {name}") + frames_bytes(AUDIO, End())
        async with hostile(spoken) as replica, remote_engine(replica.url) as engine:
            await collect(engine, SHORT)
            counted = list(engine.replicas.counts._outcomes)
            assert counted == [replica.url]


async def test_no_redirect_is_followed_and_no_cookie_kept():
    async with hostile(DESCRIBED) as elsewhere:
        moved = head("302 Found", f"Location: {elsewhere.url}/speak", "Set-Cookie: a=b")
        cookies = (f"Set-Cookie: n{n}=v; Max-Age=9999999" for n in range(100))
        described = DESCRIBED.replace(b"\r\n", "\r\n".join(["", *cookies, ""]).encode(), 1)
        async with hostile(moved, describe=described) as replica:
            async with remote_engine(replica.url) as engine:
                with pytest.raises(EngineLost, match="answered with the status 302"):
                    await collect(engine, SHORT)
            assert len(replica.heads) >= 2
            assert not any("cookie" in sent.lower() for sent in replica.heads)
        assert not elsewhere.heads


@pytest.mark.parametrize("more", [Endless(b"", b"x" * 65536), dribble(b"", b"x")], ids=["", "slow"])
async def test_what_follows_the_end_is_not_read(monkeypatch, more):
    monkeypatch.setattr(client, "_LAST_WORD_S", 0.2)

    async def speak():
        yield HEAD + frames_bytes(AUDIO, End())
        if callable(more):
            async for piece in more():
                yield piece
        else:
            for piece in more:
                yield piece

    async with hostile(speak) as replica, remote_engine(replica.url) as engine:
        assert len(await collect(engine, SHORT)) == 1
        assert replica.sent_bytes < MOST_TAKEN_BYTES


# --- and what becomes of the others ---


async def test_requests_go_elsewhere_and_the_address_is_left_alone_for_longer_each_time(
    monkeypatch,
):
    monkeypatch.setattr(replicas, "_PROBE_S", 0.01)
    pauses_s, distrust = [], replicas.Replicas._distrust

    def watched(self, address, problem):
        distrust(self, address, problem)
        pauses_s.append(address.pause_s)

    monkeypatch.setattr(replicas.Replicas, "_distrust", watched)
    async with hostile(HEAD + frame(Kind.ERROR, NEST)) as bad, running_replica() as good:
        async with remote_engine(bad.url, good.url) as engine:
            first, _ = engine.replicas.addresses
            while len(pauses_s) < 4:
                assert await collect(engine, SHORT)
            assert pauses_s[:4] == [0.01, 0.02, 0.04, 0.08]
            bad.speak = HEAD + frames_bytes(AUDIO, End())
            while first.pause_s:
                assert await collect(engine, SHORT)


async def test_who_was_lost_in_an_exchange_still_says_how_it_is():
    """One that only breaks off is asked at once: nothing is wrong with what it says."""
    async with hostile(HEAD + frames_bytes(AUDIO)) as replica:
        async with remote_engine(replica.url) as engine:
            with pytest.raises(EngineLost, match="ended before it had said everything"):
                await collect(engine, SHORT)
            assert next(iter(engine.replicas.addresses)).pause_s == 0


@pytest.mark.parametrize(
    ("text", "phonemes", "speed"),
    [
        ("a", (), 1.0),
        ("W" * 20, (), 0.5),
        ("ﷺ" * 20, (), 0.5),
        ("中" * 20, (), 1.0),
        ("a", (Phonemes(0, 1, "aːbə" * 50),), 0.5),
        ("8" * 100, (), 0.5),
    ],
)
async def test_speech_that_takes_long_is_within_its_bounds(text, phonemes, speed):
    asked = utterance(text, phonemes=phonemes, speed=speed)
    async with running_replica() as replica, remote_engine(replica.url) as engine:
        chunks = await collect(engine, asked)
        assert 2 * sum(len(chunk.samples) for chunk in chunks) <= Bounds.of_speech(asked).samples, (
            "twice as long would do"
        )


def test_bounds_are_in_proportion_to_what_was_asked_for():
    assert Bounds.of_speech(SHORT).samples == 34 * 24_000
    assert Bounds.of_speech(utterance("Good morning", speed=0.5)).samples == 68 * 24_000
    assert Bounds.of_speech(utterance("Good morning", speed=2.0)).samples == 34 * 24_000
    assert Bounds.of_speech(utterance("Hi", max_audio_ms=90_000)).samples == 91 * 24_000
    assert Bounds.of_listening("Hi", np.zeros(24_000, np.float32)).samples == 0


async def test_a_text_that_the_contract_has_no_room_for_is_an_error_of_the_request_and_not_logged(
    caplog,
):
    secret = "confidential " * 2000
    async with running_replica() as replica, remote_engine(replica.url) as engine:
        with pytest.raises(InvalidRequest, match="text: String should have at most") as caught:
            await collect(engine, utterance(secret))
        assert (caught.value.code, caught.value.param) == ("text_too_long", "text")
        assert "confidential" not in str(caught.value)
        assert "confidential" not in caplog.text


def test_no_model_prints_what_it_was_given():
    """Pydantic's errors end in the log where nobody expected them."""
    modules = (config, client, frames, messages, store)
    models = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel
    ]
    models += [SpeechRequest, DialogueRequest]
    assert len(models) > 8
    for model in models:
        if model.__module__.startswith("tts_provider"):
            with pytest.raises(ValidationError) as refused:
                model.model_validate_json(b'["confidential"]')
            assert "confidential" not in str(refused.value), model
    with pytest.raises(ValidationError) as caught:
        SpeakRequest(text="confidential" * 2000, voice=VOICES[0].id)
    assert "confidential" not in str(caught.value)


async def test_what_a_replica_remembers_is_taken_and_no_audio_where_it_listens():
    class Listening(EspeakEngine):
        takes_prompts = True

        async def listen(self, text, speaker, samples):
            return Spoken(text, speaker, np.ones((13, 32), np.int64))

    samples = np.zeros(24_000, np.float32)
    async with running_replica(Listening()) as replica, remote_engine(replica.url) as engine:
        spoken = await engine.listen("Hello.", 1, samples)
        assert (spoken.text, spoken.codes.shape) == ("Hello.", (13, 32))

    class Remembering(EspeakEngine):
        async def speak(self, utterance):
            yield Sound(AUDIO.samples)
            utterance.history.add(Spoken(f"{utterance.text}.", 0, np.ones((400, 32), np.int64)))

    asked = utterance("Good morning")
    async with running_replica(Remembering()) as replica, remote_engine(replica.url) as engine:
        await collect(engine, asked)
        assert [spoken.text for spoken in asked.history.segments] == ["Good morning."]
    described = HEAD + ESPEAK.model_copy(update={"takes_prompts": True}).model_dump_json().encode()
    async with hostile(HEAD + frames_bytes(AUDIO), describe=described) as bad:
        async with remote_engine(bad.url) as engine:
            with pytest.raises(EngineLost, match="more audio than the text can be: over 0 s"):
                await engine.listen("Hello.", 1, samples)
