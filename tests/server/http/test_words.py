"""When each word is spoken, at every endpoint: the words that were written, in order, and there in
the audio where they are said to be."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
from collections.abc import AsyncGenerator, Sequence

import httpx2
import numpy as np
import pytest

import decoders
import ears
from servers import (
    SteppedEngine,
    ask,
    embedded_engine,
    open_socket,
    receive,
    running_server,
    send,
)
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.speech.engine import Sound, Utterance, Word

TEXT = (
    "Dr. Smith paid **$5** for 3 of them, e.g. well-known ones.\n\n"
    "# Next\n\n1. It's 12.5% more — isn't it? `R&D` [too](https://example.com)."
)
WORDS = [
    *("Dr.", "Smith", "paid", "$5", "for", "3", "of", "them,", "e.g.", "well-known", "ones."),
    *("Next", "1,", "It's", "12.5%", "more", "isn't", "it?", "R&D", "too."),
]
DIGITS = "seven, three, nine, two, four, eight."
ENGINES = pytest.mark.parametrize(
    "new_engine", [embedded_engine, EspeakEngine], ids=["hibari", "espeak"]
)


def check(words: Sequence[dict], text: str, end_ms: int) -> None:
    """They are in order, on the timeline and in the text."""
    assert [word["start_ms"] for word in words] == sorted(word["start_ms"] for word in words)
    assert all(word["start_ms"] < word["end_ms"] for word in words)
    assert all(a["end_ms"] <= b["start_ms"] for a, b in itertools.pairwise(words))
    assert all(a["to"] <= b["from"] for a, b in itertools.pairwise(words))
    assert words[-1]["end_ms"] <= end_ms
    for word in words:
        written = text[word["from"] : word["to"]]
        assert written.startswith(word["text"].rstrip(".,")), (word, written)


def hear_each(samples: np.ndarray, rate: int, words: Sequence[dict]) -> list[str]:
    """The digits that are heard where the words are said to be, give or take 30 ms."""
    places = [
        (max(word["start_ms"] - 30, 0) * rate // 1000, (word["end_ms"] + 30) * rate // 1000)
        for word in words
    ]
    return [ears.hear_digit(samples[start:end], rate) for start, end in places]


async def until_done(socket) -> list[dict]:
    told = [await receive(socket)]
    while told[-1]["type"] != "context.done":
        told.append(await receive(socket))
    return told


class Session:
    """One context's text, spoken at `/v1/stream`."""

    def __init__(self) -> None:
        self.words: list[dict] = []
        self.audio = b""
        self.kinds: list[str] = []
        self.audio_ms = 0
        self.estimated: set[bool] = set()

    @classmethod
    async def speak(cls, server, pieces: Sequence[str], **settings) -> Session:
        self = cls()
        async with open_socket(server, path="v1/stream") as socket:
            assert (await receive(socket))["type"] == "session.created"
            await send(socket, type="session.update", **settings)
            assert (await receive(socket))["type"] == "session.updated"
            for piece in pieces:
                await send(socket, type="input_text.append", context_id="c", text=piece)
            await send(socket, type="input_text.end", context_id="c")
            while (body := await receive(socket))["type"] != "context.done":
                assert body["type"] != "error", body
                self._take(body)
            self.audio_ms = body["audio_ms"]
        return self

    def _take(self, body: dict) -> None:
        self.kinds.append(body["type"])
        if body["type"] == "audio.delta":
            self.audio += base64.b64decode(body["audio"])
            self.audio_ms = body["start_ms"] + body["duration_ms"]
        elif body["type"] == "audio.words":
            # Of audio that was sent.
            assert body["words"][-1]["end_ms"] <= self.audio_ms
            self.estimated.add(body["estimated"])
            self.words += body["words"]


@ENGINES
async def test_a_session_tells_each_written_word(new_engine):
    async with running_server(new_engine()) as server:
        heard = await Session.speak(server, [TEXT], words=True)
        assert [word["text"] for word in heard.words] == WORDS
        assert heard.estimated == {False}
        check(heard.words, TEXT, heard.audio_ms)
        # Of each segment before it, and behind its audio.
        order = [kind for kind in heard.kinds if kind != "audio.delta"]
        assert order == ["audio.words", "audio.segment"] * (len(order) // 2)
        in_pieces = await Session.speak(server, list(TEXT), words=True)
        assert in_pieces.words == heard.words


async def test_nothing_is_told_unasked():
    async with running_server() as server:
        heard = await Session.speak(server, [TEXT])
        assert set(heard.kinds) == {"audio.delta", "audio.segment"}


SETTINGS = (
    {},
    {"speed": 1.5},
    {"speed": 0.7, "voice": "female"},
    {"format": "mulaw", "sample_rate": 8000},
    {"sample_rate": 44_100, "speed": 1.2},
)


@ENGINES
async def test_each_word_is_heard_where_it_is_said_to_be(new_engine):
    problems = []
    async with running_server(new_engine()) as server:
        for settings in SETTINGS:
            heard = await Session.speak(server, [DIGITS], words=True, **settings)
            rate = settings.get("sample_rate", 24_000)
            samples, _, _ = decoders.decode(heard.audio, settings.get("format", "pcm"), rate)
            assert [word["text"] for word in heard.words] == DIGITS.split()
            digits = hear_each(samples, rate, heard.words)
            if digits != ears.plain_words(DIGITS):
                problems.append((settings, digits))
    assert problems == []


async def test_places_go_on_behind_a_flush_and_count_characters():
    """However the text is cut: here within a character too."""
    async with running_server() as server, open_socket(server, path="v1/stream") as socket:
        await receive(socket)
        await ask(socket, type="session.update", words=True)
        for text in ("One 😀 two", " three", "\ud83d", "\ude00 four."):
            await send(socket, type="input_text.append", context_id="c", text=text)
            if text == " three":
                await send(socket, type="input_text.flush", context_id="c")
        await send(socket, type="input_text.end", context_id="c")
        words = [word for body in await until_done(socket) for word in body.get("words", ())]
    text = "One 😀 two three😀 four."
    assert [text[word["from"] : word["to"]] for word in words] == ["One", "two", "three", "four."]


async def test_nothing_of_a_cancelled_context_is_told():
    engine = SteppedEngine()
    async with running_server(engine) as server, open_socket(server, path="v1/stream") as socket:
        await receive(socket)
        await ask(socket, type="session.update", words=True)
        await send(socket, type="input_text.append", context_id="a", text="One two three. Four.")
        engine.allow(2)
        assert (await receive(socket))["type"] == "audio.delta"
        await send(socket, type="context.cancel", context_id="a")
        while (body := await receive(socket))["type"] != "context.cancelled":
            assert body["type"] == "audio.delta"
        engine.allow()
        await send(socket, type="input_text.append", context_id="b", text="Five.")
        await send(socket, type="input_text.end", context_id="b")
        told = await until_done(socket)
        assert {body["context_id"] for body in told} == {"b"}
        assert [word["text"] for body in told for word in body.get("words", ())] == ["Five."]


class Aligned(EspeakEngine):
    """Its words' times are found when a segment was spoken, and only where they are wanted."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        self.asked.append(utterance.manner.word_times)
        words: list[Word] = []
        async with contextlib.aclosing(super().speak(utterance)) as chunks:
            async for chunk in chunks:
                words += (dataclasses.replace(word, is_estimated=True) for word in chunk.words)
                yield dataclasses.replace(chunk, words=())
        if utterance.manner.word_times:
            yield Sound(np.zeros(0, np.float32), tuple(words))


async def test_times_that_were_found_afterwards_say_so():
    engine = Aligned()
    async with running_server(engine) as server:
        session = await Session.speak(server, ["One two. Three."], words=True)
        assert [word["text"] for word in session.words] == ["One", "two.", "Three."]
        assert session.estimated == {True}
        body, _ = await reply(server, text="One two. Three.", timestamps=True)
        assert body["estimated"] is True
        assert body["words"] == session.words
        body, _ = await reply(server, text="One two. Three.", timestamps=True, **CUT)
        assert [word["text"] for word in body["words"]] == ["One", "two."]
        (event,) = [e for e in await events(server, "One.") if e["type"] == "speech.audio.words"]
        assert event["estimated"] is True
        engine.asked.clear()
        await Session.speak(server, ["One."])
        await reply(server, text="One.")
        await events(server, "One.", timestamp_granularities=[])
        assert set(engine.asked) == {False}


CUT = {"max_audio_length_ms": 500}


async def reply(server, **request) -> tuple[dict, bytes]:
    async with open_socket(server) as socket:
        return await ask(socket, **request), await receive(socket)


async def events(server, text: str, **options) -> list[dict]:
    """What OpenAI's endpoint sends, with words unless `options` say otherwise."""
    body = {"input": text, "response_format": "pcm", "stream_format": "sse"}
    body |= {"timestamp_granularities": ["word"], **options}
    answer = await post(server, "/v1/audio/speech", **body)
    told = answer.text.removesuffix("\n\n").split("\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in told]


async def post(server, path: str, **body) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        return await client.post(path, json=body)


@ENGINES
async def test_the_seeds_exchange_tells_them_with_the_reply(new_engine):
    async with running_server(new_engine()) as server:
        body, wav = await reply(server, text=TEXT, timestamps=True)
        assert [word["text"] for word in body["words"]] == WORDS
        check(body["words"], TEXT, len(ears.read_wav(wav)[0]) // 24)
        plain, same = await reply(server, text=TEXT)
        assert same == wav
        assert set(body) - set(plain) == {"words", "estimated"}


async def test_a_stream_tells_them_behind_their_audio():
    async with running_server() as server:
        whole, _ = await reply(server, text=TEXT, timestamps=True)
        async with open_socket(server) as socket:
            wanted = {"stream": True, "timestamps": True, "request_id": "a", "format": "mulaw"}
            await send(socket, text=TEXT, **wanted)
            words, heard_bytes = [], 0
            while isinstance(body := await receive(socket), bytes) or "duration_ms" not in body:
                if isinstance(body, bytes):
                    heard_bytes += len(body)
                elif body["status"] == "words":
                    assert body["request_id"] == "a"
                    words += body["words"]
                    assert words[-1]["end_ms"] <= heard_bytes // 24
        assert words == whole["words"]
        assert "words" not in body


async def test_audio_that_is_cut_has_the_words_that_begin_before_the_cut():
    async with running_server() as server:
        whole, _ = await reply(server, text="One two three. Four.", timestamps=True)
        cut, wav = await reply(server, text="One two three. Four.", timestamps=True, **CUT)
        assert len(ears.read_wav(wav)[0]) == 12_000
        before = [word for word in whole["words"] if word["start_ms"] < 500]
        assert 0 < len(before) < 4
        assert cut["words"] == [*before[:-1], {**before[-1], "end_ms": 500}]


async def test_openais_events_tell_them_as_its_transcriptions_do():
    async with running_server() as server:
        told = await events(server, TEXT)
        whole, wav = await reply(server, text=TEXT, timestamps=True)
        words = [word for event in told for word in event.get("words", ())]
        assert words == [
            {
                "word": word["text"],
                "start": word["start_ms"] / 1000,
                "end": word["end_ms"] / 1000,
                "from": word["from"],
                "to": word["to"],
            }
            for word in whole["words"]
        ]
        audio = b"".join(base64.b64decode(event.get("audio", "")) for event in told)
        assert decoders.wav_data(wav) == audio
        assert told[-1]["type"] == "speech.audio.done"


@pytest.mark.parametrize(
    "options",
    [
        {"stream_format": "audio"},
        {"stream_format": None},
        {"timestamp_granularities": ["segment"]},
        {"timestamp_granularities": "word"},
    ],
    ids=str,
)
async def test_openais_granularities_that_are_not_here_are_refused(options):
    async with running_server() as server:
        body = {"input": "One.", "stream_format": "sse", "timestamp_granularities": ["word"]}
        answer = await post(server, "/v1/audio/speech", **{**body, **options})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "timestamp_granularities")


async def test_cartesias_socket_tells_them_where_they_are_asked_for():
    async with running_server() as server, open_socket(server, path="tts/websocket") as socket:
        output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
        for wanted in (True, False):
            request = {"context_id": str(wanted), "transcript": TEXT, "output_format": output}
            await send(socket, **request, add_timestamps=wanted)
            told = [await receive(socket)]
            while not told[-1]["done"]:
                told.append(await receive(socket))
            tables = [body["word_timestamps"] for body in told if body["type"] == "timestamps"]
            assert [word for t in tables for word in t["words"]] == (WORDS if wanted else [])
            for table in tables:
                assert len(table["words"]) == len(table["start"]) == len(table["end"])
            starts = [start for table in tables for start in table["start"]]
            assert starts == sorted(starts)


@pytest.mark.parametrize("asked", ["", "&sync_alignment=true", "&sync_alignment=false"])
async def test_elevenlabs_sockets_tell_them_by_character(asked):
    path = f"v1/text-to-speech/male/stream-input?output_format=pcm_24000{asked}"
    async with running_server() as server, open_socket(server, path=path) as socket:
        for text in (*TEXT.partition(" "), ""):
            if text != " ":
                await send(socket, text=text + " " if text else "")
        told = [await receive(socket)]
        while not told[-1]["isFinal"]:
            told.append(await receive(socket))
    characters = [char for body in told for char in (body["alignment"] or {"chars": []})["chars"]]
    assert "".join(characters).split() == ([] if asked.endswith("false") else WORDS)


async def test_elevenlabs_http_tells_them_by_character():
    async with running_server() as server:
        path = "/v1/text-to-speech/male{}/with-timestamps?output_format=pcm_24000"
        whole = (await post(server, path.format(""), text=TEXT)).json()
        stream = await post(server, path.format("/stream"), text=TEXT)
        lines = [json.loads(line) for line in stream.text.splitlines()]
    alignments = [line["alignment"] for line in lines if line["alignment"]]
    assert len(alignments) > 1
    for name in whole["alignment"]:
        assert [value for one in alignments for value in one[name]] == whole["alignment"][name]
    assert "".join(whole["alignment"]["characters"]) == " ".join(WORDS)
    starts = whole["alignment"]["character_start_times_seconds"]
    assert starts == sorted(starts)
    audio = b"".join(base64.b64decode(line["audio_base64"]) for line in lines)
    assert audio == base64.b64decode(whole["audio_base64"])
    assert whole["alignment"]["character_end_times_seconds"][-1] <= len(audio) / 48_000
