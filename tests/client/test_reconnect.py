"""A session that goes on where its server ended and is back on the same port."""

from __future__ import annotations

import asyncio

import pytest

import ears
from servers import SteppedEngine, running_server
from tts_provider import AsyncTTSClient, ConnectionFailed, RequestFailed, ServerBusy, TTSClientError
from tts_provider.audio.pcm import from_s16


def session_of(server, attempts=5, **settings):
    client = AsyncTTSClient(f"ws://127.0.0.1:{server.port}", attempts=attempts)
    return client.session(reconnect=True, **settings)


async def say(speech, text, **fields) -> bytes:
    speech.append(text, **fields)
    speech.end()
    return b"".join([audio async for audio in speech])


async def test_the_next_turn_is_spoken_as_the_session_was_set():
    async with running_server() as server:
        speech = await session_of(server, voice="female", words=True).__aenter__()
        await say(speech, "One.")
        await say(speech, "Two.")
    try:
        async with running_server(port=server.port):
            audio = from_s16(await say(speech, "Four five six."))
            assert ears.hear_digits(audio) == ["four", "five", "six"]
            assert ears.median_pitch_hz(audio) > 150
            assert [word.text for word in speech.words] == ["Four", "five", "six."]
            (loss,) = speech.losses
            assert isinstance(loss.error, TTSClientError)
            assert loss.error.is_retryable
            assert (loss.turns_forgotten, loss.is_turn_lost) == (2, False)
            # The conversation goes on over the new connection, of which it knows.
            man = from_s16(await say(speech, "Four.", voice="male"))
            assert ears.median_pitch_hz(man) < 150
            assert (await speech.interrupt(0)).unheard == "Four."
            assert len(speech.losses) == 1
    finally:
        await speech.__aexit__(None, None, None)


async def test_a_turn_that_is_begun_while_nobody_is_there_waits_for_the_server():
    async with running_server() as server:
        speech = await session_of(server).__aenter__()
    try:
        saying = asyncio.create_task(say(speech, "One two three."))
        while not speech.losses:
            await asyncio.sleep(0)
        async with running_server(port=server.port):
            assert ears.hear_digits(from_s16(await saying)) == ["one", "two", "three"]
    finally:
        await speech.__aexit__(None, None, None)


async def test_a_turn_of_which_nothing_was_spoken_is_told_again():
    """It was under way to a server that ended before it spoke."""
    engine = SteppedEngine()
    async with running_server(engine, drain_timeout_s=0) as server:
        speech = await session_of(server).__aenter__()
        speech.append("One two ")
        speech.append("three.", voice="female")
        speech.end()
        while not engine.waiting:
            await asyncio.sleep(0)
    try:
        async with running_server(port=server.port):
            audio = from_s16(b"".join([piece async for piece in speech]))
            assert ears.hear_digits(audio) == ["one", "two", "three"]
            (loss,) = speech.losses
            assert (loss.turns_forgotten, loss.is_turn_lost) == (0, False)
    finally:
        await speech.__aexit__(None, None, None)


async def test_a_turn_that_was_being_spoken_fails_and_the_next_one_does_not():
    engine = SteppedEngine()
    async with running_server(engine, drain_timeout_s=0) as server:
        speech = await session_of(server).__aenter__()
        speech.append("One two three four five.")
        hearing = aiter(speech)
        engine.allow(1)
        assert len(await anext(hearing)) > 0
    try:
        with pytest.raises((ConnectionFailed, ServerBusy)) as told:
            async for _ in hearing:
                pass
        with pytest.raises((ConnectionFailed, ServerBusy)):
            await speech.interrupt(80)  # the server that knew is gone
        async with running_server(port=server.port):
            audio = from_s16(await say(speech, "Four five six."))
            assert ears.hear_digits(audio) == ["four", "five", "six"]
            (loss,) = speech.losses
            assert loss.error is told.value
            assert (loss.turns_forgotten, loss.is_turn_lost) == (1, True)
    finally:
        await speech.__aexit__(None, None, None)


async def test_tries_are_bounded_and_then_the_session_is_over():
    async with running_server() as server:
        speech = await session_of(server, attempts=2).__aenter__()
    try:
        with pytest.raises(ConnectionFailed, match="cannot reach"):
            await say(speech, "One.")
        with pytest.raises(ConnectionFailed, match="cannot reach"):
            speech.append("Two.")
        assert len(speech.losses) == 1
    finally:
        await speech.__aexit__(None, None, None)


async def test_settings_that_the_server_refuses_now_end_it():
    async with running_server(voice_aliases="ann=female") as server:
        speech = await session_of(server, voice="ann").__aenter__()
    try:
        async with running_server(port=server.port):
            with pytest.raises(RequestFailed) as told:
                await say(speech, "One.")
            assert told.value.code == "unknown_voice"
    finally:
        await speech.__aexit__(None, None, None)


async def test_a_turn_by_which_the_connection_breaks_is_told_again_once():
    limits = dict.fromkeys(("max_message_bytes", "max_audio_message_bytes"), 1024)
    async with running_server(max_text_characters=100, **limits) as server:
        async with session_of(server) as speech:
            with pytest.raises(ConnectionFailed, match="1009"):
                await say(speech, "word " * 1000)
            assert [loss.is_turn_lost for loss in speech.losses] == [False, True]
            assert ears.hear_digits(from_s16(await say(speech, "Six."))) == ["six"]


async def test_without_being_asked_to_it_ends_with_its_connection():
    async with running_server() as server:
        client = AsyncTTSClient(f"ws://127.0.0.1:{server.port}")
        speech = await client.session().__aenter__()
        await say(speech, "One.")
    async with running_server(port=server.port):
        with pytest.raises((ConnectionFailed, ServerBusy)):
            await say(speech, "Two.")
        assert speech.losses == []
    await speech.__aexit__(None, None, None)
