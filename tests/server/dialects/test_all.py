"""The same questions to every dialect, in its own words as far as it has words for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from websockets.exceptions import InvalidStatus

import ears
from servers import GatedEngine, SteppedEngine, running_server
from tts_provider.audio.pcm import from_s16
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import EngineFailed
from tts_provider.keys.store import KeyStore, Limits
from tts_provider.server.dialects import SOCKETS
from tts_provider.speech.engine import Sound, Utterance

from .tongues import NONSENSE, TONGUES, Heard, Talk, Tongue, audio_of

DIGITS = ["two", "one", "four"]
LONG_TEXT = "Seven eight nine three six. " * 200


def those(**abilities: bool) -> pytest.MarkDecorator:
    """The dialects that can do so."""
    chosen = [
        tongue
        for tongue in TONGUES
        if all(getattr(tongue, name) == value for name, value in abilities.items())
    ]
    return pytest.mark.parametrize("tongue", chosen, ids=lambda tongue: type(tongue).__name__)


def digits_of(told: list[Heard], context: str | None = None) -> list[str]:
    return ears.hear_digits(from_s16(audio_of(told, context)))


def outcomes(server, tongue: Tongue) -> dict[str, float]:
    """How many of the dialect's requests ended in each way."""
    (metric,) = server.service.metrics.requests.collect()
    return {
        sample.labels["outcome"]: sample.value
        for sample in metric.samples
        if sample.name.endswith("_total")
        and sample.labels["endpoint"] == SOCKETS[tongue.route].name
    }


def test_every_dialect_is_asked():
    assert {tongue.route for tongue in TONGUES} == set(SOCKETS)


@those()
async def test_a_text_in_pieces_is_heard_and_counted(tongue):
    async with running_server() as server:
        async with Talk(server, tongue) as talk:
            await talk.say("a", "Tw", "o one fo", "ur.")
            await talk.end("a")
            told = await talk.hear_until("done")
        await server.sockets.wait_closed()
        assert digits_of(told) == DIGITS
        assert "problem" not in [heard.kind for heard in told]
        assert outcomes(server, tongue) == {"spoken": 1}


@those(has_contexts=True)
async def test_two_contexts_at_once(tongue):
    async with running_server() as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one ")
        await talk.say("b", "Nine ")
        await talk.say("a", "four.")
        await talk.say("b", "six.")
        await talk.end("a")
        await talk.end("b")
        told = await talk.hear_until("done") + await talk.hear_until("done")
    assert digits_of(told, "a") == DIGITS
    assert digits_of(told, "b") == ["nine", "six"]
    assert sorted(heard.context or "" for heard in told if heard.kind == "done") == ["a", "b"]


@those(can_cancel=True)
async def test_nothing_comes_after_a_cancel_and_the_next_is_spoken(tongue):
    async with running_server() as server:
        async with Talk(server, tongue) as talk:
            await talk.say("a", LONG_TEXT)
            await talk.hear_until("audio")
            await talk.cancel("a")
            await talk.socket.send(NONSENSE)  # its answer is behind the cancel, whatever that has
            await talk.hear_until("problem")
            await talk.say("b", "Two one four.")
            await talk.end("b")
            told = await talk.hear_until("done", "closed")
        await server.sockets.wait_closed()
        assert digits_of(told) == DIGITS
        assert "a" not in [heard.context for heard in told]
        assert outcomes(server, tongue) == {"cancelled": 1, "spoken": 1}


@those(answers_flush=True)
async def test_a_flush_is_answered_after_its_audio(tongue):
    async with running_server(clause_pause_s=1000.0) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one four")
        await talk.flush("a")
        assert digits_of(await talk.hear_until("flushed")) == DIGITS
        await talk.say("a", "nine")
        await talk.flush("a")
        assert digits_of(await talk.hear_until("flushed")) == ["nine"]


@those(answers_flush=False)
async def test_a_flush_speaks_what_is_there(tongue):
    async with running_server(clause_pause_s=1000.0) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one four")
        await talk.flush("a")
        assert await talk.hear_until("audio")


@those()
async def test_a_wrong_key_does_not_come_in(tongue):
    async with running_server(api_keys="right") as server:
        with pytest.raises(InvalidStatus) as caught:
            async with Talk(server, tongue, key="wrong"):
                pass
        assert caught.value.response.status_code == 401
        assert isinstance(json.loads(caught.value.response.body), dict)
        async with Talk(server, tongue, key="right") as talk:
            await talk.say("a", "Two one four.")
            await talk.end("a")
            assert digits_of(await talk.hear_until("done")) == DIGITS


@those(has_voice_in_address=False)
async def test_a_voice_that_is_not_here(tongue):
    async with running_server() as server, Talk(server, tongue, voice="nobody") as talk:
        await talk.say("a", "Two.")
        assert (await talk.hear()).code == "unknown_voice"
        if tongue.goes_on:
            await talk.socket.send(NONSENSE)
            assert (await talk.hear()).kind == "problem"
        else:
            assert (await talk.hear()).kind == "closed"


@those(has_voice_in_address=True)
async def test_an_address_with_a_voice_that_is_not_here(tongue):
    async with running_server() as server:
        with pytest.raises(InvalidStatus) as caught:
            async with Talk(server, tongue, voice="nobody"):
                pass
        assert caught.value.response.status_code == 400
        assert b"there is no voice 'nobody'" in caught.value.response.body


@those(goes_on=True)
@pytest.mark.parametrize("message", [NONSENSE, "[]", "{}", '{"type": 5, "text": []}'])
async def test_what_is_no_message_is_said_and_nothing_is_lost(tongue, message):
    async with running_server() as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one ")
        await talk.socket.send(message)
        if message != "{}" or not tongue.is_empty_fine:
            assert (await talk.hear()).kind == "problem"
        await talk.say("a", "four.")
        await talk.end("a")
        told = await talk.hear_until("done")
        assert digits_of(told) == DIGITS


@those(goes_on=True)
async def test_a_text_that_is_refused_leaves_its_context(tongue):
    async with running_server(max_text_characters=100) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one ")
        for text, code in [("\0", "invalid_text"), ("x" * 101, "text_too_long")]:
            await talk.say("a", text)
            assert (await talk.hear()).code == code
        await talk.say("a", "four.")
        await talk.end("a")
        assert digits_of(await talk.hear_until("done")) == DIGITS


@those(has_contexts=True)
async def test_one_context_too_many_is_refused_and_the_others_go_on(tongue):
    async with running_server(max_contexts=1) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one ")
        await talk.say("b", "Nine.")
        refusal = await talk.hear()
        assert (refusal.code, refusal.context) == ("too_many_contexts", "b")
        await talk.say("a", "four.")
        await talk.end("a")
        assert digits_of(await talk.hear_until("done")) == DIGITS
        await talk.say("b", "Nine six.")
        await talk.end("b")
        told = await talk.hear_until("done")
        assert digits_of(told) == ["nine", "six"]
        assert told[-1] == Heard("done", "b")


@those(has_contexts=True)
async def test_text_after_the_end(tongue):
    async with running_server() as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one four.")
        await talk.end("a")
        await talk.say("a", "More.")
        told = await talk.hear_until("done")
        problems = [heard for heard in told if heard.kind == "problem"]
        if not problems:
            problems = [await talk.hear()]
        assert problems[0].code in ("context_ended", "context_finished")
        assert digits_of(told) == DIGITS


@those()
async def test_binary_messages_end_the_connection(tongue):
    async with running_server() as server, Talk(server, tongue) as talk:
        await talk.socket.send(b"audio")
        *_, problem, closed = await talk.hear_until("closed")
        assert (problem.code, closed.code) == ("binary_not_expected", 1003)


@those()
async def test_what_is_asked_while_the_model_loads_is_spoken_then(tongue):
    engine = GatedEngine()
    async with running_server(engine) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one four.")
        await talk.end("a")
        while not server.service.admission.queued:
            await asyncio.sleep(0)
        engine.gate.set_result(None)
        assert digits_of(await talk.hear_until("done")) == DIGITS


@those()
async def test_a_turn_that_began_is_finished_while_the_server_drains(tongue):
    engine = SteppedEngine()
    async with running_server(engine) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Two one four. ")
        engine.allow(1)
        told = await talk.hear_until("audio")
        server.stop()
        while server.service.admission.refusal is None:
            await asyncio.sleep(0)
        engine.allow()
        told += await talk.hear_until("closed")
        assert digits_of(told) == DIGITS
        assert told[-1].code == 1012


@those()
async def test_who_does_not_listen_is_cut_off_and_others_are_served(tongue):
    limits = {"max_unsent_audio_s": 0.2, "max_ahead_s": 10_000.0}
    async with running_server(**limits) as server:
        deaf = Talk(server, tongue)
        async with deaf:
            deaf.socket.transport.pause_reading()
            await deaf.say("a", LONG_TEXT * 3)
            await server.sockets.wait_closed()
            assert "unsent_audio" in server.service.metrics.render().decode()
            async with Talk(server, tongue) as talk:
                await talk.say("a", "Two one four.")
                await talk.end("a")
                assert digits_of(await talk.hear_until("done")) == DIGITS
            deaf.socket.transport.resume_reading()
        await server.sockets.wait_closed()


@those()
async def test_who_vanishes_leaves_no_work(tongue):
    engine = SteppedEngine()
    async with running_server(engine) as server:
        async with Talk(server, tongue) as talk:
            await talk.say("a", LONG_TEXT)
            engine.allow(1)
            await talk.hear_until("audio")
            talk.socket.transport.abort()
        await server.sockets.wait_closed()
        engine.allow()
        await server.service.admission.wait_idle()
        assert engine.chunks_made <= 3


class BreakingEngine(EspeakEngine):
    """It breaks at the word "seven"."""

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        if "seven" in utterance.text.lower():
            raise EngineFailed("the engine broke")
        async for chunk in super().speak(utterance):
            yield chunk


@those()
async def test_an_engine_that_breaks_is_told_and_the_next_is_spoken(tongue):
    async with running_server(BreakingEngine()) as server, Talk(server, tongue) as talk:
        await talk.say("a", "Seven. ")
        told = await talk.hear_until("problem")
        assert told[-1].code == "engine_failed"
        if not tongue.goes_on:
            assert (await talk.hear()).kind == "closed"
            return
        while outcomes(server, tongue) != {"engine_failed": 1}:
            await asyncio.sleep(0)
        await talk.say("b", "Two one four.")
        await talk.end("b")
        told = await talk.hear_until("done", context="b" if tongue.has_contexts else None)
        assert digits_of(told) == DIGITS


@those()
async def test_a_keys_limit_is_told_and_what_has_begun_is_finished(tongue, tmp_path):
    with KeyStore(tmp_path) as store:
        key = store.add("anna", limits=Limits(requests_per_minute=1))
    async with running_server(data_dir=tmp_path) as server:
        async with Talk(server, tongue, key=key) as first:
            await first.say("a", "Two one ")
            async with Talk(server, tongue, key=key) as second:
                await second.say("b", "Six.")
                await second.end("b")
                told = await second.hear_until("problem")
                assert (told[-1].kind, told[-1].code) == ("problem", "rate_limit_exceeded")
                assert audio_of(told) == b""
            await first.say("a", "four.")
            await first.end("a")
            told = await first.hear_until("done")
        assert digits_of(told) == DIGITS
        await server.sockets.wait_closed()
        assert server.service.allowances._streams == {}
