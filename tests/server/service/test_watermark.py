"""Every way out of the server: what leaves by it is marked, whoever asks and in whatever format."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx2
import numpy as np
import pytest
import soxr
from fastapi import FastAPI
from wyoming.audio import AudioChunk as WyomingChunk
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize

import decoders
from recordings import speech
from servers import ask, collect_stream, open_socket, receive, running_server, send
from tts_provider.audio.encode.encode import FORMATS
from tts_provider.audio.pcm import from_s16
from tts_provider.audio.watermark.detect import detect
from tts_provider.audio.watermark.mark import LEAD
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import StartupError
from tts_provider.server.dialects import SOCKETS
from tts_provider.server.lifecycle import Server
from tts_provider.server.service.watermark import Watermark, decoder
from tts_provider.speech.engine import Sound, Utterance, Voice
from tts_provider.speech.pipeline import Segment, speak_passages
from tts_provider.speech.reading import Passage
from tts_provider.voices.store import ENROLLED

from ..dialects.tongues import TONGUES, Talk, audio_of

NOT_MARKED = pytest.mark.slow(
    "4 s: that no route marks against the setting, which the sockets' own test finds in each run"
)
RATE = 24_000
VOICE = Voice("male", "Male", "male", "espeak")
UTTERANCE = Utterance("", VOICE)
TEXT = "The north wind and the sun were disputing which was stronger."

# Routes that give no speech.
SILENT = {
    *("/", "/{path:path}", "/health", "/ready", "/metrics", "/openapi.json", "/web/{name}"),
    *("/v1/models", "/v1/models/{model:path}", "/v1/audio/models"),
    *("/v1/audio/detect", "/v1/audio/words", "/v1/audio/voices", "/v1/audio/voices/{voice_id}"),
    *("/v1/voices", "/v1/voices/{voice_id}", "/v2/voices", "/voices", "/voices/{voice_id}"),
    *("/v1/user", "/v1/user/subscription", "/v1/usage", "/v1/key"),
    *("/v1/audio/jobs", "/v1/audio/jobs/{job_id}", "/v1/audio/jobs/{job_id}/events"),
}
# What jobs made: `test_what_a_job_makes_is_marked`.
JOBS = {f"/v1/audio/jobs/{{job_id}}/{path}" for path in ("audio", "chapters/{number}/audio")}


class Post:
    """How a route is asked, and where in its answer the audio is."""

    def __init__(self, path: str, body: dict[str, Any], audio_format: str, find: str = "") -> None:
        self.path, self.body, self.audio_format, self.find = path, body, audio_format, find

    async def hear(self, server: Server) -> np.ndarray:
        async with httpx2.AsyncClient(timeout=60) as client:
            reply = await client.post(f"http://127.0.0.1:{server.port}{self.path}", json=self.body)
        assert reply.status_code == 200, reply.text
        data = reply.content
        if self.find:
            lines = (line.removeprefix("data: ") for line in reply.text.splitlines() if line)
            bodies = [json.loads(line) for line in lines if line.startswith("{")]
            data = b"".join(base64.b64decode(body.get(self.find) or "") for body in bodies)
        return at_24_khz(data, self.audio_format, RATE)


CARTESIA = {
    "model_id": "sonic-3",
    "transcript": TEXT,
    "voice": {"mode": "id", "id": "male"},
    "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE},
}
OPENAI = {"input": TEXT, "voice": "male"}
ELEVENLABS, PCM = "/v1/text-to-speech/{voice_id}", "?output_format=pcm_24000"
DIALOGUE = "/v1/text-to-dialogue"
WAYS = (
    *(("", ""), ("/stream", "")),
    *(("/with-timestamps", "audio_base64"), ("/stream/with-timestamps", "audio_base64")),
)
POSTS = {
    "/v1/audio/speech": [
        *(
            Post("/v1/audio/speech", {**OPENAI, "response_format": name}, name)
            for name in ("mp3", "opus", "aac", "flac", "wav", "pcm")
        ),
        Post(
            "/v1/audio/speech",
            {**OPENAI, "response_format": "pcm", "stream_format": "sse"},
            "pcm",
            "audio",
        ),
    ],
    "/v1/audio/dialogue": [
        Post(
            "/v1/audio/dialogue",
            {"turns": [{"text": TEXT}, {"text": TEXT, "speaker": 1}], "response_format": "pcm"},
            "pcm",
        )
    ],
    **{
        DIALOGUE + end: [
            Post(
                DIALOGUE + end + PCM, {"inputs": [{"text": TEXT, "voice_id": "male"}]}, "pcm", find
            )
        ]
        for end, find in WAYS
    },
    "/tts/bytes": [Post("/tts/bytes", CARTESIA, "pcm")],
    "/tts/sse": [Post("/tts/sse", CARTESIA, "pcm", "data")],
    "/v1/speak": [
        Post("/v1/speak?model=male&encoding=linear16&container=none", {"text": TEXT}, "pcm")
    ],
    **{
        ELEVENLABS + end: [
            Post(ELEVENLABS.format(voice_id="male") + end + PCM, {"text": TEXT}, "pcm", find)
        ]
        for end, find in WAYS
    },
}


def at_24_khz(data: bytes, audio_format: str, rate: int) -> np.ndarray:
    samples, rate, _ = decoders.decode(data, audio_format, rate)
    return soxr.resample(samples, rate, RATE)


def is_marked(samples: np.ndarray) -> bool:
    return detect(decoder(), samples.astype(np.float32)).is_marked


def routes_of(server: Server) -> set[tuple[str, str]]:
    """HTTP routes and WebSockets of the running app, as kind and path."""
    app: Any = server.app
    while not isinstance(app, FastAPI):
        app = app._app if hasattr(app, "_app") else app.app
    return {(type(route).__name__, route.path) for route in _flat(app.routes)}


def _flat(routes: Any) -> Any:
    """Those of included routers too."""
    for route in routes:
        if hasattr(route, "path"):
            yield route
        else:
            yield from (context.original_route for context in route.effective_route_contexts())


async def test_no_route_is_left_out():
    """A new one must be asked here, or said to be silent."""
    async with running_server() as server:
        routes = routes_of(server)
    sockets = {path for kind, path in routes if "WebSocket" in kind}
    others = {path for kind, path in routes if "WebSocket" not in kind}
    assert sockets == {"/", "/{path:path}", *SOCKETS}
    assert {tongue.route for tongue in TONGUES} == set(SOCKETS)
    assert others == SILENT - {"/{path:path}"} | set(POSTS) | JOBS


@pytest.mark.parametrize("watermark", ["on", pytest.param("off", marks=NOT_MARKED)])
async def test_every_http_route_is_marked(watermark):
    async with running_server(watermark=watermark) as server:
        for posts in POSTS.values():
            for post in posts:
                heard = await post.hear(server)
                assert is_marked(heard) == (watermark == "on"), (post.path, post.audio_format)


@pytest.mark.parametrize("watermark", ["on", "off"])
async def test_what_a_job_makes_is_marked(watermark, tmp_path):
    async with (
        running_server(watermark=watermark, data_dir=tmp_path) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
    ):
        order = {"input": TEXT, "response_format": "wav"}
        place = (await client.post("/v1/audio/jobs", json=order)).headers["location"]
        await client.get(f"{place}/events")  # until it is done
        made = await client.get(f"{place}/audio")
        assert is_marked(at_24_khz(made.content, "wav", RATE)) == (watermark == "on")


@pytest.mark.parametrize("watermark", ["on", "off"])
async def test_every_socket_is_marked(watermark):
    async with running_server(watermark=watermark) as server:
        for tongue in TONGUES:
            async with Talk(server, tongue) as talk:
                await talk.say("a", TEXT)
                await talk.flush("a")
                await talk.end("a")
                heard = from_s16(audio_of(await talk.hear_until("done")))
            assert is_marked(heard) == (watermark == "on"), tongue.route


@pytest.mark.parametrize("stream", [False, True])
async def test_the_seeds_socket_is_marked_in_every_format(stream):
    async with running_server(watermark="on") as server, open_socket(server) as socket:
        for name in FORMATS:
            request = {"text": TEXT, "format": name, "sample_rate": RATE, "stream": stream}
            reply = await ask(socket, **request)
            if reply.get("code") == "invalid_value":
                continue  # a format of another dialect
            data = b"".join((await collect_stream(socket))[0]) if stream else await receive(socket)
            wav = "wav" if name.startswith("wav") else name
            assert is_marked(at_24_khz(data, wav, RATE)), name


async def test_wyoming_is_marked():
    async with running_server(watermark="on", wyoming_port=0) as server:
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
            await client.write_event(Synthesize(text=TEXT).event())
            data = b""
            while (event := await client.read_event()) is not None:
                if WyomingChunk.is_type(event.type):
                    data += WyomingChunk.from_event(event).audio
                elif event.type == "audio-stop":
                    break
    assert is_marked(at_24_khz(data, "pcm", RATE))


async def whole(socket: Any, **request: Any) -> bytes:
    await send(socket, format="pcm", **request)
    await receive(socket)
    data = await receive(socket)
    assert isinstance(data, bytes)
    return data


async def test_a_mark_changes_no_length_and_nothing_of_the_first_third_of_a_second():
    heard = {}
    for watermark in ("on", "off"):
        async with running_server(watermark=watermark) as server, open_socket(server) as socket:
            heard[watermark] = await whole(socket, text=TEXT, seed=1)
            assert await whole(socket, text=TEXT, seed=1) == heard[watermark]
    assert len(heard["on"]) == len(heard["off"])
    assert heard["on"] != heard["off"]
    assert heard["on"][: 2 * LEAD] == heard["off"][: 2 * LEAD]


async def test_chunks_and_segments_keep_their_places():
    samples = speech()

    class Speaking(EspeakEngine):
        async def speak(self, utterance):
            for piece in np.split(samples, [1920, 5760, 65_760, 65_860]):
                yield Sound(piece)

    passage = Passage("what was said", "what was said")
    items = [
        i
        async for i in speak_passages(
            Speaking(), UTTERANCE, [passage], mark_of=Watermark("on").mark
        )
    ]
    chunks, (segment,) = items[:-1], items[-1:]
    assert segment == Segment("what was said", 0, len(samples))
    assert [chunk.start for chunk in chunks] == [0, *(chunk.end for chunk in chunks[:-1])]
    assert chunks[-1].end == len(samples)
    marked = np.concatenate([chunk.samples for chunk in chunks])
    assert is_marked(marked)
    assert not is_marked(samples)


async def test_who_stops_listening_ends_what_speaks():
    ended = asyncio.Event()

    class Speaking(EspeakEngine):
        async def speak(self, utterance):
            try:
                while True:
                    yield Sound(np.ones(1920, np.float32))
            finally:
                ended.set()

    items = speak_passages(Speaking(), UTTERANCE, [Passage("a", "a")], mark_of=Watermark("on").mark)
    await anext(items)
    await items.aclose()
    assert ended.is_set()


class LikePeople(EspeakEngine):
    """The embedded voice, said to be CSM-1B's."""

    def voices(self) -> list[Voice]:
        return [Voice(v.id, v.name, v.gender, "csm", v.speaker) for v in super().voices()[:2]]


@pytest.mark.parametrize(("engine", "expected"), [(LikePeople, True), (EspeakEngine, False)])
async def test_auto_marks_voices_that_sound_like_people(engine, expected, caplog):
    caplog.set_level("INFO")
    async with running_server(engine()) as server, open_socket(server) as socket:
        assert is_marked(from_s16(await whole(socket, text=TEXT))) == expected
    (line,) = [record for record in caplog.records if record.message == "request"]
    assert line.voice == "male"  # who was spoken with is in the log
    enrolled = Voice("anna-1", "Anna", "female", ENROLLED)
    assert server.service._watermark.marks(enrolled)


def test_without_the_package_on_does_not_start_and_auto_says_that_it_marks_nothing(
    monkeypatch, caplog
):
    from tts_provider.audio.watermark import weights
    from tts_provider.server.service import watermark

    def missing(name: str) -> None:
        raise weights.importlib.metadata.PackageNotFoundError(name)

    watermark._encoder.cache_clear()
    monkeypatch.setattr(weights.importlib.metadata, "distribution", missing)
    monkeypatch.setattr(weights.importlib.metadata, "version", missing)
    with pytest.raises(StartupError, match=r"is missing: pip install resemble-perth==1\.0\.1"):
        watermark.Watermark("on")
    auto = watermark.Watermark("auto", is_like_people=True)
    assert "speech has no watermark; to add one, run pip install resemble-perth" in caplog.text
    assert not auto.marks(Voice("a", "A", "male", "csm"))
