"""Models that give their memory back between requests, and are loaded again for the next."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import shutil
import threading
import weakref
from typing import ClassVar

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from servers import ask, embedded_engine, open_socket, receive, running_server, send
from tts_provider.cli.doctor import _look_at_port
from tts_provider.config import Settings, load_settings
from tts_provider.engines.ensemble import Ensemble
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.unloading import ModelMetrics, UnloadingEngine
from tts_provider.errors import EngineFailed, StartupError
from tts_provider.selection import Choice, build_engine
from tts_provider.speech.engine import Manner, Utterance, Voice

from ..server.transport.test_auth import get
from .csm.small_csm import FOLDER, settings_of
from .kokoro.small_kokoro import write_folder

AT_ONCE_S = 0.001
NEVER_S = 1000.0


class Model(EspeakEngine):
    """Stands where CSM does. The test opens its gates, and may break it."""

    name = "model"
    open: ClassVar[list[Model]] = []
    problems: ClassVar[list[Exception]] = []

    def __init__(self) -> None:
        self.may_load, self.may_close = asyncio.Event(), asyncio.Event()
        self.may_load.set()
        self.may_close.set()
        self.is_loading = asyncio.Event()

    def voices(self):
        return [Voice("speaker-0", "Model", "male", "model", speaker=0)]

    async def load(self, on_progress):
        self.is_loading.set()
        await self.may_load.wait()
        if Model.problems:
            raise Model.problems.pop(0)
        await super().load(on_progress)
        Model.open.append(self)

    async def close(self):
        await self.may_close.wait()
        if self in Model.open:
            Model.open.remove(self)


class Garage:
    """An engine that unloads, and all models that were built for it."""

    def __init__(self, after_s: float = AT_ONCE_S) -> None:
        Model.open, Model.problems = [], []
        self.built = [Model()]
        self.next: list[Model] = []
        self.metrics = ModelMetrics()
        self.engine = UnloadingEngine(self.built[0], self.rebuild, after_s, self.metrics)

    def rebuild(self, report):
        report("building")
        self.built.append(self.next.pop(0) if self.next else Model())
        return self.built[-1]

    async def unload(self) -> None:
        """Now, whatever the time is."""
        self.engine._unload_soon()
        assert self.engine._changing is not None
        await asyncio.wait({self.engine._changing})

    def gated(self) -> Model:
        """The next one, which waits before it is loaded."""
        model = Model()
        model.may_load.clear()
        self.next.append(model)
        return model


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0)


async def say(engine, text: str = "hello", number: int = 0) -> np.ndarray:
    utterance = Utterance(text, engine.voices()[number], Manner(seed=1))
    return np.concatenate([sound.samples async for sound in engine.speak(utterance)])


def quiet(_line: str) -> None:
    pass


async def test_idleness_unloads_and_the_next_request_loads_once_for_all_that_come():
    garage = Garage()
    engine = garage.engine
    assert engine.residency == "loading"
    await engine.load(quiet)
    first = await say(engine)
    await until(lambda: engine.residency == "unloaded" and not Model.open)
    assert [voice.id for voice in engine.voices()] == ["speaker-0"]
    spoken = await asyncio.gather(*(say(engine) for _ in range(5)))
    assert all(np.array_equal(first, samples) for samples in spoken)
    assert len(garage.built) == 2
    await until(lambda: engine.residency == "unloaded" and not Model.open)
    await engine.close()


async def test_nothing_is_unloaded_while_somebody_speaks():
    garage = Garage()
    await garage.engine.load(quiet)
    sounds = garage.engine.speak(Utterance("one two three", garage.engine.voices()[0]))
    await anext(sounds)
    assert garage.engine._idle is None, "no time runs"
    await sounds.aclose()
    await until(lambda: garage.engine.residency == "unloaded")
    await garage.engine.close()


async def test_a_request_in_the_instant_of_unloading_waits_for_it_and_loads_again():
    garage = Garage()
    (model,) = garage.built
    await garage.engine.load(quiet)
    model.may_close.clear()
    await until(lambda: garage.engine.residency == "unloaded")
    speaking = asyncio.create_task(say(garage.engine))
    await asyncio.sleep(0)
    assert len(garage.built) == 1, "never two models in memory"
    model.may_close.set()
    assert len(await speaking)
    assert len(garage.built) == 2
    await garage.engine.close()
    assert not Model.open


async def test_who_leaves_while_it_loads_leaves_the_load_to_the_others():
    garage = Garage(NEVER_S)
    await garage.engine.load(quiet)
    await garage.unload()
    model = garage.gated()
    leaving, staying = (asyncio.create_task(say(garage.engine)) for _ in range(2))
    await until(model.is_loading.is_set)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.may_load.set()
    assert len(await staying)
    assert garage.engine.residency == "loaded"
    await garage.engine.close()


async def test_what_nobody_waits_for_any_more_is_unloaded_in_its_time():
    garage = Garage(NEVER_S)
    await garage.engine.load(quiet)
    await garage.unload()
    garage.engine._after_s = AT_ONCE_S
    model = garage.gated()
    leaving = asyncio.create_task(say(garage.engine))
    await until(model.is_loading.is_set)
    leaving.cancel()
    await asyncio.wait({leaving})
    model.may_load.set()
    await until(lambda: garage.engine.residency == "loaded")
    await until(lambda: garage.engine.residency == "unloaded" and not Model.open)
    await garage.engine.close()


@pytest.mark.parametrize(
    "problem", [StartupError("the file is gone"), OSError("the file is gone")], ids=["ours", "any"]
)
async def test_a_load_that_fails_is_told_to_all_who_wait_and_tried_again_by_the_next(
    problem, caplog
):
    garage = Garage(NEVER_S)
    await garage.engine.load(quiet)
    await garage.unload()
    Model.problems = [problem]
    model = garage.gated()
    waiting = [asyncio.create_task(say(garage.engine)) for _ in range(3)]
    await until(model.is_loading.is_set)
    model.may_load.set()
    for task in waiting:
        with pytest.raises(EngineFailed) as caught:
            await task
        assert str(caught.value) == "the model could not be loaded again: the file is gone"
    assert "could not be loaded again: the file is gone" in caplog.text
    assert garage.engine.residency == "unloaded"
    assert garage.engine.problem is None
    assert len(await say(garage.engine))
    await garage.engine.close()


@pytest.mark.parametrize("when", ["unloaded", "unloading", "loading", "never loaded"])
async def test_closing_ends_whatever_it_is_doing(when):
    garage = Garage(NEVER_S)
    (model,) = garage.built
    if when == "never loaded":
        await garage.engine.close()
        return
    await garage.engine.load(quiet)
    waiting = None
    if when == "unloading":
        model.may_close.clear()
        garage.engine._unload_soon()
        asyncio.get_running_loop().call_soon(model.may_close.set)
    else:
        await garage.unload()
    if when == "loading":
        gated = garage.gated()
        waiting = asyncio.create_task(say(garage.engine))
        await until(gated.is_loading.is_set)
    await garage.engine.close()
    assert not Model.open
    with pytest.raises(EngineFailed, match="the server is stopping"):
        await say(garage.engine)
    if waiting is not None:
        with pytest.raises(EngineFailed, match="the server is stopping"):
            await waiting


# What clients hear


async def test_the_seeds_client_hears_loading_once_and_then_its_answer():
    garage = Garage(NEVER_S)
    async with running_server(garage.engine) as server, open_socket(server) as socket:
        for round_ in range(2):
            await garage.unload()
            model = garage.gated()
            await send(socket, text="One.")
            await send(socket, text="Two.")
            if round_ == 0:
                body = await receive(socket)
                assert body == {
                    "status": "loading",
                    "message": "TTS model is still loading, request will be processed when ready",
                }
            await until(model.is_loading.is_set)
            async with open_socket(server) as other:  # while it loads, at once
                assert (await receive(other))["status"] == "loading"
                await send(other, text="Three.")
                model.may_load.set()
                assert (await receive(other))["status"] == "success"
            for _ in range(2):
                assert (await receive(socket))["status"] == "success", "never a second loading"
                assert (await receive(socket))[:4] == b"RIFF"


async def test_a_client_that_asks_nothing_loads_nothing():
    garage = Garage(NEVER_S)
    async with running_server(garage.engine) as server:
        await garage.unload()
        async with open_socket(server) as socket:
            await socket.ping()
            info = await ask(socket, command="info")
            assert (info["status"], info["model_state"]) == ("success", "unloaded")
        assert json.loads((await get(server, "/health"))[2]) == {"status": "ok"}
        status, _, body = await get(server, "/ready")
        assert (status, json.loads(body)) == (200, {"status": "ready", "model": "unloaded"})
        assert 'tts_model_loaded{engine="model"} 0.0' in (await get(server, "/metrics"))[2].decode()
        there = Settings(_env_file=None, host="127.0.0.1", port=server.port)
        told = await asyncio.to_thread(_look_at_port, there)
        assert told.endswith(", whose model is unloaded and loads on the next request")
        assert len(garage.built) == 1


async def test_a_session_hears_loading_whenever_it_waits():
    garage = Garage(NEVER_S)
    async with running_server(garage.engine) as server:
        async with open_socket(server, path="v1/stream") as socket:
            assert (await receive(socket))["type"] == "session.created"
            for context in "ab":
                await garage.unload()
                append = {"type": "input_text.append", "context_id": context, "text": "Hello."}
                await send(socket, **append)
                await send(socket, type="input_text.end", context_id=context)
                told = [await receive(socket)]
                while told[-1]["type"] != "context.done":
                    told.append(await receive(socket))
                assert told[0]["type"] == "session.loading"
                assert [event["type"] for event in told].count("session.loading") == 1
                assert told[-1]["audio_ms"] > 0


async def test_over_http_the_answer_waits():
    garage = Garage(NEVER_S)
    async with running_server(garage.engine) as server:
        await garage.unload()
        model = garage.gated()
        body = {"input": "Hello.", "voice": "speaker-0", "response_format": "wav"}
        asking = asyncio.create_task(post(server, body))
        await until(model.is_loading.is_set)
        assert (await get(server, "/ready"))[0] == 200
        model.may_load.set()
        status, audio = await asking
        assert (status, audio[:4]) == (200, b"RIFF")


async def post(server, body) -> tuple[int, bytes]:
    import httpx2

    async with httpx2.AsyncClient() as client:
        url = f"http://127.0.0.1:{server.port}/v1/audio/speech"
        response = await client.post(url, json=body, timeout=60)
    return response.status_code, response.content


async def test_the_embedded_voices_beside_it_speak_meanwhile():
    garage = Garage(NEVER_S)
    async with running_server(Ensemble([garage.engine, embedded_engine()])) as server:
        await garage.unload()
        model = garage.gated()
        async with open_socket(server) as socket, open_socket(server) as other:
            await send(other, text="four", voice="female")
            assert (await receive(other))["status"] == "success", "it need not be loaded for this"
            assert garage.engine.residency == "unloaded"
            await send(socket, text="Later.")
            assert (await receive(socket))["status"] == "loading"
            await until(model.is_loading.is_set)
            assert isinstance(await receive(other), bytes)
            await send(other, text="five", voice="female")
            assert (await receive(other))["status"] == "success"
            model.may_load.set()
            assert (await receive(socket))["status"] == "success"


async def test_a_drain_while_it_loads_finishes_what_was_taken():
    garage = Garage(NEVER_S)
    async with running_server(garage.engine) as server, open_socket(server) as socket:
        await garage.unload()
        model = garage.gated()
        await send(socket, text="Last words.")
        assert (await receive(socket))["status"] == "loading"
        await until(model.is_loading.is_set)
        server.stop()
        await until(lambda: server.service.admission.refusal is not None)
        model.may_load.set()
        assert (await receive(socket))["status"] == "success"
        assert (await receive(socket))[:4] == b"RIFF"
        with pytest.raises(ConnectionClosed):
            await receive(socket)
        assert socket.close_code == 1012
    assert not Model.open


async def test_a_server_stops_although_its_model_loads_for_ever():
    garage = Garage(NEVER_S)
    async with running_server(garage.engine, drain_timeout_s=0) as server:
        await garage.unload()
        model = garage.gated()
        async with open_socket(server) as socket:
            await send(socket, text="Hello.")
            await until(model.is_loading.is_set)
    assert not Model.open  # `running_server` waited for its end


# Real models


def of_kokoro(tmp_path) -> Settings:
    return Settings(
        _env_file=None,
        engine="kokoro",
        kokoro_path=write_folder(tmp_path / "kokoro"),
        data_dir=tmp_path / "data",
    )


@pytest.mark.parametrize("name", ["csm", "kokoro"])
async def test_a_model_leaves_no_memory_and_no_thread_behind(name, tmp_path):
    settings = settings_of("int4", tmp_path) if name == "csm" else of_kokoro(tmp_path)
    settings = settings.model_copy(update={"unload_after_s": NEVER_S})
    engine = build_engine(Choice(name, "the test"), settings)
    await engine.load(quiet)
    before = await say(engine)
    part = engine.of(engine.voices()[0])
    unloading = part if isinstance(part, UnloadingEngine) else part._engine
    assert isinstance(unloading, UnloadingEngine)
    model = unloading._engine
    kept = model._backend if name == "csm" else model._network
    gone = weakref.ref(kept)
    parts = [weakref.ref(kept._language), weakref.ref(kept._decoder)] if name == "csm" else []
    del model, kept
    assert running(name)
    gc.disable()  # it must not take a search through all that Python has
    try:
        unloading._unload_soon()
        await asyncio.wait({unloading._changing})
        assert [each() for each in (gone, *parts)] == [None] * (1 + len(parts))
    finally:
        gc.enable()
    assert not running(name)
    assert engine.voices()[0].speaker == 0
    if name == "kokoro":
        assert engine.mixture("af_heart+af_sky").id == "af_heart+af_sky"
    assert np.array_equal(await say(engine), before)
    await engine.close()


def running(name: str) -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.split("-")[0].split("_")[0] == name]


async def test_a_model_whose_files_are_gone_is_a_sentence_until_they_are_back(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    settings = settings_of("int4", tmp_path / "data")
    settings = settings.model_copy(update={"unload_after_s": NEVER_S, "model_path": folder})
    engine = build_engine(Choice("csm", "the test"), settings)
    unloading = engine.of(engine.voices()[0])._engine
    async with running_server(engine) as server, open_socket(server) as socket:
        unloading._unload_soon()
        await asyncio.wait({unloading._changing})
        folder.rename(tmp_path / "elsewhere")
        await send(socket, text="hello")
        assert (await receive(socket))["status"] == "loading"
        error = await receive(socket)
        assert (error["status"], error["code"]) == ("error", "engine_failed")
        assert error["message"].startswith("the model could not be loaded again: ")
        assert str(folder) in error["message"]
        assert (await get(server, "/ready"))[0] == 200
        assert (await get(server, "/health"))[0] == 200
        metrics = (await get(server, "/metrics"))[2].decode()
        assert 'tts_model_load_failures_total{engine="csm"} 1.0' in metrics
        (tmp_path / "elsewhere").rename(folder)
        await send(socket, text="hello")
        assert (await receive(socket))["status"] == "success"
        assert (await receive(socket))[:4] == b"RIFF"
    assert "csm was not used for 1000 s and is unloaded until the next request" in caplog.text
    assert "csm is loaded again after" in caplog.text


def test_it_is_a_flag_and_a_setting(tmp_path, monkeypatch):
    assert load_settings({}).unload_after_s is None
    assert load_settings({"unload_after_s": "300"}).unload_after_s == 300
    monkeypatch.setenv("TTS_PROVIDER_UNLOAD_AFTER_S", "0.5")
    assert load_settings({}).unload_after_s == 0.5
    for wrong in ("0", "-1", "inf", "nan", "soon"):
        with pytest.raises(StartupError, match=r"--unload-after is '"):
            load_settings({"unload_after_s": wrong})


def test_what_is_embedded_or_elsewhere_stays(tmp_path):
    settings = Settings(_env_file=None, unload_after_s=1, data_dir=tmp_path)
    engine = build_engine(Choice("hibari", "the test"), settings)
    assert not any(isinstance(engine.of(voice), UnloadingEngine) for voice in engine.voices())
