"""The table of engines: what `auto` comes to, and what is said of the others."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from servers import run_cli
from tts_provider import selection
from tts_provider.config import load_settings
from tts_provider.engines.espeak.engine import VOICES as ROBOTS
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.errors import StartupError
from tts_provider.selection import ENGINES, Entry, build_engine, choose_engine, engine_names
from tts_provider.speech.engine import Manner, Utterance, Voice


def entry(name: str, found: str | None) -> Entry:
    return Entry(
        name,
        about=f"the engine {name}",
        missing=f"{name} is not here",
        find=lambda settings: found,
        build=lambda settings, on_progress: pytest.fail("nothing is built to choose"),
        advice=f"take a better one than {name}",
    )


def test_auto_takes_the_first_that_can_be_had_and_says_what_the_others_lack(monkeypatch):
    table = (entry("best", None), entry("good", "its files are here"), entry("last", "always"))
    monkeypatch.setattr(selection, "ENGINES", table)
    choice = choose_engine(load_settings({}))
    assert choice.engine == "good"
    assert choice.reason == "best is not here; its files are here"
    assert choice.warning == "take a better one than good"


def test_an_engine_that_is_asked_for_is_taken_without_advice(monkeypatch):
    monkeypatch.setattr(selection, "ENGINES", (entry("best", "here"), entry("last", None)))
    choice = choose_engine(load_settings({"engine": "last"}))
    assert (choice.engine, choice.warning) == ("last", None)
    assert choice.reason == "--engine last asks for it"


def test_without_any_engine_the_error_names_what_each_lacks(monkeypatch):
    monkeypatch.setattr(selection, "ENGINES", (entry("one", None), entry("two", None)))
    with pytest.raises(StartupError, match="one is not here; two is not here"):
        choose_engine(load_settings({}))


def test_an_unknown_engine_is_one_sentence_with_the_names_there_are():
    with pytest.raises(StartupError) as caught:
        choose_engine(load_settings({"engine": "festival"}))
    message = str(caught.value)
    assert "'festival'" in message
    assert "TTS_PROVIDER_ENGINE" in message
    assert ", ".join(engine_names()) in message


def test_help_and_doctor_name_every_engine(tmp_path):
    shown = run_cli(tmp_path, "serve", "--help").stdout
    report = run_cli(tmp_path, "doctor").stdout
    assert "|".join(engine_names()) in shown
    for each in ENGINES:
        assert each.about in " ".join(shown.split())
        assert f"  {each.name} " in report


class Wordless(EspeakEngine):
    """Says no words' times, and is asked for them."""

    def voices(self):
        return [Voice("speaker-0", "Wordless", "male", "wordless", speaker=0)]

    async def speak(self, utterance):
        async with aclosing(super().speak(replace(utterance, voice=ROBOTS[0]))) as chunks:
            async for chunk in chunks:
                yield replace(chunk, words=())


async def test_the_embedded_engines_tell_when_words_are_spoken(monkeypatch):
    first = replace(
        entry("first", "here"), build=lambda settings, report: Wordless(), says_words=False
    )
    embedded = [entry for entry in ENGINES if entry.is_embedded]
    monkeypatch.setattr(selection, "ENGINES", (first, *embedded))
    settings = load_settings({})
    engine = build_engine(choose_engine(settings), settings)
    await engine.load(lambda line: None)
    utterance = Utterance("Yes, it is.", engine.voices()[0], Manner(word_times=True))
    words = [word async for chunk in engine.speak(utterance) for word in chunk.words]
    assert [(word.text_start, word.text_end) for word in words] == [(0, 3), (5, 7), (8, 10)]
    assert all(word.is_estimated for word in words)
    await engine.close()


def test_a_gateway_has_no_voices_but_those_of_its_replicas():
    settings = load_settings({"engine_urls": ["http://127.0.0.1:1"]})
    choice = choose_engine(settings)
    assert choice.engine == "remote"
    assert build_engine(choice, settings).voices() == ()


def test_a_cache_that_may_not_be_read_is_told_and_not_used(monkeypatch, caplog):
    """Root may read all of them, so the system's refusal is played here."""
    glob = Path.glob

    def refused(self: Path, pattern: str) -> object:
        if self.name == "snapshots":
            raise PermissionError(13, "Permission denied", str(self))
        return glob(self, pattern)

    monkeypatch.setattr(Path, "glob", refused)
    assert choose_engine(load_settings({})).engine == "hibari"
    assert "cannot read" in caplog.text
    assert "set HF_HOME" in caplog.text
