"""An interruption tells what was heard: a player that is simulated stops at moments that are drawn,
and what was playing is known by the words' times."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from servers import SteppedEngine, ask, embedded_engine, open_socket, receive, running_server, send
from tts_provider import AsyncTTSClient, PlaybackBuffer
from tts_provider.client import Interruption, RequestFailed

TEXT = (
    "I am fine, thank you. It is a **bright** day, and I have $5 to spend. Do you know what I "
    "would buy? A kite, since the wind is good. Then I would walk to the hill. What about you?"
)
MANY = pytest.mark.slow("5 s each: 50 moments, where 12 are drawn in each run")


def client_of(server) -> AsyncTTSClient:
    return AsyncTTSClient(f"ws://127.0.0.1:{server.port}")


async def speak(speech, text=TEXT) -> int:
    """Milliseconds of the turn, all of which has arrived."""
    speech.append(text)
    speech.end()
    return sum([len(audio) async for audio in speech]) // 48


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("moments", [12, pytest.param(50, marks=MANY)])
async def test_what_was_heard_ends_at_the_word_that_was_playing(words, moments):
    """Without words there are those of the voice itself; both are exact."""
    draw = random.Random(35)
    async with running_server(embedded_engine()) as server, client_of(server) as client:
        async with client.session(words=True) as speech:
            length_ms = await speak(speech)
            told = speech.words
        near = 0
        async with client.session(words=words) as speech:
            for _ in range(moments):
                played_ms = draw.randrange(length_ms)
                await speak(speech)
                reply = await speech.interrupt(played_ms)
                assert reply.played_ms == played_ms
                near += is_near(reply, told)
        assert near == moments


def is_near(reply, told, text=TEXT) -> bool:
    """What is told as heard ends with the word that was playing, or one beside it."""
    assert reply.heard + reply.unheard == text
    started = sum(word.start_ms <= reply.played_ms for word in told)
    return abs(started - sum(word.end <= len(reply.heard) for word in told)) <= 1


@pytest.mark.parametrize("moments", [12, pytest.param(50, marks=MANY)])
async def test_after_an_interruption_there_is_silence_and_nobody_counts_by_hand(moments):
    """A device takes 20 ms at a time. It is interrupted behind a block that is drawn, and what it
    takes from then on is counted in bytes."""
    draw, text = random.Random(36), "Do you know what I would buy? A **kite**."
    async with running_server(embedded_engine()) as server, client_of(server) as client:
        async with client.session(words=True) as speech:
            length_ms = await speak(speech, text)
            told = speech.words
            buffer, near, longest_bytes = PlaybackBuffer(), 0, 0
            for _ in range(moments):
                speech.append(text)
                speech.end()
                await speech.play(buffer)
                blocks = draw.randrange(1, length_ms // 20)
                assert any(b"".join([buffer.take(960) for _ in range(blocks)]))
                interrupting = asyncio.create_task(speech.interrupt())
                left_bytes = 0
                while not interrupting.done():
                    await asyncio.sleep(0)
                    left_bytes += len(buffer.take(960).strip(b"\0"))
                reply = interrupting.result()
                assert reply.played_ms == 20 * blocks
                longest_bytes = max(longest_bytes, left_bytes)
                near += is_near(reply, told, text)
        assert near == moments
        # With the block that the device is at, 50 ms at most.
        assert longest_bytes <= (50 - 20) * 48


async def test_a_turn_that_is_still_spoken_is_interrupted_to_the_word_it_is_at():
    engine = SteppedEngine()
    async with running_server(engine) as server, client_of(server).session() as speech:
        speech.append("One two three four five six seven eight nine ten. And so on.")
        arrived_ms, heard = 0, asyncio.Event()

        async def listen() -> None:
            nonlocal arrived_ms
            async for audio in speech:
                arrived_ms += len(audio) // 48
                heard.set()

        listening = asyncio.create_task(listen())
        engine.allow(1)
        await heard.wait()
        reply = await speech.interrupt(80)
        await listening
        assert arrived_ms == 80
        assert reply.heard in ("", "One")
        assert reply.unheard.endswith("And so on.")
        assert await speech.interrupt(0) == Interruption(0, "", reply.heard + reply.unheard)
        engine.allow()
        assert await speak(speech, "Next.") > 0
        assert (await speech.interrupt(10_000)).heard == "Next."


async def test_nothing_was_said_and_nothing_was_begun():
    async with running_server() as server, client_of(server).session() as speech:
        assert await speech.interrupt() == Interruption(0, "", "")
        speech.append("Never")  # its sentence does not end
        assert await speech.interrupt() == Interruption(0, "", "Never")
        await speak(speech, "One.")
        await speech.cancel()
        await speak(speech, "Two.")
        assert (await speech.interrupt(0)).unheard == "Two."
        with pytest.raises(RequestFailed, match="nothing that can be spoken"):
            await speak(speech, "...")
        assert await speak(speech, "Three.") > 0


async def test_what_cannot_be_interrupted_or_gone_on_with():
    async with running_server() as server, open_socket(server, path="v1/stream") as socket:
        await receive(socket)
        unknown = {"type": "context.interrupt", "context_id": "a", "played_ms": 1}
        assert (await ask(socket, **unknown))["code"] == "unknown_context"
        append = {"type": "input_text.append", "text": "Never", "context_id": "a"}
        await send(socket, **append)
        for context_id, continues, code in (
            ("a", "b", "invalid_value"),
            ("c", "a", "unknown_context"),
            ("c", "b", "unknown_context"),
        ):
            told = await ask(socket, **{**append, "context_id": context_id, "continues": continues})
            assert (told["code"], told["param"]) == (code, "continues"), told
        assert (await ask(socket, **unknown))["unheard"] == "Never"
        await send(socket, **{**append, "context_id": "c", "continues": "a"})
        assert (await ask(socket, **{**unknown, "context_id": "c"}))["heard"] == ""


async def test_a_buffer_counts_what_a_device_takes():
    async with running_server() as server, client_of(server).session() as speech:
        buffer = PlaybackBuffer()
        speech.append("One two three. Four five six.")
        speech.end()
        await speech.play(buffer)
        length_ms = buffer.waiting_ms
        device = threading.Thread(target=lambda: [buffer.take(960) for _ in range(30)])
        device.start()
        device.join()
        assert (buffer.played_ms, buffer.waiting_ms) == (600, length_ms - 600)
        reply = await speech.interrupt()
        assert reply.played_ms == 600
        assert "One two three. Four five six.".startswith(reply.heard.strip())
        assert 0 < len(reply.heard) < 20
        assert buffer.waiting_ms == buffer.played_ms == 0
        assert buffer.take(960) == bytes(960)  # silence, at once
        assert buffer.played_ms == 0


def test_a_buffer_gives_silence_of_its_format_and_minds_the_device():
    buffer = PlaybackBuffer("mulaw", 8000, latency_ms=20)
    buffer.add(b"a" * 400)
    assert buffer.take(480) == b"a" * 400 + b"\xff" * 80
    assert buffer.played_ms == 30
    with pytest.raises(ValueError, match="pcm, mulaw, alaw"):
        PlaybackBuffer("opus")
