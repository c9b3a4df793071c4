"""The client's speech session, against a real server."""

from __future__ import annotations

import asyncio

import pytest

import ears
from servers import SteppedEngine, running_server
from tts_provider import AsyncTTSClient, ConnectionFailed, RequestFailed, ServerBusy
from tts_provider.audio.pcm import from_s16
from tts_provider.client import SpokenText, SpokenWord

LONG_TEXT = "This is one sentence of many. " * 300


def client_of(server, **options) -> AsyncTTSClient:
    return AsyncTTSClient(f"ws://127.0.0.1:{server.port}", **options)


async def test_words_go_in_and_audio_comes_out():
    async with running_server() as server, client_of(server).session(voice="female") as speech:
        assert speech.info["engine"] == "espeak"
        for piece in ("one tw", "o three.", " Four", " five"):
            speech.append(piece)
        speech.end()
        audio = from_s16(b"".join([chunk async for chunk in speech]))
        assert ears.hear_digits(audio) == ["one", "two", "three", "four", "five"]
        assert ears.median_pitch_hz(audio) > 150
        first, second = speech.segments
        assert (first.text, second.text) == ("one two three.", "Four five")
        assert first.end_ms == second.start_ms
        assert isinstance(first, SpokenText)


async def test_words_have_their_times_where_they_are_asked_for():
    async with running_server() as server:
        async with client_of(server).session(words=True) as speech:
            for text in ("It is **$5**. Dr. Who?", "Next."):
                speech.append(text)
                speech.end()
                samples = sum([len(chunk) async for chunk in speech]) // 2
                assert [word.text for word in speech.words] == text.replace("*", "").split()
                assert all(isinstance(word, SpokenWord) for word in speech.words)
                assert not any(word.is_estimated for word in speech.words)
                assert text[speech.words[-1].start : speech.words[-1].end] == text.split()[-1]
                assert 0 < speech.words[-1].end_ms <= samples // 24
        async with client_of(server).session() as speech:
            speech.append("Next.")
            speech.end()
            assert [chunk async for chunk in speech]
            assert speech.words == []


async def test_a_turn_in_two_voices():
    async with running_server() as server, client_of(server).session(words=True) as speech:
        speech.append("One two", voice="male")
        speech.append("three", voice="female")
        speech.end()
        assert [chunk async for chunk in speech]
        assert [(part.text, part.voice) for part in speech.segments] == [
            ("One two", ""),
            ("three", "female"),
        ]
        assert [word.voice for word in speech.words] == ["", "", "female"]


async def test_who_iterates_first_waits_for_the_first_text():
    async with running_server() as server, client_of(server).session() as speech:
        for word in ("one", "two"):
            hearing = asyncio.create_task(hear(speech))
            await asyncio.sleep(0)
            speech.append(word)
            speech.end()
            assert ears.hear_digits(await hearing) == [word]
        speech.append("Never.")
        await speech.cancel()
        assert len(await hear(speech)) == 0
        waiting = asyncio.create_task(hear(speech))
        await asyncio.sleep(0)
    with pytest.raises(ConnectionFailed, match="the session was closed"):
        await waiting


async def test_what_is_raised_has_a_code_and_says_whether_to_try_again():
    async with running_server() as server:
        client = client_of(server)
        with pytest.raises(TypeError, match=r"no option 'rate'; expected one of voice, .*speed"):
            await client.speak("Hello.", rate=2)
        with pytest.raises(TypeError, match="pause_ms"):
            client.stream("Hello.", pause_ms=2)
        with pytest.raises(RequestFailed) as refused:
            await client.speak("Hello.", voice="siri")
        assert (refused.value.code, refused.value.is_retryable) == ("unknown_voice", False)
        await client.close()
    with pytest.raises(ConnectionFailed) as failed:
        await client.speak("Hello.")
    assert (failed.value.code, failed.value.is_retryable) == ("connection_failed", True)
    async with running_server(idle_timeout_s=0.05) as server:
        async with client_of(server).session() as speech:
            with pytest.raises(ConnectionFailed, match="nothing was asked for") as closed:
                await hear(speech)
    assert closed.value.is_retryable


async def hear(speech):
    return from_s16(b"".join([chunk async for chunk in speech]))


async def test_turn_after_turn():
    async with running_server() as server, client_of(server).session() as speech:
        for word in ("one", "two"):
            speech.append(word * 1)
            speech.end()
            audio = from_s16(b"".join([chunk async for chunk in speech]))
            assert ears.hear_digits(audio) == [word]


async def test_a_turn_is_interrupted_from_another_task():
    engine = SteppedEngine()
    async with running_server(engine) as server, client_of(server).session() as speech:
        speech.append(LONG_TEXT)
        heard = asyncio.Event()

        async def listen() -> int:
            count = 0
            async for _ in speech:
                heard.set()
                count += 1
            return count

        listening = asyncio.create_task(listen())
        engine.allow(3)
        await heard.wait()
        await speech.cancel()
        assert await listening >= 1
        engine.allow()
        speech.append("one two three")
        speech.end()
        audio = from_s16(b"".join([chunk async for chunk in speech]))
        assert ears.hear_digits(audio) == ["one", "two", "three"]


async def test_a_flush_speaks_half_a_sentence():
    async with running_server(clause_pause_s=1000) as server:
        async with client_of(server).session() as speech:
            speech.append("one two")
            speech.flush()
            async for _ in speech:
                break
            speech.end()


async def test_what_is_wrong_is_raised():
    async with running_server() as server:
        with pytest.raises(RequestFailed, match="no voice 'nobody'"):
            async with client_of(server).session(voice="nobody"):
                pass
        async with client_of(server).session() as speech:
            with pytest.raises(RuntimeError, match="append text"):
                speech.flush()
            speech.append("Half of ")
            speech.append("x" * 30_000)
            speech.end()
            with pytest.raises(RuntimeError, match="was ended"):
                speech.append("more")
            with pytest.raises(RequestFailed, match="limit is 20000") as caught:
                async for _ in speech:
                    pass
            assert caught.value.code == "text_too_long"
    with pytest.raises(ConnectionFailed, match="cannot reach"):
        async with AsyncTTSClient(f"ws://127.0.0.1:{server.port}").session():
            pass


async def test_a_turn_refused_at_its_first_word_is_over():
    async with running_server() as server, client_of(server).session() as speech:
        speech.append("Bad \x01 text.")
        with pytest.raises(RequestFailed, match="control character"):
            async for _ in speech:
                pass
        speech.append("one two three")
        speech.end()
        audio = from_s16(b"".join([chunk async for chunk in speech]))
        assert ears.hear_digits(audio) == ["one", "two", "three"]


async def test_what_was_not_heard_yet_is_not_dropped_by_the_next_turn():
    async with running_server() as server, client_of(server).session() as speech:
        speech.append("one two three four five six seven eight nine")
        speech.end()
        async for _ in speech:
            break
        while not speech._turn.over:
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="hear it to its end"):
            speech.append("next")
        assert len(b"".join([chunk async for chunk in speech])) > 48_000
        speech.append("next")


async def test_a_key_is_sent_and_missed():
    async with running_server(api_keys=("secret",)) as server:
        with pytest.raises(ConnectionFailed, match="401"):
            async with client_of(server).session():
                pass
        async with client_of(server, api_key="secret").session() as speech:
            speech.append("one two three.")
            speech.end()
            assert b"".join([chunk async for chunk in speech])


async def test_a_full_server_is_busy():
    limits = {"max_streams": 1, "max_queued_requests": 0}
    engine = SteppedEngine()
    async with running_server(engine, **limits) as server:
        async with client_of(server).session() as first, client_of(server).session() as second:
            first.append("Hello there. And")
            engine.allow(1)
            async for _ in first:
                break
            second.append("Me too.")
            second.end()
            with pytest.raises(ServerBusy) as caught:
                async for _ in second:
                    pass
            assert caught.value.retry_after_s > 0
            engine.allow()


async def test_a_server_that_goes_away():
    engine = SteppedEngine()
    async with running_server(engine, drain_timeout_s=0) as server:
        async with client_of(server).session() as speech:
            speech.append(LONG_TEXT)
            engine.allow(1)
            async for _ in speech:
                break
            server.stop()
            with pytest.raises(ConnectionFailed, match="broke the connection"):
                async for _ in speech:
                    pass
            with pytest.raises(ConnectionFailed):
                speech.append("more")
