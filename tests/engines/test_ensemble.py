"""Several engines in one server: one list of voices, and who speaks while another loads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import numpy as np
import pytest

import ears
from servers import REPOSITORY, ask, embedded_engine, open_socket, receive, running_server, send
from tts_provider import selection
from tts_provider.config import Settings, load_settings
from tts_provider.engines.ensemble import Ensemble
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import InvalidRequest
from tts_provider.selection import build_engine, choose_engine
from tts_provider.speech.engine import Engine, Utterance, Voice
from tts_provider.speech.reading import AS_WRITTEN


class SlowEngine(EspeakEngine):
    """Stands where CSM does: voices of its own, and it loads when the test opens the gate."""

    name = "slow"
    takes_prompts = True

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    def voices(self):
        return [Voice("speaker-0", "Slow", "male", "slow", speaker=0)]

    async def load(self, on_progress):
        await self.gate.wait()

    def speak(self, utterance):
        return super().speak(utterance)


@pytest.fixture
def embedded() -> Engine:
    return embedded_engine()


async def test_auto_without_csm_is_hibari_with_espeaks_languages(embedded):
    voices = {voice.id: voice for voice in embedded.voices()}
    assert (embedded.name, list(voices)[:2]) == ("hibari", ["male", "female"])
    assert [voices[voice].source for voice in ("male", "female", "espeak:de")] == (
        ["hibari", "hibari", "espeak"]
    )
    assert (voices["espeak:de"].language, voices["espeak:de"].speaker) == ("de", None)
    async with running_server(embedded) as server, open_socket(server) as socket:
        info = await ask(socket, command="info")
        assert len(info["voices"]) == len(voices)
        assert info["current_model"]["speakers"].keys() == {"0", "1"}
        for voice in ("female", "espeak:en-gb"):
            await send(socket, text="one two three", voice=voice)
            assert (await receive(socket))["status"] == "success"
            samples, rate = ears.read_wav(await receive(socket))
            assert ears.hear_digits(samples, rate) == ["one", "two", "three"]


async def test_numbers_are_read_in_the_voices_language(embedded):
    """English words in a German sentence would be wrong: espeak reads its own numbers."""
    async with running_server(embedded) as server:
        service = server.service
        german, english = (service.find_voice(name, None) for name in ("espeak:de", "female"))
        assert service.new_reader(english, AS_WRITTEN).push("5 Euro. And")[0].spoken == "five Euro."
        assert service.new_reader(german, AS_WRITTEN).push("5 Euro. And")[0].spoken == "5 Euro."


async def test_an_unknown_voice_is_told_in_a_short_sentence(embedded):
    async with running_server(embedded) as server:
        with pytest.raises(InvalidRequest) as caught:
            server.service.find_voice("espeak:xx", None)
    assert len(caught.value.message) < 250
    assert "/v1/audio/voices" in caught.value.message


async def test_embedded_voices_speak_while_the_model_loads_where_that_is_asked_for(embedded):
    slow = SlowEngine()
    engine = Ensemble([slow, embedded], speak_while_loading=True)
    async with running_server(engine, is_ready=False) as server, open_socket(server) as socket:
        assert (await receive(socket))["status"] == "loading"
        await send(socket, text="Later.", voice="speaker-0")
        async with open_socket(server) as other:
            assert (await receive(other))["status"] == "loading"
            await send(other, text="four five six", voice="female")
            assert (await receive(other))["status"] == "success"
            samples, rate = ears.read_wav(await receive(other))
            assert ears.hear_digits(samples, rate) == ["four", "five", "six"]
        assert not server.service.admission.is_open
        slow.gate.set()
        assert (await receive(socket))["status"] == "success"


async def test_by_default_everybody_waits_for_the_model(embedded):
    slow = SlowEngine()
    async with running_server(Ensemble([slow, embedded]), is_ready=False) as server:
        voice = server.service.find_voice("female", None)
        assert not server.service.is_ready_for(voice)
        slow.gate.set()
        while not server.service.is_ready_for(voice):
            await asyncio.sleep(0)


async def test_the_first_engine_has_the_speakers_and_the_enrolled_voices(embedded):
    engine = Ensemble([SlowEngine(), embedded])
    assert [voice.id for voice in engine.voices() if voice.speaker is not None] == ["speaker-0"]
    assert engine.takes_prompts
    enrolled = Voice("anna-1", "Anna", "female", "enrolled")
    assert engine.of(enrolled).name == "slow"
    female = next(voice for voice in engine.voices() if voice.id == "female")
    with pytest.raises(InvalidRequest, match="does not use what was said before"):
        await engine.of(female).listen("Hello.", 0, np.zeros(10, np.float32))


def test_without_hibari_auto_is_espeak_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(selection, "find_spec", lambda name: None if name == "hibari" else object())
    choice = choose_engine(load_settings({}))
    assert choice.engine == "espeak"
    assert "hibari-tts is not installed" in choice.reason
    assert "pip install hibari-tts" in (choice.warning or "")


async def test_without_espeak_the_voices_are_hibaris_two(monkeypatch):
    monkeypatch.setattr(
        selection, "find_spec", lambda name: None if name == "espeakng_loader" else object()
    )
    settings = Settings(_env_file=None)
    engine = build_engine(choose_engine(settings), settings)
    assert [voice.id for voice in engine.voices()] == ["male", "female"]
    await engine.load(lambda message: None)
    with pytest.raises(InvalidRequest, match=r"tts-provider\[espeak\]"):
        async for _ in engine.speak(Utterance("мир", engine.voices()[0])):
            pass
    await engine.close()


_BESIDE_CSM = """
import asyncio, sys, zlib
import numpy as np
from servers import embedded_engine
from tts_provider.onnx_threads import shared_options
from tts_provider.speech.engine import Utterance
if sys.argv[1] == "shared":
    shared_options(2)
async def speak():
    engine = embedded_engine()
    await engine.load(lambda message: None)
    voice = engine.voices()[0]
    chunks = [c.samples async for c in engine.speak(Utterance("The zorblax is ready.", voice))]
    print(zlib.crc32(np.concatenate(chunks).tobytes()))
asyncio.run(speak())
"""


def test_beside_csm_on_a_cpu_the_same_samples():
    """CSM's sessions share one pool of threads, and ONNX Runtime refuses others then."""
    folder = str(REPOSITORY / "tests")
    spoken = [
        subprocess.run(
            [sys.executable, "-c", _BESIDE_CSM, how],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": folder},
        ).stdout
        for how in ("alone", "shared")
    ]
    assert spoken[0] == spoken[1] != ""
