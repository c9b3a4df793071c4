"""`/v1/stream` over real sockets, with the real embedded voice."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import decoders
import ears
from servers import PATIENCE_S, GatedEngine, SteppedEngine, running_server
from tts_provider.audio.encode.encode import Output
from tts_provider.audio.pcm import from_s16
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.errors import EngineFailed
from tts_provider.server.lifecycle import Server
from tts_provider.server.service.pieces import PieceEncoder
from tts_provider.speech.engine import SAMPLE_RATE, Utterance
from tts_provider.waiting.pace import Pace

PATIENT = 1000.0  # no writer pauses so long
LONG_TEXT = "This is one sentence of many. " * 300


class Talk:
    """One connection to `/v1/stream`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def tell(self, kind: str, context_id: str | None = None, **fields: Any) -> None:
        context = {} if context_id is None else {"context_id": context_id}
        await self.socket.send(json.dumps({"type": kind, **context, **fields}))

    async def hear(self) -> dict[str, Any]:
        """The next message; binary audio joins the message before it."""
        body: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE_S))
        if body["type"] == "audio.delta":
            if "bytes" in body:
                data = await asyncio.wait_for(self.socket.recv(), PATIENCE_S)
                assert isinstance(data, bytes)
                assert len(data) == body["bytes"]
            else:
                data = base64.b64decode(body["audio"], validate=True)
            body["data"] = data
        return body

    async def hear_until(self, kind: str, context_id: str | None = None) -> list[dict[str, Any]]:
        heard = [await self.hear()]
        while heard[-1]["type"] != kind or (context_id and heard[-1]["context_id"] != context_id):
            heard.append(await self.hear())
        return heard

    async def speak(self, context_id: str, *texts: str) -> list[dict[str, Any]]:
        for text in texts:
            await self.tell("input_text.append", context_id, text=text)
        await self.tell("input_text.end", context_id)
        return await self.hear_until("context.done", context_id)


class TalkTo:
    def __init__(self, server: Server, **options: Any) -> None:
        url = f"ws://127.0.0.1:{server.port}/v1/stream"
        self._connect = connect(url, compression=None, max_size=None, **options)

    async def __aenter__(self) -> Talk:
        talk = Talk(await self._connect.__aenter__())
        self.created = await talk.hear()
        assert self.created["type"] == "session.created"
        return talk

    async def __aexit__(self, *error: Any) -> None:
        await self._connect.__aexit__(*error)


def audio_of(heard: list[dict[str, Any]], context_id: str) -> bytes:
    return b"".join(
        body["data"]
        for body in heard
        if body["type"] == "audio.delta" and body["context_id"] == context_id
    )


async def test_a_session_introduces_itself():
    async with running_server() as server:
        session = TalkTo(server)
        async with session:
            created = session.created
    assert created["engine"] == "espeak"
    assert created["sample_rate"] == 24_000
    assert [voice["id"] for voice in created["voices"]][:2] == ["male", "female"]
    assert created["limits"]["max_contexts"] == 8
    assert created["session_id"]


@pytest.mark.parametrize("way", ["binary", "base64"])
async def test_words_that_arrive_in_pieces_are_heard(way):
    async with running_server() as server, TalkTo(server) as talk:
        await talk.tell("session.update", audio=way)
        assert (await talk.hear())["audio"] == way
        heard = await talk.speak("turn", "one tw", "o thr", "ee. Fo", "ur five", " six")
    samples = from_s16(audio_of(heard, "turn"))
    assert ears.hear_digits(samples) == ["one", "two", "three", "four", "five", "six"]
    texts = [body["text"] for body in heard if body["type"] == "audio.segment"]
    assert texts == ["one two three.", "Four five six"]


async def test_the_timeline_has_no_gaps():
    async with running_server() as server, TalkTo(server) as talk:
        heard = await talk.speak("c", "Good day. This is a longer sentence, with a comma. Bye.")
    position, segment_end = 0, 0
    for body in heard:
        if body["type"] == "audio.delta":
            assert body["start_ms"] == position
            position += body["duration_ms"]
            assert abs(len(body["data"]) / 48 - body["duration_ms"]) < 1
        elif body["type"] == "audio.segment":
            # It comes after the last audio of what it names.
            assert (body["start_ms"], body["end_ms"]) == (segment_end, position)
            segment_end = position
    assert heard[-1] == {"type": "context.done", "context_id": "c", "audio_ms": position}
    assert len(audio_of(heard, "c")) // 48 == position


async def test_the_first_chunk_is_short_and_later_ones_grow():
    async with running_server() as server, TalkTo(server) as talk:
        heard = await talk.speak(
            "c", "This sentence is long enough to have several chunks, I hope."
        )
    durations = [body["duration_ms"] for body in heard if body["type"] == "audio.delta"]
    assert durations[:3] == [80, 160, 240]


async def test_however_the_text_is_cut_the_audio_is_the_same():
    text = "Dr. Who paid 3.50 today... \"Really?\" Yes!\n\nIt's 5 o'clock."
    cuts = [[text[:at], text[at:]] for at in range(len(text))] + [list(text)]
    async with running_server(clause_pause_s=PATIENT) as server, TalkTo(server) as talk:
        await talk.tell("session.update", audio="binary", seed=1)
        await talk.hear()
        whole = audio_of(await talk.speak("whole", text), "whole")
        assert len(whole) > 24_000
        for number, pieces in enumerate(cuts):
            heard = await talk.speak(str(number), *pieces)
            assert audio_of(heard, str(number)) == whole, pieces


@pytest.mark.parametrize(
    ("audio_format", "rate"), [("pcm", 8000), ("mulaw", 8000), ("alaw", 16_000), ("opus", 48_000)]
)
async def test_formats_of_a_session(audio_format, rate):
    async with running_server() as server, TalkTo(server) as talk:
        await talk.tell("session.update", format=audio_format, sample_rate=rate)
        await talk.hear()
        heard = await talk.speak("c", "one two three. Four five one.")
    samples, rate, _ = decoders.decode(audio_of(heard, "c"), audio_format, rate)
    # Every segment is encoded by itself: its end is exact, to within one sample of the rate.
    assert abs(1000 * len(samples) / rate - heard[-1]["audio_ms"]) < 2
    assert ears.hear_digits(samples, rate) == ["one", "two", "three", "four", "five", "one"]


async def test_a_flush_is_told_after_its_audio():
    async with running_server(clause_pause_s=PATIENT) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "c", text="No end mark here")
        await talk.tell("input_text.flush", "c", flush_id="one")
        await talk.tell("input_text.append", "c", text="nor here")
        await talk.tell("input_text.flush", "c")
        heard = await talk.hear_until("audio.flushed")
        assert heard[-1]["flush_id"] == "one"
        assert heard[-2]["type"] == "audio.segment"
        heard = await talk.hear_until("audio.flushed")
        assert heard[-1]["flush_id"] is None
        assert heard[-2]["text"] == "nor here"


async def test_a_writer_who_pauses_hears_a_clause():
    async with running_server(clause_pause_s=0.01) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "c", text="When it came at last, we w")
        heard = await talk.hear_until("audio.segment")
        assert heard[-1]["text"] == "When it came at last,"
        await talk.tell("input_text.append", "c", text="ent. And then.")
        heard = await talk.hear_until("audio.segment")
        assert heard[-1]["text"] == "we went."
        # Without a space after it, only the pause says that the sentence is over.
        heard = await talk.hear_until("audio.segment")
        assert heard[-1]["text"] == "And then."


async def test_contexts_are_spoken_side_by_side():
    engine = SteppedEngine()
    async with running_server(engine) as server, TalkTo(server) as talk:
        for name in "ab":
            await talk.tell("input_text.append", name, text="a long breath, and " * 10 + "on. Bye")
        while engine.waiting < 2:
            await asyncio.sleep(0)
        engine.allow(2)
        assert {(await talk.hear())["context_id"] for _ in range(2)} == {"a", "b"}
        engine.allow()
        for name in "ab":
            await talk.tell("context.cancel", name)


async def test_a_context_has_its_own_voice():
    async with running_server() as server, TalkTo(server) as talk:
        for name in ("male", "female"):
            await talk.tell("input_text.append", name, text="Good morning.", voice=name)
            await talk.tell("input_text.end", name)
        heard = await talk.hear_until("context.done")
        heard += await talk.hear_until("context.done")
    pitches = [ears.median_pitch_hz(from_s16(audio_of(heard, n))) for n in ("male", "female")]
    assert pitches[0] < 150 < pitches[1]


async def test_a_context_changes_its_voice():
    async with running_server() as server, TalkTo(server) as talk:
        await talk.tell("session.update", None, words=True)
        await talk.hear_until("session.updated")
        for voice, text in (("female", "Good morn"), ("female", "ing"), ("male", "Good night. ")):
            await talk.tell("input_text.append", "c", text=text, voice=voice)
        await talk.tell("input_text.append", "c", text="Bye.")  # in the voice that spoke last
        await talk.tell("input_text.append", "c", text="What?", voice="eve")
        await talk.tell("input_text.end", "c")
        heard = await talk.hear_until("context.done")
    (problem,) = [body for body in heard if body["type"] == "error"]
    assert (problem["code"], problem["context_id"]) == ("unknown_voice", "c")
    segments = [body for body in heard if body["type"] == "audio.segment"]
    assert [(body["text"], body.get("voice")) for body in segments] == [
        ("Good morning", None),
        ("Good night.", "male"),
        ("Bye.", "male"),
    ]
    samples = from_s16(audio_of(heard, "c"))
    for body in segments:
        part = samples[24 * body["start_ms"] : 24 * body["end_ms"]]
        assert (ears.median_pitch_hz(part) < 150) == (body.get("voice") == "male")
    words = [word for body in heard for word in body.get("words", ())]
    assert [(word["text"], word["from"], word.get("voice")) for word in words] == [
        ("Good", 0, None),
        ("morning", 5, None),
        ("Good", 12, "male"),
        ("night.", 17, "male"),
        ("Bye.", 24, "male"),
    ]


async def test_nothing_of_a_context_follows_its_cancellation():
    engine = SteppedEngine()
    async with running_server(engine) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "c", text=LONG_TEXT)
        engine.allow(3)
        heard = [await talk.hear(), await talk.hear()]
        await talk.tell("context.cancel", "c")
        heard += await talk.hear_until("context.cancelled")
        audio = sum(body["duration_ms"] for body in heard if body["type"] == "audio.delta")
        assert heard[-1] == {"type": "context.cancelled", "context_id": "c", "audio_ms": audio}
        engine.allow()
        # The next words on the wire are another context's.
        assert {b["context_id"] for b in await talk.speak("d", "Hello.")} == {"d"}
        assert server.service.admission.active == 0


@pytest.mark.parametrize(
    "clients",
    [3, pytest.param(20, marks=pytest.mark.slow("13 s: rare orders of a cancel and what it ends"))],
)
async def test_cancels_at_random_moments(clients):
    tasks = len(asyncio.all_tasks())
    rng = random.Random(0)
    async with running_server() as server:
        tasks_of_server = len(asyncio.all_tasks())
        descriptors = _descriptors()

        async def be_fickle(number: int) -> int:
            acknowledged: set[str] = set()
            async with TalkTo(server) as talk:
                await talk.tell("session.update", audio=rng.choice(["binary", "base64"]))
                for turn in range(50):
                    name = f"{number}-{turn}"
                    await talk.tell("input_text.append", name, text=LONG_TEXT[:3000])
                    for _ in range(rng.randrange(6)):
                        body = await talk.hear()
                        assert body.get("context_id") not in acknowledged
                    for _ in range(rng.randrange(20)):
                        await asyncio.sleep(0)
                    await talk.tell("context.cancel", name)
                    for body in await talk.hear_until("context.cancelled"):
                        assert body.get("context_id") not in acknowledged
                    acknowledged.add(name)
            return len(acknowledged)

        assert sum(await asyncio.gather(*(be_fickle(n) for n in range(clients)))) == 50 * clients
        await server.sockets.wait_closed()
        assert (server.service.admission.active, server.service.admission.queued) == (0, 0)
        await _settle(lambda: len(asyncio.all_tasks()) <= tasks_of_server)
        await _settle(lambda: _descriptors() <= descriptors)
        # And it still speaks.
        async with TalkTo(server) as talk:
            heard = await talk.speak("after", "one two three")
        assert ears.hear_digits(from_s16(audio_of(heard, "after"))) == ["one", "two", "three"]
    assert len(asyncio.all_tasks()) == tasks


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if sys.platform == "linux" else 0


async def _settle(is_so) -> None:
    """A closed socket's last callbacks run in the loop's next rounds."""
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be")


class BreakingEngine(EspeakEngine):
    """The embedded voice, which fails at one text."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def speak(self, utterance: Utterance):
        if "break" in utterance.text:
            raise self._error
        return super().speak(utterance)


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineFailed("the engine broke"), "engine_failed"), (ValueError("a bug"), "internal_error")],
)
async def test_a_context_that_fails_is_told_and_ends_and_the_next_one_speaks(error, code):
    async with running_server(BreakingEngine(error)) as server, TalkTo(server) as talk:
        heard = await talk.speak("a", "All is well. Now break.")
        (told,) = [body for body in heard if body["type"] == "error"]
        assert (told["code"], told["context_id"]) == (code, "a")
        assert "a bug" not in told["message"]
        heard = await talk.speak("b", "All is well.")
        assert not [body for body in heard if body["type"] == "error"]
        assert audio_of(heard, "b")


async def test_a_context_does_not_run_further_ahead_than_the_limit():
    async with running_server(max_ahead_s=0.5) as server, TalkTo(server) as talk:
        began = time.monotonic()
        await talk.tell("input_text.append", "c", text="One two three four. One two.")
        await talk.tell("input_text.end", "c")
        sent_s = 0.0
        while (body := await talk.hear())["type"] != "context.done":
            if body["type"] == "audio.delta":
                sent_s += body["duration_ms"] / 1000
                # True at any speed of the machine: the clock began before the audio did.
                assert sent_s <= 0.5 + (time.monotonic() - began)
        assert sent_s > 1.5


async def test_a_download_is_not_paced(monkeypatch):
    """A day ahead, whatever the server's own limit is: its timeline never waits for a listener."""
    ahead_s, wait = [], Pace.wait

    async def watched(pace: Pace, allowed_s: float) -> None:
        ahead_s.append(pace.ahead_s)
        assert pace.ahead_s <= allowed_s
        await wait(pace, allowed_s)

    async with running_server(max_ahead_s=1.0) as server, TalkTo(server) as talk:
        await talk.tell("session.update", None, max_ahead_ms=86_400_000)
        await talk.hear_until("session.updated")
        monkeypatch.setattr(Pace, "wait", watched)
        heard = await talk.speak("c", "One two three four five. " * 8)
        assert heard[-1]["type"] == "context.done"
        assert not [body for body in heard if body["type"] == "error"]
        assert max(ahead_s) > 1.0


async def test_who_is_far_ahead_leaves_the_engine_to_others():
    engine = EspeakEngine()
    async with running_server(engine, max_ahead_s=2.0) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "far", text=LONG_TEXT)
        heard_s = 0.0
        while heard_s < 1.0:
            body = await talk.hear()
            heard_s += body.get("duration_ms", 0) / 1000
        heard = await talk.speak("near", "one two three")
        assert any(body["context_id"] == "near" for body in heard)
        await talk.tell("context.cancel", "far")
        heard += await talk.hear_until("context.cancelled")
        far_s = sum(b.get("duration_ms", 0) for b in heard if b["context_id"] == "far") / 1000
        assert far_s < 60


async def test_who_is_far_ahead_holds_no_place():
    limits = {"max_streams": 1, "max_ahead_s": 2.0}
    async with running_server(**limits) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "far", text=LONG_TEXT)
        await talk.hear_until("audio.segment")
        heard = await talk.speak("near", "one two three")
        assert [b["text"] for b in heard if b["context_id"] == "near" and "text" in b]
        await talk.tell("context.cancel", "far")


async def test_what_was_sent_when_a_context_is_cancelled_is_counted():
    async with running_server() as server, TalkTo(server) as talk:
        for number, way in enumerate(["binary", "base64"] * 10):
            name = str(number)
            await talk.tell("session.update", audio=way)
            await talk.tell("input_text.append", name, text=LONG_TEXT)
            await talk.hear_until("audio.delta", name)
            await talk.tell("context.cancel", name)
            heard = [{"duration_ms": 80, "type": "audio.delta", "context_id": name}]
            heard += await talk.hear_until("context.cancelled")
            sent = sum(b["duration_ms"] for b in heard if b["type"] == "audio.delta")
            assert heard[-1]["audio_ms"] == sent


async def test_an_idle_context_does_not_hold_up_the_end():
    async with running_server() as server, TalkTo(server) as talk:
        await talk.speak("spoken", "Hello.")
        await talk.tell("input_text.append", "open", text="Good day. ")
        await talk.tell("input_text.flush", "open")
        await talk.hear_until("audio.flushed")
        server.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


async def test_half_a_sentence_of_who_was_not_heard_yet_does_not_hold_up_the_end():
    async with running_server() as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "open", text="Half a")
        server.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


async def test_a_load_that_fails_is_told_to_who_still_writes():
    engine = GatedEngine()
    async with running_server(engine) as server, TalkTo(server) as talk:
        await talk.hear()
        await talk.tell("input_text.append", "c", text="Half a")
        engine.gate.set_exception(OSError("the disk is gone"))
        error = await talk.hear()
        assert (error["type"], error["code"]) == ("error", "engine_failed")
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear_until("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


async def test_a_turn_that_began_waits_where_the_line_is_full():
    engine = SteppedEngine()
    limits = {"max_streams": 1, "max_queued_requests": 0}
    async with running_server(engine, **limits) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "first", text="Good day. Good n")
        engine.allow(30)
        await talk.hear_until("audio.segment")
        await talk.tell("input_text.append", "second", text="Hello there. And")
        while not server.service.admission.active:
            await asyncio.sleep(0)
        await talk.tell("input_text.append", "first", text="ight.")
        await talk.tell("input_text.end", "first")
        engine.allow()
        heard = await talk.hear_until("context.done")
        assert heard[-1]["context_id"] == "first"
        assert not [body for body in heard if body["type"] == "error"]


async def test_a_vanished_client_frees_its_work():
    engine = SteppedEngine()
    async with running_server(engine) as server:
        async with TalkTo(server) as talk:
            await talk.tell("input_text.append", "c", text=LONG_TEXT)
            engine.allow(1)
            await talk.hear()
            talk.socket.transport.abort()
        await server.sockets.wait_closed()
        engine.allow()
        await server.service.admission.wait_idle()
        assert engine.chunks_made <= 3


async def test_bad_messages_are_told_and_the_session_goes_on():
    async with running_server() as server, TalkTo(server) as talk:
        await talk.socket.send("nonsense")
        assert (await talk.hear())["code"] == "invalid_json"
        await talk.tell("input_text.flush", "ghost")
        error = await talk.hear()
        assert (error["code"], error["context_id"]) == ("unknown_context", "ghost")
        assert error["retryable"] is False
        heard = await talk.speak("c", "one two three")
        assert ears.hear_digits(from_s16(audio_of(heard, "c"))) == ["one", "two", "three"]
        await talk.tell("input_text.append", "c", text="more")
        assert (await talk.hear())["code"] == "context_finished"


async def test_a_context_with_nothing_to_speak():
    async with running_server() as server, TalkTo(server) as talk:
        heard = await talk.speak("c", "... ")
        assert [body["type"] for body in heard if body["type"] != "audio.delta"][-2:] == [
            "error",
            "context.done",
        ]
        assert heard[-2]["code"] == "no_speech"


async def test_a_context_ends_whatever_is_wrong_with_its_last_words():
    async with running_server(clause_pause_s=PATIENT) as server, TalkTo(server) as talk:
        await talk.tell("session.update", ssml=True)
        assert (await talk.hear())["type"] == "session.updated"
        heard = await talk.speak("c", "<speak>Two one. Six. Nine")
        assert [body["code"] for body in heard if body["type"] == "error"] == ["invalid_ssml"]
        said = [body["text"] for body in heard if body["type"] == "audio.segment"]
        assert said == ["Two one.", "Six."]  # they were complete
        heard = await talk.speak("d", "<speak>Nine</speak>")
        assert ears.hear_digits(from_s16(audio_of(heard, "d"))) == ["nine"]


async def test_a_binary_message_closes_the_connection():
    async with running_server() as server, TalkTo(server) as talk:
        await talk.socket.send(b"audio")
        assert (await talk.hear())["code"] == "binary_not_expected"
        with pytest.raises(ConnectionClosed) as closed:
            await talk.socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


async def test_text_over_the_message_limit_and_audio_over_its_own():
    async with running_server(max_audio_message_bytes=400_000) as server:
        async with TalkTo(server) as talk:
            await talk.tell("input_text.append", "c", text="x", voice="v" * 310_000)
            assert (await talk.hear())["code"] == "message_too_big"
            await talk.tell("context.append_audio", "c", text="x", audio="A" * 500_000)
            with pytest.raises(ConnectionClosed) as closed:
                await talk.socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009


async def test_a_session_while_the_model_loads():
    engine = GatedEngine()
    async with running_server(engine) as server, TalkTo(server) as talk:
        assert await talk.hear() == {"type": "session.loading"}
        await talk.tell("input_text.append", "c", text="one two three.")
        await talk.tell("input_text.end", "c")
        engine.gate.set_result(None)
        heard = await talk.hear_until("context.done")
        assert ears.hear_digits(from_s16(audio_of(heard, "c"))) == ["one", "two", "three"]


async def test_a_model_that_does_not_load():
    engine = GatedEngine()
    async with running_server(engine) as server, TalkTo(server) as talk:
        await talk.hear()
        await talk.tell("input_text.append", "c", text="Hello.")
        await talk.tell("input_text.end", "c")
        while not server.service.admission.queued:
            await asyncio.sleep(0)
        engine.gate.set_exception(OSError("the disk is gone"))
        heard = await talk.hear_until("context.done")
        assert "the disk is gone" in heard[-2]["message"]
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear_until("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


async def test_a_turn_that_began_is_finished_while_the_server_drains():
    engine = SteppedEngine()
    async with running_server(engine) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "begun", text="Good day to you. And ")
        engine.allow(1)
        await talk.hear()
        server.stop()
        while server.service.admission.refusal is None:
            await asyncio.sleep(0)
        await talk.tell("input_text.append", "new", text="Hello. There")
        error = (await talk.hear_until("error"))[-1]
        assert (error["code"], error["retryable"], error["context_id"]) == ("draining", True, "new")
        assert (await talk.hear())["type"] == "context.done"
        engine.allow()
        await talk.tell("input_text.append", "begun", text="good night.")
        await talk.tell("input_text.end", "begun")
        heard = await talk.hear_until("context.done")
        assert [b["text"] for b in heard if b["type"] == "audio.segment"][-1] == "And good night."
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


async def test_a_session_without_a_word_is_closed():
    async with running_server(idle_timeout_s=0.05) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "c", text="Half a")
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


async def test_a_full_server_refuses_a_context_and_keeps_the_session():
    engine = SteppedEngine()
    limits = {"max_streams": 1, "max_queued_requests": 0}
    async with running_server(engine, **limits) as server, TalkTo(server) as talk:
        await talk.tell("input_text.append", "first", text="Hello there. And")
        engine.allow(1)
        await talk.hear()
        heard = await talk.speak("second", "Me too.")
        error = heard[0]
        assert (error["code"], error["retryable"]) == ("over_capacity", True)
        assert error["retry_after_ms"] > 0
        engine.allow()
        await talk.tell("input_text.end", "first")
        assert (await talk.hear_until("context.done"))[-1]["context_id"] == "first"


async def test_a_whole_text_equals_the_seeds_stream():
    text = "Good day. This is the same voice. And the same audio."
    async with running_server() as server, TalkTo(server) as talk:
        heard = await talk.speak("c", text)
        utterance = Utterance(text, VOICES[0])
        encoder = PieceEncoder(Output("pcm", SAMPLE_RATE))
        pieces = [piece.data async for piece in server.service.speak(utterance, encoder, "test")]
    assert audio_of(heard, "c") == b"".join(pieces)
