"""Voices that bring an adapter: copied whole, bounded, never through a link, checked when read. The
store does not look into the adapter: it holds two files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from recordings import TEXT, speech
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest
from tts_provider.voices.store import StoredVoice, VoiceStore

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(name="adapter")
def make_adapter(tmp_path) -> Path:
    folder = tmp_path / "lora_model"
    folder.mkdir()
    (folder / CONFIG).write_text("{}")
    (folder / WEIGHTS).write_bytes(bytes(range(256)) * 64)
    (folder / "README.md").write_text("not copied")
    return folder


@pytest.fixture(name="store")
def make_store(tmp_path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices", Limits())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_voice_of_an_adapter_alone(store, adapter, tmp_path):
    voice, warnings = store.add("Ann", None, True, None, adapter, speaker=3)
    assert warnings == []
    assert (voice.version, voice.transcript, voice.duration_ms) == (2, None, None)
    assert (voice.pitch_hz, voice.gender, voice.speaker) == (None, "unknown", 3)
    assert voice.adapter.size_bytes == 2 + 256 * 64
    assert (voice.voice().source, voice.voice().has_adapter) == ("enrolled", True)
    again = VoiceStore(tmp_path / "voices", Limits())
    assert again.list() == [voice]
    folder = again.open_adapter(voice.id)
    assert files(folder) == [CONFIG, WEIGHTS]
    assert (folder / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
    with pytest.raises(InvalidRequest, match="gone or damaged"):
        again.load_audio(voice.id)
    shutil.rmtree(adapter)  # it was copied
    assert again.open_adapter(voice.id) == folder
    assert again.remove(voice.id)
    assert files(tmp_path / "voices") == []


def test_a_voice_of_both(store, adapter):
    voice = store.add("Ann", TEXT, True, speech(), adapter).voice
    assert (voice.version, voice.transcript, voice.gender) == (2, TEXT, "male")
    assert len(store.load_audio(voice.id)) * 1000 // 24_000 == voice.duration_ms
    assert store.open_adapter(voice.id).is_dir()


def test_a_voice_without_one_is_as_it_was(store):
    voice = store.add("Ann", TEXT, True, speech()).voice
    assert (voice.version, voice.adapter, voice.voice().has_adapter) == (1, None, False)
    with pytest.raises(InvalidRequest, match="gone or damaged"):
        store.open_adapter(voice.id)


def test_facts_of_an_older_release_are_read(store, tmp_path):
    voice = store.add("Ann", TEXT, True, speech()).voice
    path = tmp_path / "voices" / voice.id / "voice.json"
    facts = json.loads(path.read_text("utf-8"))
    for name in ("adapter", "speaker"):
        del facts[name]
    path.write_text(json.dumps(facts), "utf-8")
    assert store.get(voice.id) == voice


def test_consent_and_a_name_are_asked_for(store, adapter, tmp_path):
    for consent, name, code in ((False, "Ann", "consent_required"), (True, "", "invalid_value")):
        with pytest.raises(InvalidRequest) as caught:
            store.add(name, None, consent, None, adapter)
        assert caught.value.code == code
    assert not (tmp_path / "voices").exists()


def test_its_size_is_bounded_and_nothing_is_left(adapter, tmp_path):
    size = sum((adapter / name).stat().st_size for name in (CONFIG, WEIGHTS))
    VoiceStore(tmp_path / "fits", Limits(max_adapter_bytes=size)).add(
        "Ann", None, True, None, adapter
    )
    with pytest.raises(InvalidRequest, match=f"has {size} bytes, the limit is {size - 1}") as full:
        VoiceStore(tmp_path / "full", Limits(max_adapter_bytes=size - 1)).add(
            "Ann", None, True, None, adapter
        )
    assert full.value.code == "adapter_too_large"
    assert list((tmp_path / "full").iterdir()) == []


def test_the_hubs_links_are_followed_when_it_is_added(store, adapter, tmp_path):
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for name in (CONFIG, WEIGHTS):
        (linked / name).symlink_to(adapter / name)
    voice = store.add("Ann", None, True, None, linked).voice
    folder = store.open_adapter(voice.id)
    assert not (folder / WEIGHTS).is_symlink()


def edit(entry: Path, **changes) -> None:
    facts = json.loads((entry / "voice.json").read_text("utf-8"))
    (entry / "voice.json").write_text(json.dumps({**facts, **changes}), "utf-8")


def link_out(path: Path) -> None:
    outside = path.parent.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


LEFT_OUT = {
    "no weights": lambda entry: (entry / "adapter" / WEIGHTS).unlink(),
    "no configuration": lambda entry: (entry / "adapter" / CONFIG).unlink(),
    "no folder": lambda entry: shutil.rmtree(entry / "adapter"),
    "a link to weights": lambda entry: link_out(entry / "adapter" / WEIGHTS),
    "a link to a folder": lambda entry: link_out(entry / "adapter"),
    "a newer version": lambda entry: edit(entry, version=3),
    "an older version": lambda entry: edit(entry, version=1),
    "no adapter in the facts": lambda entry: edit(entry, adapter=None),
    "no digest": lambda entry: edit(entry, adapter={"size_bytes": 5}),
    "a wrong digest": lambda entry: edit(entry, adapter={"sha256": "x" * 64, "size_bytes": 5}),
    "a length without a transcript": lambda entry: edit(entry, duration_ms=500),
    "a speaker below 0": lambda entry: edit(entry, speaker=-1),
    "a speaker that is no number": lambda entry: edit(entry, speaker="7"),
}


@pytest.mark.parametrize("damage", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_damaged_one_is_set_aside_and_the_rest_load(store, adapter, tmp_path, caplog, damage):
    whole, broken = (store.add(name, None, True, None, adapter).voice for name in ("Ann", "Bob"))
    damage(tmp_path / "voices" / broken.id)
    again = VoiceStore(tmp_path / "voices", Limits())
    assert again.list() == [whole]
    with pytest.raises(InvalidRequest, match="gone or damaged"):
        again.open_adapter(broken.id)
    assert f"voice {broken.id} is damaged and left out: " in caplog.text
    assert again.open_adapter(whole.id)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_other_bytes_are_seen_when_it_is_opened(store, adapter, tmp_path, name):
    voice = store.add("Ann", None, True, None, adapter).voice
    path = tmp_path / "voices" / voice.id / "adapter" / name
    data = path.read_bytes()
    for other in (data[:-1], data + b" ", b"[" + data[1:]):
        path.write_bytes(other)
        with pytest.raises(InvalidRequest, match="gone or damaged"):
            store.open_adapter(voice.id)
    path.write_bytes(data)
    assert store.open_adapter(voice.id)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(store, adapter, tmp_path):
    voice = store.add("Ann", None, True, None, adapter).voice
    path = tmp_path / "voices" / voice.id / "adapter" / WEIGHTS
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidRequest, match="gone or damaged"):
        store.open_adapter(voice.id)


def test_a_voice_is_something(adapter):
    facts = {
        "id": "a", "name": "A", "transcript": None, "consent": True, "duration_ms": None,
        "consented_at": "2026-01-01T00:00:00Z", "created": "2026-01-01T00:00:00Z",
        "pitch_hz": None, "gender": "unknown",
    }  # fmt: skip
    with pytest.raises(ValueError, match="neither a recording nor an adapter"):
        StoredVoice.model_validate_json(json.dumps(facts))
