"""What a dialect keeps of its client is counted, whatever it keeps it for."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from servers import SteppedEngine, open_socket, receive, running_server, send
from tts_provider.audio.pcm import from_s16
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, OverCapacity, WireError
from tts_provider.server.dialects.basic import Connection
from tts_provider.server.dialects.cartesia.websocket import CartesiaDialect
from tts_provider.server.dialects.contexts import Contexts
from tts_provider.server.dialects.dialect import (
    Append,
    Audio,
    Begun,
    ContextSettings,
    Done,
    End,
    Flush,
    Handshake,
    Listen,
    Opening,
    Problem,
)
from tts_provider.server.dialects.elevenlabs.websocket import MultiStreamInput
from tts_provider.server.dialects.native import NativeDialect
from tts_provider.server.dialects.wyoming import WyomingDialect
from tts_provider.server.service.service import Said
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.reading import ReadingOptions

from .conversation import VOICES, find_voice, new_reader
from .tongues import Cartesia, Talk, audio_of

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
LONG_ID = "i" * 250_000
DICTIONARY = {f"word{number}": "how it is said " * 10 for number in range(2000)}


def handshake(**limits: int) -> Handshake:
    return Handshake(Limits(**limits), find_voice, {"voice": "bob"})


def cartesia(context_id: str, transcript: str, voice: str = "male", **more) -> str:
    body = {"transcript": transcript, "voice": voice, "output_format": RAW, "continue": True}
    return json.dumps({"context_id": context_id, **body, **more})


def until_refused(action: Callable[[], object], times: int = 200) -> WireError:
    for _ in range(times):
        try:
            action()
        except WireError as problem:
            return problem
    raise AssertionError("nothing was refused")


# Cartesia's contexts


async def test_contexts_without_text_count_and_their_ids_are_short():
    async with running_server() as server, open_socket(server, path="tts/websocket") as socket:
        for number in range(20):
            await socket.send(cartesia(f"{number}{LONG_ID}", ""))
            assert (await receive(socket))["error_code"] == "invalid_value"
        for number in range(Limits().max_contexts):
            await socket.send(cartesia(f"c{number}", ""))
        await socket.send(cartesia("more", ""))
        told = await receive(socket)
        assert (told["context_id"], told["error_code"]) == ("more", "too_many_contexts")
        (open_,) = server.sockets.connections
        assert set(open_._dialect._contexts) == {f"c{n}" for n in range(Limits().max_contexts)}
        await socket.send(json.dumps({"context_id": "c0", "cancel": True}))
        await socket.send(cartesia("more", "Two.", **{"continue": False}))
        assert (await receive(socket))["type"] == "chunk"


async def test_a_first_message_that_is_half_refused_is_spoken_and_done():
    """Its flush has no room; its end is done all the same."""
    async with running_server(max_waiting_bytes=1200) as server:
        async with Talk(server, Cartesia()) as talk:
            last = {"flush": True, "continue": False}
            await talk.socket.send(cartesia("c", "Two one four", **last))
            told = await talk.hear_until("done")
    assert [heard.code for heard in told if heard.kind == "problem"] == ["too_much_waiting"]
    assert len(from_s16(audio_of(told))) > 0


def test_a_context_whose_first_message_was_half_refused_is_known():
    half = Problem(InvalidRequest("no room"), "c")
    dialect = CartesiaDialect(handshake())
    (append,) = dialect.receive(cartesia("c", "Hi", "bob"))
    dialect.write(Begun("c"))
    dialect.write(half)
    audio = Audio("c", append.opening.settings, 0, 80, b"\0\1")
    assert json.loads(dialect.write(audio)[0])["type"] == "chunk"
    assert json.loads(dialect.write(Done("c", 80))[0])["type"] == "done"

    labs = MultiStreamInput(handshake())
    labs.receive('{"text": "Hi", "context_id": "c", "flush": true}')
    labs.write(Begun("c"))
    labs.write(half)
    assert labs.receive('{"close_context": true, "context_id": "c"}') == [End("c")]
    for dialect in (CartesiaDialect(handshake()), labs):
        dialect.receive(cartesia("d", "Hi", "bob"))
        dialect.write(replace(half, context_id="d"))
    assert dialect.receive('{"close_context": true, "context_id": "d"}') == []


# Wyoming's texts


def wyoming(kind: str, **data: str) -> str:
    return json.dumps({"type": kind, "data": data})


def test_the_next_text_is_no_longer_than_any():
    dialect = WyomingDialect(handshake())
    dialect.receive(wyoming("synthesize", text="One."))
    dialect.receive(wyoming("synthesize-start"))
    assert dialect.receive(wyoming("synthesize-chunk", text="x" * 20_000)) == []
    (refuse,) = dialect.receive(wyoming("synthesize-chunk", text="x"))
    assert refuse.error.code == "text_too_long"


def test_letters_of_the_next_text_are_one_text():
    dialect = WyomingDialect(handshake())
    dialect.receive(wyoming("synthesize", text="One."))
    dialect.receive(wyoming("synthesize-start"))
    before = dialect.kept_bytes
    for _ in range(1000):
        dialect.receive(wyoming("synthesize-chunk", text="x"))
        dialect.receive(wyoming("synthesize-chunk", text=""))
    assert before < dialect.kept_bytes < before + 2000
    (append,) = dialect.follow(Done("1", 0))
    assert append.text == "x" * 1000


async def test_all_that_wait_on_a_connection_have_one_bound():
    limits = {"max_waiting_bytes": 60_000, "wyoming_port": 0}
    async with running_server(SteppedEngine(), **limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        for _ in range(10):
            writer.write(wyoming("synthesize", text="x" * 10_000).encode() + b"\n")
        told = json.loads(await reader.readline())
        while told["type"] != "error":
            told = json.loads(await reader.readline())
        assert told["data"]["code"] == "too_much_waiting"
        assert await reader.read() == b""
        writer.close()


# The basic endpoint's requests


@pytest.mark.parametrize(
    "request_",
    [
        {"text": "x" * 20_000},
        {"command": "info", "request_id": "r" * 250_000},
        {"text": "", "request_id": "r" * 250_000},
        {"text": "Hi", "voice": "v" * 250_000},
        {"text": "Hi", "pronunciations": DICTIONARY},
        {
            "text": "Hi",
            "context": [{"text": "a", "audio": base64.b64encode(b"a" * 150_000).decode()}],
        },
        {"text": "Hi", "context": [{"text": "a" * 20_000, "audio": "YQ=="}] * 10},
    ],
    ids=["text", "info", "refusal", "voice", "dictionary", "audio", "context"],
)
def test_requests_that_wait_have_one_bound(request_):
    connection = Connection(Limits(max_waiting_bytes=1_000_000, max_message_bytes=100_000))
    problem = until_refused(lambda: connection.receive(json.dumps(request_)))
    assert isinstance(problem, OverCapacity)
    assert problem.code == "too_much_waiting"
    before = len(connection.waiting)
    connection.next_turn()
    assert connection.receive(json.dumps(request_)) is None
    assert len(connection.waiting) == before


async def test_who_has_too_much_waiting_is_told_and_closed():
    engine = SteppedEngine()
    async with running_server(engine, max_waiting_bytes=100_000) as server:
        async with open_socket(server) as socket:
            for _ in range(10):
                await send(socket, text="Two. " * 4000)
            told = await receive(socket)
            assert (told["code"], "retry_after_ms" in told) == ("too_much_waiting", True)


# Sessions


def opening(entries: dict[str, str]) -> Opening:
    reading = ReadingOptions(lexicon=Lexicon(entries))
    return Opening(ContextSettings(VOICES["ann"], reading=reading))


def test_a_dictionary_counts_for_each_context_that_has_it():
    size = opening(DICTIONARY).settings.reading.lexicon.size_bytes
    assert size > 400_000
    contexts = Contexts(Limits(max_waiting_bytes=3 * size), new_reader)
    for name in "ab":
        contexts.take(Append(name, "Hi. ", opening(DICTIONARY)))
    with pytest.raises(WireError) as caught:
        contexts.take(Append("c", "Hi. ", opening(DICTIONARY)))
    assert caught.value.code == "too_much_waiting"
    contexts.finish("a")
    contexts.take(Append("c", "Hi. ", opening(DICTIONARY)))


def test_what_waits_has_its_contexts_dictionary_and_none_of_its_own():
    contexts = Contexts(Limits(), new_reader)
    first = opening({})
    contexts.take(Append("a", "Hi. ", first))
    (item,) = contexts.take(Listen("a", Said("a", b"x", 0), opening(DICTIONARY)))
    assert item == Listen("a", Said("a", b"x", 0), first)


async def test_a_sessions_own_dictionary_counts_too():
    async with running_server(max_waiting_bytes=100_000) as server:
        async with open_socket(server, path="v1/stream") as socket:
            await receive(socket)
            some = dict(list(DICTIONARY.items())[:1000])
            await send(socket, type="session.update", pronunciations=some)
            assert (await receive(socket))["type"] == "session.updated"
            assert (await receive(socket))["code"] == "too_much_waiting"


def test_only_audio_may_be_as_large_as_audio():
    dialect = NativeDialect(handshake())
    large = {f"w{number}": "x" * 180 for number in range(2000)}
    (refuse,) = dialect.receive(json.dumps({"type": "session.update", "pronunciations": large}))
    assert refuse.error.code == "message_too_big"


@pytest.mark.parametrize(
    ("reading", "begin", "mark"),
    [
        (ReadingOptions(tags=True), "a ", '<break time="1ms"/> '),
        (ReadingOptions(ssml=True), "<speak>a ", '<phoneme alphabet="ipa" ph="x"></phoneme>'),
    ],
)
def test_pauses_and_pronunciations_in_half_a_sentence_count(reading, begin, mark):
    """They are no characters, and were taken without end."""
    contexts = Contexts(Limits(max_waiting_bytes=100_000), new_reader)
    first = Opening(ContextSettings(VOICES["ann"], reading=reading))
    contexts.take(Append("a", begin, first))
    problem = until_refused(lambda: contexts.take(Append("a", mark, first)))
    assert problem.code == "too_much_waiting"


def test_who_has_nothing_waiting_has_room():
    contexts = Contexts(Limits(max_waiting_bytes=5000), new_reader)
    for number in range(100):
        name = str(number)
        for item in contexts.take(Append(name, "One. Two. ", opening({}))):
            contexts.find(name).taken(item)
            contexts.find(name).spoken(item)
        for item in contexts.take(Flush(name, "f", may_be_empty=True)):
            contexts.find(name).taken(item)
        contexts.finish(name)


def test_dialects_count_what_they_keep():
    labs = MultiStreamInput(handshake())
    before = labs.kept_bytes
    labs.receive(json.dumps({"text": "a", "context_id": "c" * 100}))
    labs.write(Begun("c" * 100))
    assert labs.kept_bytes > before + 100
    labs.write(Done("c" * 100, 0))
    assert labs.kept_bytes == before
